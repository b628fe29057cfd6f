"""Answers of earlier runs: taken over where all of the request is the same, and asked for where anything is not."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx

from tests.control.api.conftest import Running
from tests.control.api.test_runs import RUNS, SUITES, begun, bill, cells, client, control, gateway, says, state, suite
from tests.fakes.upstream import Upstream
from tests.processes import eventually

__all__ = ["client", "control", "gateway"]


def asked(gateway: Upstream) -> int:
    return len(gateway.of("good")) + len(gateway.of("bad"))


def ran(control: Running, client: httpx.Client, *routes: str, **more: Any) -> dict[str, Any]:
    """A run that has ended, and for which the ledger has all: it holds no place of another one any more."""
    run = begun(client, *routes, **more)
    ended = state(client, run)
    bill(control, run, 1000)
    return ended


def test_the_same_is_not_asked_twice_and_costs_nothing(
    control: Running, client: httpx.Client, gateway: Upstream
) -> None:
    suite(client)
    first = begun(client, "good", "bad", repeats=2)
    state(client, first)
    bill(control, first, 1000)
    eventually(lambda: client.get(f"{RUNS}/{first}").json()["billed_nano"] == 12_000)
    assert asked(gateway) == 12
    again = begun(client, "good", "bad", repeats=2, reuse_days=1)
    ended = state(client, again)
    assert (ended["state"], ended["done"], ended["reused"], asked(gateway)) == ("done", 12, 12, 12)
    one = client.get(f"{RUNS}/{again}/cells/2/0/1").json()
    source = client.get(f"{RUNS}/{first}/cells/2/0/1").json()
    assert (one["reused_from"], one["cost_nano"], one["tries"]) == (source["request_id"], 1000, 0)
    assert (one["answer"], one["request"], one["scores"]) == (source["answer"], source["request"], source["scores"])
    assert source["reused_from"] == ""
    assert client.get(f"{RUNS}/{again}").json()["billed_nano"] == 0
    third = begun(client, "good", reuse_days=1)  # what was taken over is no source, what it was taken from is
    state(client, third)
    assert client.get(f"{RUNS}/{third}/cells/2/0/0").json()["reused_from"].startswith(first)
    exported = client.get(f"{RUNS}/{again}/export", params={"format": "jsonl"}).text
    assert exported.count('"reused_from"') == 12


def test_whatever_differs_is_asked_for(control: Running, client: httpx.Client, gateway: Upstream) -> None:
    suite(client)
    ran(control, client, "good", seed=1)
    assert asked(gateway) == 3
    ran(control, client, "good", seed=1)
    assert asked(gateway) == 6, "it has to be wished"
    ran(control, client, "good", seed=2, reuse_days=1)
    assert asked(gateway) == 9, "another seed"
    ended = ran(control, client, "good", seed=1, repeats=2, reuse_days=1)
    assert (ended["reused"], asked(gateway)) == (3, 12), "a repeat that was not there"
    suite(client, name="other")
    ran(control, client, "good", name="other", seed=1, reuse_days=1)
    assert asked(gateway) == 15, "another suite"
    route = control.admin.get("/api/v1/routes/good").json()
    body = {"spec": {**route["spec"], "system_prompt": "Be brief."}, "row_version": route["row_version"]}
    assert control.admin.patch("/api/v1/routes/good", json=body).is_success
    ran(control, client, "good", seed=1, reuse_days=1)
    assert asked(gateway) == 18, "another version of the route"
    control.sql("UPDATE comparison_cell SET finished_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '-10 days')")
    ran(control, client, "good", seed=1, reuse_days=30)
    assert asked(gateway) == 18, "young enough"
    ran(control, client, "good", seed=1, reuse_days=5)
    assert asked(gateway) == 21, "too old"


def test_scores_are_given_anew_and_what_failed_is_asked_for(
    control: Running, client: httpx.Client, gateway: Upstream
) -> None:
    suite(client)
    gateway.on("bad", says("never"))
    state(client, begun(client, "bad"))
    body = {
        "prompts": [{"name": "plain", "messages": [{"role": "user", "content": "{{question}}"}]}],
        "parameters": {"temperature": 0}, "sources": [{"kind": "version", "number": 1}],
        "scorers": [{"name": "says never", "kind": "regex", "pattern": "never"}],
    }  # fmt: skip
    answer = client.post(f"{SUITES}/questions/versions", json=body)
    assert answer.status_code == 201, answer.text
    run = begun(client, "bad", reuse_days=1)
    ended = state(client, run)
    assert ended["reused"] == 3
    assert {one["scores"]["says never"]["passed"] for one in cells(client, run)} == {True}
    for wrong in (0, 366, "1", True, 1.5):
        refused = client.post(f"{SUITES}/questions/runs", json={"candidates": [{"route": "bad"}], "reuse_days": wrong})
        assert refused.status_code == 422


def test_what_was_taken_over_stays_so_after_a_pause(control: Running, client: httpx.Client, gateway: Upstream) -> None:
    suite(client)
    ran(control, client, "good")
    gateway.on("bad", says("no", gap=0.2))
    run = begun(client, "good", "bad", reuse_days=1, concurrency=1)
    eventually(lambda: client.get(f"{RUNS}/{run}").json()["done"] >= 4)
    client.post(f"{RUNS}/{run}/pause")
    state(client, run, "paused")
    assert client.post(f"{RUNS}/{run}/resume", json={}).is_success
    ended = state(client, run, "done")
    assert (ended["done"], ended["reused"], asked(gateway)) == (6, 3, 6)
