"""Canaries by their scores: the same questions to both versions, until a test that may look at any time has decided."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx2 as httpx
import pytest

from control.comparisons import sequential
from control.comparisons.pairs import Judged
from control.comparisons.report import Told
from control.deployments import canary, rollout
from tests.control.api.conftest import Running, Start
from tests.control.api.test_adapters import ADAPTERS, post, targets
from tests.control.api.test_gates import V1, V2, engineer, gateway, worker
from tests.control.api.test_request_log import keep
from tests.control.api.test_rollouts import RULE, attempt, report, until
from tests.control.api.test_runs import RUNS, SUITES, says
from tests.control.api.test_usage import send
from tests.control.test_bodies import entry
from tests.control.test_ledger import event
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Usage
from tests.processes import eventually

__all__ = ["engineer", "gateway", "worker"]

SCORE: dict[str, Any] = {"suite": "questions", "scorer": "says yes", "cases": "suite", "min_samples": 20}
ROLLOUT = "support-bot/versions/2/rollout"


@pytest.fixture
def control(start_control: Start, gateway: Upstream, monkeypatch: pytest.MonkeyPatch) -> Running:
    """A control plane whose runs ask that gateway, and which looks at rollouts all the time."""
    monkeypatch.setattr(rollout, "EVERY", 0.2)
    return start_control(gateway_url=gateway.url.removesuffix("/v1"))


def scored(client: httpx.Client, state: str) -> dict[str, Any]:
    """The rollout, once its scores are in this state."""

    def found() -> Any:
        return client.get(f"{ADAPTERS}/support-bot").json()["rollout"]

    eventually(lambda: found()["score"]["state"] == state, 30)
    shown: dict[str, Any] = found()
    return shown


def asked(gateway: Upstream, model: str) -> int:
    return len(gateway.of(model))


def notes(control: Running) -> list[dict[str, Any]]:
    items = control.admin.get("/api/v1/audit", params={"resource_kind": "adapter", "per_page": 100}).json()["items"]
    found = [json.loads(one["after"]) for one in items if one["action"] == "rollout" and one["actor"] == "rollout"]
    return [one for one in found if "scores" in one]


def test_a_version_that_is_not_worse_leaves_the_first_step(
    control: Running, engineer: httpx.Client, gateway: Upstream
) -> None:
    report(control, 1, attempt(V1))
    began = post(engineer, ROLLOUT, RULE | {"score": SCORE})["rollout"]
    assert (began["rule"]["score"]["version"], began["score"]["state"]) == (1, "collecting")
    found = scored(engineer, "not_worse")
    score = found["score"]
    assert (score["against"], score["drawn"], score["left_out"], score["run"]) == (V1, 20, 0, None)
    last = score["points"][-1]
    assert (last["n"], last["mean"]) == (20, 1.0)
    assert -0.05 < last["low"] < 1.0
    assert [one["n"] for one in score["points"]] == list(range(1, 21))
    assert (asked(gateway, V1), asked(gateway, V2)) == (20, 20)
    assert found["step"] == 1, "errors need twenty attempts, too"
    report(control, 20, attempt(V2))
    until(engineer, step=2)
    (noted,) = notes(control)
    assert (noted["scores"], noted["samples"], noted["mean"], noted["margin"]) == ("not_worse", 20, 1.0, 0.05)
    assert noted["low"] == last["low"]
    (run,) = score["runs"]
    shown = engineer.get(f"{RUNS}/{run}").json()
    assert (shown["suite"], shown["key"]) == ("support-bot-canary", "comparisons@engineer")
    assert engineer.get(f"{SUITES}/questions").json()["version"] == 1, "the suite itself stays as it was"


def test_what_is_worse_goes_and_what_cannot_be_told_ends_as_the_rule_says(
    control: Running, engineer: httpx.Client, gateway: Upstream
) -> None:
    gateway.on(V1, says("yes"))
    gateway.on(V2, says("no"))
    post(engineer, ROLLOUT, RULE | {"score": SCORE})
    found = until(engineer, state="rolled_back")
    assert found["reason"].startswith(f"its scores are worse: says yes against {V1}: -1.000 (")
    assert targets(control) == [(V1, 1000)]
    assert [one["scores"] for one in notes(control)] == ["worse"]
    gateway.on(V2, says("yes"))
    for at_max, state in (("roll_back", "rolled_back"), ("hold", "stopped")):
        post(engineer, ROLLOUT, RULE | {"score": SCORE | {"max_samples": 30, "at_max": at_max}})
        found = until(engineer, state=state)
        assert "undecided" in found["reason"]
        assert (found["score"]["drawn"], len(found["score"]["runs"])) == (30, 2)
        assert targets(control) == ([(V1, 1000)] if at_max == "roll_back" else [(V2, 100), (V1, 900)])


def logged(control: Running, many: int) -> None:
    """So many requests to the adapter's name, kept with their bodies."""
    ids = [str(uuid.uuid4()) for _ in range(many)]
    send(control, *(event(id=one, request_id=one, route="support-bot") for one in ids))
    said = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "then"}}]})
    for number, one in enumerate(ids):
        body = json.dumps({"model": "support-bot", "messages": [{"role": "user", "content": f"q{number}"}]})
        keep(control, entry(id=one, request=body, response=said, response_cut=False))


def test_kept_requests_are_asked_again_of_both_and_a_judge_compares(
    control: Running, engineer: httpx.Client, gateway: Upstream
) -> None:
    admin = control.admin
    judge = {"name": "better", "kind": "pairwise_judge", "route": "support-bot", "rubric": "Says no."}
    gateway.on("support-bot", scripts.chat(['{"better": ', '"tie"}'], Usage(20, 5)))
    body = {
        "prompts": [{"name": "p", "messages": []}], "scorers": [judge],
        "sources": [{"kind": "cases", "cases": [{"messages": [{"role": "user", "content": "?"}]}]}],
    }  # fmt: skip
    assert admin.post(SUITES, json={"name": "judged"}).is_success
    assert admin.post(f"{SUITES}/judged/versions", json=body).status_code == 201
    score = {"suite": "judged", "scorer": "better", "min_samples": 20, "margin": 0.3}
    assert "keeps no bodies" in post(admin, ROLLOUT, RULE | {"score": score}, 422)["errors"][0]["message"]
    route = admin.get("/api/v1/routes/support-bot").json()
    spec = route["spec"] | {"log": {"bodies": "both"}}
    changed = admin.patch("/api/v1/routes/support-bot", json={"row_version": route["row_version"], "spec": spec})
    assert changed.is_success, changed.text
    logged(control, 30)  # before it began: not drawn
    control.sql("UPDATE usage_event SET ts = '2026-01-01 00:00:00.000000' WHERE route = 'support-bot'")
    post(admin, ROLLOUT, RULE | {"score": score})
    found = f"{ADAPTERS}/support-bot"
    eventually(lambda: admin.get(found).json()["rollout"]["score"]["message"] == "waits for requests: 0 of 20", 20)
    assert asked(gateway, V2) == 0
    control.sql("UPDATE usage_event SET ts = strftime('%Y-%m-%d %H:%M:%f', 'now')")
    assert scored(admin, "not_worse")["score"]["points"][-1]["mean"] == 0.0
    questions = {one.json["messages"][0]["content"] for one in gateway.of(V2)}
    assert questions == {one.json["messages"][0]["content"] for one in gateway.of(V1)}
    assert (len(questions), asked(gateway, "support-bot")) == (20, 40), "both orders of each pair"


def test_errors_end_it_and_its_questions_whoever_may_ask_or_not(
    control: Running, engineer: httpx.Client, gateway: Upstream
) -> None:
    admin = control.admin
    gateway.on(V1, says("yes", 2.0))

    def score() -> dict[str, Any]:
        shown: dict[str, Any] = admin.get(f"{ADAPTERS}/support-bot").json()["rollout"]["score"]
        return shown

    post(engineer, ROLLOUT, RULE | {"score": SCORE})
    eventually(lambda: score()["run"] is not None, 20)
    run = score()["run"]
    report(control, 5, attempt(V2, "provider_5xx"))
    assert until(engineer, state="rolled_back")["score"]["run"] is None
    eventually(lambda: engineer.get(f"{RUNS}/{run}").json()["state"] == "canceled", 20)
    control.sql("DELETE FROM usage_event")
    post(engineer, ROLLOUT, RULE | {"score": SCORE | {"key": "comparisons@engineer"}})
    control.sql("UPDATE user_account SET role = 'viewer' WHERE username = 'engineer'")
    control.sql("UPDATE comparison_run SET state = 'canceled', claimed_until = NULL")
    eventually(lambda: "may not do it any more" in score()["message"], 20)
    report(control, 5, attempt(V2, "provider_5xx"))
    assert until(admin, state="rolled_back")["score"]["state"] == "collecting"


def test_what_is_no_rule_is_refused(control: Running, engineer: httpx.Client) -> None:
    for score in (
        {"suite": "questions"}, SCORE | {"scorer": "other"}, SCORE | {"version": 2}, SCORE | {"suite": "nothing"},
        SCORE | {"margin": 0}, SCORE | {"margin": 1.5}, SCORE | {"alpha": 0}, SCORE | {"alpha": 1}, SCORE | {"more": 1},
        SCORE | {"min_samples": 30, "max_samples": 20}, SCORE | {"max_samples": 5001}, SCORE | {"at_max": "wait"},
        SCORE | {"cases": "all"}, SCORE | {"key": "nobody"}, [], "questions",
    ):  # fmt: skip
        answer = engineer.post(f"{ADAPTERS}/{ROLLOUT}", json=RULE | {"score": score})
        assert answer.status_code in (404, 422), (score, answer.text)
    post(engineer, ROLLOUT, RULE | {"score": SCORE | {"cases": "requests"}}, 403)
    cost = {"name": "cheap", "kind": "threshold", "of": "cost", "at_most": 1.0}
    body = {
        "prompts": [{"name": "p", "messages": []}], "scorers": [cost],
        "sources": [{"kind": "cases", "cases": [{"messages": [{"role": "user", "content": "?"}]}]}],
    }  # fmt: skip
    assert engineer.post(f"{SUITES}/questions/versions", json=body).status_code == 201
    refused = post(engineer, ROLLOUT, RULE | {"score": SCORE | {"scorer": "cheap"}}, 422)
    assert "cost" in refused["errors"][0]["message"]
    assert control.admin.post(SUITES, json={"name": "support-bot-canary"}).is_success
    taken = engineer.post(f"{ADAPTERS}/{ROLLOUT}", json=RULE | {"score": SCORE | {"version": 1}})
    assert taken.status_code in (403, 404), "somebody else has a suite of that name"
    assert targets(control) == [(V1, 1000)]
    assert control.sql("SELECT count(*) FROM rollout") == [(0,)]


def cell(case: int, candidate: int, value: float | None, *, ok: bool = True) -> Told:
    return Told(case, candidate, ok, {"s": {"value": value, "passed": None, "note": ""}} if ok else {})


def test_an_answer_that_did_not_come_is_worth_nothing_but_nobody_wins_by_the_others() -> None:
    cells = [
        cell(1, 0, 0.5), cell(1, 1, 0.25), cell(2, 0, None, ok=False), cell(2, 1, 0.75), cell(3, 0, 1.0),
        cell(3, 1, None, ok=False), cell(4, 0, None), cell(4, 1, 1.0), cell(5, 0, 1.0), cell(6, 0, 1.0),
        cell(6, 1, None),
    ]  # fmt: skip
    assert canary.differences(6, cells, None, "s") == [0.25, -0.75]
    judged = [Judged(1, 0, 1, "s", "first", "first", "first"), Judged(4, 0, 1, "s", None, None, None)]
    assert canary.differences(6, cells, judged, "s") == [1.0, -1.0]


def test_the_points_that_are_kept_end_with_the_last() -> None:
    found = sequential.points([0.0, 1.0] * 400, 0.05, 0.05)
    assert len(canary.thinned(found)) == canary.SHOWN
    assert canary.thinned(found)[-1] == list(found[-1])
    assert canary.thinned(found)[0] == list(found[0])
    assert canary.thinned(found[:3]) == [list(one) for one in found[:3]]
    assert canary.thinned([]) == []
