"""An index that is held back: it answers only the part of a route that tries it, until it is promoted or given up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx2 as httpx

from tests.control.api.conftest import Running
from tests.control.knowledge.conftest import BASES, add, base, ready, search
from tests.control.knowledge.test_ingest import indexes
from tests.control.test_ledger import event
from tests.processes import eventually

LEAVE = "Everyone has thirty days of annual leave each year. Ask your manager two weeks before. " * 3
SMALL = {"size": 16, "overlap": 0, "parent": 1000}


def retrieval(control: Running, **more: Any) -> dict[str, Any]:
    asked = {"bases": ["handbook"], "query": "days of holiday", "principal": {"key": "bot@engineer"}, **more}
    answer = control.service().post("/internal/v1/retrieval", json=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def held(control: Running, client: httpx.Client) -> None:
    """The base with one document, an index that answers and one that is held back and complete."""
    assert client.post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    ready(client, "handbook", "leave.txt", LEAVE)
    version = client.get(f"{BASES}/handbook").json()["row_version"]
    body = {"chunking": SMALL, "hold": True, "row_version": version}
    [new, live] = client.patch(f"{BASES}/handbook", json=body).json()["indexes"]
    assert (new["held"], new["state"], live["held"]) == (True, "building", False)
    eventually(lambda: retrieval(control, trial=True)["indexes"] == {"handbook": 2}, 60)


def test_it_answers_nobody_but_who_tries_it_and_takes_over_when_it_is_promoted(
    control: Running, engineer: httpx.Client
) -> None:
    held(control, engineer)
    assert indexes(engineer, "handbook") == [(2, "building"), (1, "live")]
    assert retrieval(control)["indexes"] == {"handbook": 1}
    tried, live = retrieval(control, trial=True)["passages"], retrieval(control)["passages"]
    assert len(tried) > len(live)
    assert not {one["chunk"] for one in tried} & {one["chunk"] for one in live}
    assert search(engineer, "handbook", "days of holiday")[0]["chunk"] == live[0]["chunk"]
    added = ready(engineer, "handbook", "sickness.txt", "Whoever is ill calls before nine.")  # goes into both
    eventually(lambda: "sickness.txt" in {one["title"] for one in retrieval(control, trial=True)["passages"]}, 60)
    promoted = engineer.post(f"{BASES}/handbook/indexes/2/promote")
    assert [(one["number"], one["state"]) for one in promoted.json()["indexes"]] == [(2, "live")]
    assert retrieval(control)["indexes"] == retrieval(control, trial=True)["indexes"] == {"handbook": 2}
    assert added["id"] in {one["document"] for one in retrieval(control)["passages"]}
    again = engineer.post(f"{BASES}/handbook/indexes/2/promote")
    assert again.status_code == 200, "it is live: nothing is left to do"
    gone = engineer.post(f"{BASES}/handbook/indexes/1/promote")
    assert (gone.status_code, gone.json()["code"]) == (409, "index_gone")


def test_until_it_is_complete_the_live_one_answers_those_too(control: Running, engineer: httpx.Client) -> None:
    held(control, engineer)
    add(engineer, "handbook", "broken.pdf", b"no pdf")
    ready(engineer, "handbook", "more.txt", "More.")
    assert retrieval(control, trial=True)["indexes"]["handbook"] in (1, 2)
    eventually(lambda: retrieval(control, trial=True)["indexes"] == {"handbook": 2}, 60)


def test_one_that_is_given_up_is_gone(control: Running, engineer: httpx.Client) -> None:
    held(control, engineer)
    live = engineer.delete(f"{BASES}/handbook/indexes/1")
    assert (live.status_code, live.json()["code"]) == (409, "in_use")
    assert engineer.delete(f"{BASES}/handbook/indexes/2").status_code == 200
    assert indexes(engineer, "handbook") == [(1, "live")]
    assert retrieval(control, trial=True)["indexes"] == {"handbook": 1}
    audit = control.admin.get("/api/v1/audit", params={"resource_kind": "knowledge_base"}).json()["items"]
    assert "discard" in {one["action"] for one in audit}


def test_a_rebuild_may_be_held_back_too_and_others_may_not_decide(control: Running, engineer: httpx.Client) -> None:
    ready(engineer, "handbook", "leave.txt", LEAVE)
    assert engineer.post(f"{BASES}/handbook/rebuild", params={"hold": True}).json()["indexes"][0]["held"] is True
    other = control.as_("viewer")
    for answer in (
        other.post(f"{BASES}/handbook/indexes/2/promote"),
        other.delete(f"{BASES}/handbook/indexes/2"),
        control.as_("member").get(f"{BASES}/handbook/trial"),
    ):
        assert answer.status_code in (403, 404)


def test_the_report_sets_them_side_by_side(control: Running, engineer: httpx.Client) -> None:
    base(control.admin, "other")
    spec = {"target": [{"endpoint": "e", "model": "m"}], "knowledge": {"bases": ["handbook"], "trial": 0.5}}
    control.admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}})
    assert control.admin.post("/api/v1/routes", json={"name": "asks", "spec": spec}).status_code == 201
    assert engineer.get(f"{BASES}/handbook/trial").json()["sides"] == []
    moment = datetime.now(UTC).timestamp()

    def told(index: int, outcome: str, **more: Any) -> dict[str, Any]:
        found = {"outcome": outcome, "passages": 2 * (outcome == "found"), "ms": 10.0 * index}
        found |= {"indexes": {"handbook": index, "other": 7}, "trial": index == 2}
        return event(route="asks", ts=moment, retrieval=found, **more)

    events = [told(1, "found") for _ in range(3)] + [
        told(2, "nothing"), told(2, "found", end="upstream_error", error="provider_5xx", status=502),
        event(route="asks", ts=moment), event(route="else", ts=moment),
    ]  # fmt: skip
    sent = control.service().post("/internal/v1/usage", json={"gateway": "g", "events": events})
    assert sent.status_code == 200, sent.text
    report = engineer.get(f"{BASES}/handbook/trial").json()
    assert (report["routes"], report["cut"]) == (["asks"], False)
    one, two = report["sides"]
    assert (one["index"], one["requests"], one["failed"], one["found"], one["passages"]) == (1, 3, 0, 3, 2.0)
    assert (two["index"], two["requests"], two["failed"], two["found"], two["passages"]) == (2, 2, 1, 1, 1.0)
    assert (one["p50_retrieval_ms"], two["p50_retrieval_ms"]) == (10.0, 20.0)
    assert control.admin.get(f"{BASES}/other/trial").json()["sides"] == []
