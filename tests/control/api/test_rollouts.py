"""Rollouts by rule: from the first share to all or back, by attempts in a real ledger; each step is audited."""

from __future__ import annotations

import time
import uuid
from typing import Any

import httpx2 as httpx
import pytest

from control.deployments.rollout import EVERY, Arm, why_not
from tests.control.api.conftest import Running
from tests.control.api.test_adapters import ADAPTERS, both_live, post, targets
from tests.control.api.training import Worker
from tests.fakes.gateway import eventually

RULE = {
    "steps": [0.1, 0.5, 1.0], "min_requests": 20, "max_error_rate": 0.1, "max_latency_ratio": 2.0, "score": None,
}  # fmt: skip
V1, V2 = "support-bot@v1", "support-bot@v2"


@pytest.fixture
def engineer(control: Running) -> httpx.Client:
    """Two versions are live; the first one has the name."""
    client = control.as_("engineer")
    both_live(control, client, Worker(control))
    return client


def attempt(model: str, error: str = "", ms: float = 100.0) -> dict[str, Any]:
    return {"endpoint": "engine-tiny", "model": model, "status": 0 if error else 200, "error": error, "ms": ms}


def report(control: Running, count: int, *attempts: dict[str, Any], end: str = "success", **changed: Any) -> None:
    """A gateway sends so many requests with these attempts."""
    row = {
        "v": 1, "request_id": "r", "key": "k", "team": None, "operation": "chat", "model": "support-bot",
        "route": "support-bot", "endpoint": "engine-tiny", "upstream_model": attempts[-1]["model"], "snapshot": "c1",
        "stream": True, "end": end, "status": 200, "error": "", "usage_source": "none", "cost_nano": 0,
        "tokens": {"input": 0, "cache_read": 0, "cache_write": 0, "output": 0, "reasoning": 0}, "ttft_ms": 1.0,
        "duration_ms": 2.0, "attempts": list(attempts), **changed,
    }  # fmt: skip
    events = [{**row, "id": str(uuid.uuid4()), "ts": time.time()} for _ in range(count)]
    sent = control.service().post("/internal/v1/usage", json={"gateway": "g", "events": events})
    assert sent.json()["stored"] == count, sent.text


def rollout(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"{ADAPTERS}/support-bot").json()["rollout"]
    return found


def until(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    """The rollout, once it has these fields."""
    eventually(lambda: fields.items() <= rollout(client).items(), 30)
    return rollout(client)


def test_a_good_version_takes_over_step_by_step(control: Running, engineer: httpx.Client) -> None:
    began = post(engineer, "support-bot/versions/2/rollout", RULE)["rollout"]
    assert (began["state"], began["step"], began["rule"]) == ("running", 1, RULE)
    assert targets(control) == [(V2, 100), (V1, 900)]
    assert post(engineer, "support-bot/versions/2/rollout", RULE, 409)["code"] == "busy"
    report(control, 30, attempt(V1))
    report(control, 19, attempt(V2, ms=150.0))
    found = until(engineer, new={"attempts": 19, "failed": 0, "p95_ms": 150.0})
    assert (found["step"], found["old"]) == (1, {"attempts": 30, "failed": 0, "p95_ms": 100.0})
    report(control, 1, attempt(V2, ms=150.0))
    until(engineer, step=2)
    assert targets(control) == [(V2, 500), (V1, 500)]
    report(control, 20, attempt(V2))
    until(engineer, step=3)
    assert targets(control) == [(V2, 1000)]
    report(control, 20, attempt(V2))
    assert until(engineer, state="promoted")["reason"] == "all of 3 steps went well"
    rows = control.admin.get("/api/v1/audit?per_page=200").json()["items"]
    assert [row["actor"] for row in rows if row["action"] == "rollout"].count("rollout") == 4
    assert control.admin.get("/api/v1/audit/verify").json()["intact"]


BAD = {
    "fails": [attempt(V2, "provider_5xx")],
    "fails, and the old one answers in its place": [attempt(V2, "provider_timeout"), attempt(V1)],
    "breaks off": [attempt(V2)],
}


@pytest.mark.parametrize("how", BAD)
def test_a_version_that_fails_goes_at_once(control: Running, engineer: httpx.Client, how: str) -> None:
    post(engineer, "support-bot/versions/2/rollout", RULE)
    report(control, 10, attempt(V1))
    report(control, 3, *BAD[how], end="upstream_error_partial" if how == "breaks off" else "success")
    found = until(engineer, state="rolled_back")
    assert "3 attempts failed" in found["reason"]
    assert found["new"]["attempts"] == 3, "it was not waited for twenty"
    assert targets(control) == [(V1, 1000)]


def test_a_slow_version_goes_when_it_is_known_to_be_slow(control: Running, engineer: httpx.Client) -> None:
    post(engineer, "support-bot/versions/2/rollout", RULE)
    report(control, 20, attempt(V1, ms=100.0))
    report(control, 20, attempt(V2, ms=250.0))
    assert "250 ms" in until(engineer, state="rolled_back")["reason"]
    assert targets(control) == [(V1, 1000)]


def test_what_is_not_its_fault_is_no_failure(control: Running, engineer: httpx.Client) -> None:
    post(engineer, "support-bot/versions/2/rollout", RULE)
    report(control, 30, attempt(V1, "provider_5xx"))
    report(control, 4, attempt(V2, "provider_5xx"))
    report(control, 30, attempt(V2, "provider_rejected"))
    report(control, 4, attempt(V2, "provider_5xx"), route="another", model="another")
    found = until(engineer, new={"attempts": 4, "failed": 4, "p95_ms": None})
    assert found["state"] == "running", "the old one fails as often: the engine is to blame"


def test_whoever_changes_the_route_or_stops_it_ends_it(control: Running, engineer: httpx.Client) -> None:
    post(engineer, "support-bot/versions/2/rollout", RULE)
    post(engineer, "support-bot/versions/2/promote", {"share": 0.3})
    assert "somebody else" in until(engineer, state="stopped")["reason"]
    assert targets(control) == [(V2, 300), (V1, 700)], "left as it is"
    post(engineer, "support-bot/versions/2/rollout", RULE)
    assert post(engineer, "support-bot/rollout/stop")["rollout"]["state"] == "stopped"
    assert targets(control) == [(V2, 100), (V1, 900)]
    post(engineer, "support-bot/rollout/stop", status=404)
    report(control, 50, attempt(V2))
    time.sleep(EVERY + 1)  # the next look has come
    assert targets(control) == [(V2, 100), (V1, 900)], "nobody goes on with it"


def test_what_cannot_begin_is_refused(control: Running, engineer: httpx.Client) -> None:
    assert post(engineer, "support-bot/versions/1/rollout", RULE, 409)["code"] == "nothing_before"
    control.sql("UPDATE deployment SET state = 'degraded'")
    assert post(engineer, "support-bot/versions/2/rollout", RULE, 409)["code"] == "not_live"
    for steps in ([], [0.5, 0.5], [0.5, 0.1], [1.5], ["x"]):
        post(engineer, "support-bot/versions/2/rollout", RULE | {"steps": steps}, 422)
    post(engineer, "support-bot/versions/2/rollout", RULE | {"min_requests": True}, 422)
    stranger = control.as_("member").post(f"{ADAPTERS}/support-bot/versions/2/rollout", json=RULE)
    assert stranger.status_code in (403, 404)


def arm(attempts: int, failed: int, *times: float) -> Arm:
    return Arm(attempts, failed, list(times))


@pytest.mark.parametrize(
    ("new", "old", "wrong"),
    [
        (arm(0, 0), arm(0, 0), False),
        (arm(2, 2), arm(9, 0), False),  # 2 of 20 may fail
        (arm(3, 3), arm(9, 0), True),
        (arm(3, 3), arm(9, 9), False),
        (arm(100, 10), arm(100, 0), False),
        (arm(100, 11), arm(100, 0), True),
        (arm(20, 0, *[201.0] * 20), arm(20, 0, *[100.0] * 20), True),
        (arm(20, 0, *[201.0] * 20), arm(0, 0), False),
        (arm(19, 0, *[900.0] * 19), arm(20, 0, *[100.0] * 20), False),
        (arm(20, 0, *[100.0] * 19, 900.0), arm(20, 0, *[100.0] * 20), False),
    ],
)
def test_the_rule(new: Arm, old: Arm, wrong: bool) -> None:
    assert bool(why_not(new, old, RULE)) == wrong
