"""Gates: a version of an adapter is asked a suite before requests to the adapter's name reach it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from control.comparisons.gate import Gate, why_not
from control.comparisons.report import Asked, Told, report
from tests.control.api.conftest import Running, Start
from tests.control.api.test_adapters import ADAPTERS, both_live, has, post, targets
from tests.control.api.test_runs import RUNS, SUITES, says, state, suite
from tests.control.api.training import Worker, trained
from tests.fakes.upstream import Upstream
from tests.processes import eventually

V1, V2 = "support-bot@v1", "support-bot@v2"
GATE = {"suite": "questions", "thresholds": [{"scorer": "says yes", "at_least": 0.9}]}
RULE = {"steps": [0.1, 1.0], "min_requests": 20, "max_error_rate": 0.1, "max_latency_ratio": 2.0, "score": None}


@pytest.fixture
def gateway() -> Iterator[Upstream]:
    """In place of a gateway."""
    with Upstream() as running:
        running.on(V1, says("no"))
        running.on(V2, says("Answer: yes"))
        running.on("support-bot", says("no"))
        yield running


@pytest.fixture
def control(start_control: Start, gateway: Upstream) -> Running:
    """A control plane whose runs ask that gateway."""
    return start_control(gateway_url=gateway.url.removesuffix("/v1"))


@pytest.fixture
def worker(control: Running) -> Worker:
    """With an engine that has what it is told to."""
    return Worker(control)


@pytest.fixture
def engineer(control: Running, worker: Worker) -> httpx.Client:
    """Two versions are live; the first one has the name. A suite asks for a yes."""
    client = control.as_("engineer")
    both_live(control, client, worker)
    suite(client, 24)
    return client


def tried(client: httpx.Client, *states: str) -> dict[str, Any]:
    """The last try, once it is in one of these states."""
    wanted = states or ("passed", "failed", "stopped")
    eventually(lambda: client.get(f"{ADAPTERS}/support-bot").json()["gate_try"]["state"] in wanted, 20)
    found: dict[str, Any] = client.get(f"{ADAPTERS}/support-bot").json()["gate_try"]
    return found


def guarded(client: httpx.Client, gate: Any = GATE, status: int = 200) -> Any:
    """The adapter with a gate of its own."""
    version = client.get(f"{ADAPTERS}/support-bot").json()["row_version"]
    body = {"row_version": version, "description": "", "gate": gate}
    answer = client.patch(f"{ADAPTERS}/support-bot", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_version_that_passes_is_published_and_not_asked_again(
    control: Running, engineer: httpx.Client, gateway: Upstream
) -> None:
    assert guarded(engineer)["gate"]["thresholds"] == GATE["thresholds"]
    waiting = post(engineer, "support-bot/versions/2/promote", {"share": 0.1})["gate_try"]
    assert (waiting["state"], waiting["number"], waiting["share"]) == ("running", 2, 0.1)
    assert targets(control) == [(V1, 1000)], "nothing has changed yet"
    assert post(engineer, "support-bot/versions/2/promote", {"share": 0.1}, 409)["code"] == "gate_running"
    passed = tried(engineer)
    assert (passed["state"], passed["reason"], passed["run"]) == ("passed", "", waiting["run"])
    assert targets(control) == [(V2, 100), (V1, 900)]
    assert {seen.json["model"] for seen in gateway.requests} == {V2}
    assert engineer.get(f"{RUNS}/{passed['run']}").json()["version"] == passed["gate"]["version"] == 1
    post(engineer, "support-bot/versions/2/promote", {"share": 1.0})
    assert targets(control) == [(V2, 1000)], "it has passed before"
    assert len(gateway.requests) == 24
    noted = control.admin.get("/api/v1/audit", params={"resource_kind": "adapter", "per_page": 50}).json()["items"]
    gates = [(one["actor"], one["resource"]) for one in noted if one["action"] == "gate"]
    assert gates == [("gate", V2), ("engineer", V2)]


def test_a_version_that_fails_stays_where_it_is(control: Running, engineer: httpx.Client, gateway: Upstream) -> None:
    gateway.on(V2, says("no"))
    post(engineer, "support-bot/versions/2/promote", {"share": 1.0, "gate": GATE})
    failed = tried(engineer)
    assert (failed["state"], failed["reason"]) == ("failed", f"{V2}: says yes: 0.000, at least 0.9 is wanted")
    assert targets(control) == [(V1, 1000)]
    gateway.on(V2, says("yes"))
    again = post(engineer, "support-bot/versions/2/promote", {"share": 1.0, "gate": GATE})["gate_try"]
    assert again["run"] != failed["run"]
    assert tried(engineer, "passed")["run"] == again["run"]
    assert targets(control) == [(V2, 1000)]


@pytest.mark.parametrize("better", [True, False])
def test_it_must_not_be_worse_than_what_is_published(
    control: Running, engineer: httpx.Client, gateway: Upstream, better: bool
) -> None:
    gateway.on("support-bot", says("no" if better else "yes"))
    gateway.on(V2, says("yes" if better else "no"))
    guarded(engineer, {"suite": "questions", "not_worse_than": "support-bot"})
    post(engineer, "support-bot/versions/2/rollout", RULE)
    found = tried(engineer)
    assert found["state"] == ("passed" if better else "failed")
    assert found["reason"] == ("" if better else f"{V2}: says yes: worse than support-bot")
    rollout = engineer.get(f"{ADAPTERS}/support-bot").json()["rollout"]
    assert (rollout["rule"] if better else rollout) == (RULE if better else None)
    assert targets(control) == ([(V2, 100), (V1, 900)] if better else [(V1, 1000)])


def test_a_deployment_waits_for_the_gate_too(control: Running, engineer: httpx.Client, worker: Worker) -> None:
    post(engineer, "support-bot/versions/2/retire")
    control.sql("UPDATE deployment SET state = 'retired' WHERE state = 'draining'")
    post(engineer, "support-bot/versions/2/deploy", {"share": 0.5, "gate": GATE})
    has(worker, V1, V2)
    assert tried(engineer)["state"] == "passed"
    assert targets(control) == [(V2, 500), (V1, 500)]


def test_the_first_version_has_nothing_to_be_worse_than(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    own = {"suite": "questions", "not_worse_than": "other-bot"}
    guarded(engineer, own, 422)
    trained(control, engineer, worker, "third-bot")
    version = engineer.get(f"{ADAPTERS}/third-bot").json()["row_version"]
    body = {"row_version": version, "description": "", "gate": own | {"not_worse_than": "third-bot"}}
    assert engineer.patch(f"{ADAPTERS}/third-bot", json=body).status_code == 200
    post(engineer, "third-bot/versions/1/deploy", {"share": 1.0})
    has(worker, V1, V2, "third-bot@v1")
    assert targets(control, "third-bot") == [("third-bot@v1", 1000)]
    assert engineer.get(f"{ADAPTERS}/third-bot").json()["gate_try"] is None


def test_stopped_deleted_or_without_answers_nothing_is_published(
    control: Running, engineer: httpx.Client, gateway: Upstream
) -> None:
    gateway.on(V2, says("yes", 5.0))
    run = post(engineer, "support-bot/versions/2/promote", {"share": 1.0, "gate": GATE})["gate_try"]["run"]
    assert post(engineer, "support-bot/gate/stop")["gate_try"]["reason"] == "engineer has stopped it"
    post(engineer, "support-bot/gate/stop", status=404)
    assert state(engineer, run, "canceled")["wanted"] == "cancel"
    run = post(engineer, "support-bot/versions/2/promote", {"share": 1.0, "gate": GATE})["gate_try"]["run"]
    assert engineer.post(f"{RUNS}/{run}/cancel").is_success
    assert "its run is canceled" in tried(engineer, "failed")["reason"]
    run = post(engineer, "support-bot/versions/2/promote", {"share": 1.0, "gate": GATE})["gate_try"]["run"]
    control.sql("DELETE FROM comparison_run WHERE id = ?", run)
    assert tried(engineer, "failed")["reason"] == "its run was deleted"
    assert targets(control) == [(V1, 1000)]


def test_who_may_no_longer_publish_does_not(control: Running, engineer: httpx.Client, gateway: Upstream) -> None:
    gateway.on(V2, says("yes", 0.3))
    post(engineer, "support-bot/versions/2/promote", {"share": 1.0, "gate": GATE})
    control.sql("UPDATE user_account SET enabled = 0 WHERE username = 'engineer'")
    eventually(lambda: control.sql("SELECT state FROM adapter_gate") == [("passed",)], 20)
    assert "may not do it any more" in control.sql("SELECT reason FROM adapter_gate")[0][0]
    assert targets(control) == [(V1, 1000)]


def test_what_is_no_gate_is_refused(control: Running, engineer: httpx.Client) -> None:
    for gate in (
        {}, {"suite": "questions"}, {"suite": ""}, GATE | {"more": 1}, GATE | {"version": 2}, GATE | {"repeats": 0},
        {"suite": "questions", "thresholds": [{"scorer": "other", "at_least": 0.5}]},
        {"suite": "questions", "thresholds": [{"scorer": "says yes", "at_least": 1.5}]},
        {"suite": "questions", "not_worse_than": "nobody"}, GATE | {"suite": "nothing"}, [], "questions",
    ):  # fmt: skip
        answer = engineer.post(f"{ADAPTERS}/support-bot/versions/2/promote", json={"share": 1.0, "gate": gate})
        assert answer.status_code in (404, 422), (gate, answer.text)
    assert control.admin.post(SUITES, json={"name": "theirs"}).is_success
    guarded(engineer, GATE | {"suite": "theirs"}, 404)
    suite(engineer, 3, name="short")
    guarded(engineer, {"suite": "short", "not_worse_than": "support-bot"}, 422)
    assert targets(control) == [(V1, 1000)]
    assert guarded(engineer)["gate"] is not None
    assert guarded(engineer, None)["gate"] is None


def test_what_nobody_can_tell_does_not_pass() -> None:
    asked = Asked(
        candidates=[{"name": "new", "route": "new", "prompt": "p"}, {"name": "old", "route": "old", "prompt": "p"}],
        scorers=["right"], tags=dict.fromkeys(range(1, 31), ()), repeats=1,
    )  # fmt: skip
    scored = {"right": {"value": 1.0, "passed": True, "note": ""}}
    cells = [Told(case, candidate, True, scored) for case in range(1, 20) for candidate in (0, 1)]
    gate = Gate.model_validate({"suite": "s", "not_worse_than": "old"})
    assert why_not(gate, "new", asked.candidates, report(asked, cells)) == [
        "new: right: too few scored cases to tell it from old"
    ]
    more = [*cells, *(Told(20, candidate, True, scored) for candidate in (0, 1))]
    assert why_not(gate, "new", asked.candidates, report(asked, more)) == []
