"""Runs over what the request log has of a route and its shadow: nobody is asked, and the report works over them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running
from tests.control.api.test_request_log import keep
from tests.control.api.test_runs import RUNS, SUITES
from tests.control.api.test_usage import send
from tests.control.test_bodies import entry
from tests.control.test_ledger import event

SINCE = "2026-01-01T00:00:00Z"


def logged(control: Running, number: int, *, failed: bool = False, kept: bool = True) -> None:
    """A request and its copy with their bodies."""
    one, copy, same = str(uuid.uuid4()), str(uuid.uuid4()), f"r-{number}"
    shadow: dict[str, Any] = {"end": "upstream_error", "status": 503, "error": "provider_5xx"} if failed else {}
    send(
        control, event(id=one, request_id=same, route="chat", cost_nano=500, duration_ms=40.0),
        event(id=copy, request_id=same, route="chat", shadow_of=one, cost_nano=100, duration_ms=90.0, **shadow),
    )  # fmt: skip
    asked = json.dumps({"model": "chat", "messages": [{"role": "user", "content": f"q{number}"}]})
    first = entry(id=one, request=asked, response=_said(f"yes {number}"), response_cut=False)
    second = entry(id=copy, request=None, response=_said("no"), response_cut=False)
    keep(control, *([first] if kept else []), *([] if failed else [second]))


def _said(text: str) -> str:
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def admin(control: Running) -> httpx.Client:
    """Somebody who may read bodies, with a suite that looks for a yes."""
    client = control.admin
    assert client.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).is_success
    body = {"name": "chat", "spec": {"target": [{"endpoint": "e", "model": "m"}]}, "grants": []}
    assert client.post("/api/v1/routes", json=body).is_success
    assert client.post(SUITES, json={"name": "shadow"}).is_success
    version = {
        "prompts": [{"name": "p", "messages": [{"role": "user", "content": "?"}]}],
        "scorers": [
            {"name": "yes", "kind": "regex", "pattern": "yes"},
            {"name": "good", "kind": "judge", "route": "chat", "rubric": "Is it good?"},
        ],
        "sources": [{"kind": "cases", "cases": [{}]}],
    }  # fmt: skip
    answer = client.post(f"{SUITES}/shadow/versions", json=version)
    assert answer.status_code == 201, answer.text
    return client


def test_answers_of_a_route_and_its_shadow_are_cells_of_a_run(control: Running, admin: httpx.Client) -> None:
    for number in range(24):
        logged(control, number, failed=number == 5)
    logged(control, 90, kept=False)
    answer = admin.post(f"{SUITES}/shadow/shadow", json={"route": "chat", "since": SINCE, "note": "nightly"})
    assert answer.status_code == 201, answer.text
    run = answer.json()
    assert (run["state"], run["total"], run["done"], run["failed"]) == ("partial", 48, 47, 1)
    assert (run["key"], run["billed_nano"], run["version"], run["note"]) == ("", 0, 2, "nightly")
    report = admin.get(f"{RUNS}/{run['id']}/report").json()
    one, other = report["candidates"]
    assert (one["name"], other["name"], other["failed"]) == ("chat", "chat (shadow)", 1)
    assert (one["cost_nano"], other["cost_nano"]) == (500.0, 100.0)
    assert (one["latency_ms"]["p50"], other["latency_ms"]["p50"]) == (40.0, 90.0)
    (pair,) = report["comparisons"][0]["pairs"]
    assert (pair["verdict"], pair["met"]) == ("better", 23)
    assert one["scores"].keys() == {"yes"}, "nobody is asked to judge"
    assert one["unscored"]["good"] == 24
    cell = admin.get(f"{RUNS}/{run['id']}/cells/1/1/0").json()
    assert cell["request"]["messages"][0]["content"].startswith("q")
    assert cell["answer"]["text"] == "no"
    assert "without asking anybody" in cell["scores"]["good"]["note"]
    failed = admin.get(f"{RUNS}/{run['id']}/cells", params={"failed": True}).json()["items"]
    assert [(one["candidate"], one["text"][:12]) for one in failed] == [(1, "provider_5xx")]
    assert admin.get(f"{RUNS}/{run['id']}/export", params={"format": "csv"}).is_success
    assert admin.post(f"{RUNS}/{run['id']}/resume", json={"failed_again": True}).json()["code"] == "recorded"
    again = admin.post(f"{SUITES}/shadow/shadow", json={"route": "chat", "since": SINCE}).json()
    assert (again["version"], again["id"] != run["id"]) == (2, True), "the same pairs are the same version"
    compared = admin.get(f"{RUNS}/{again['id']}/report", params={"against": run["id"]}).json()["against"]
    assert {one["verdict"] for one in compared["changes"]} == {"no_difference_seen"}
    entries = admin.get("/api/v1/audit", params={"resource_kind": "run"}).json()["items"]
    assert [one["action"] for one in entries] == ["record", "record"]


def test_what_gives_no_pairs_is_refused(control: Running, admin: httpx.Client) -> None:
    place, body = f"{SUITES}/shadow/shadow", {"route": "chat", "since": SINCE}
    assert admin.post(place, json=body).json()["code"] == "no_cases"
    logged(control, 1, kept=False)
    assert admin.post(place, json=body).json()["code"] == "no_cases"
    logged(control, 2)
    assert admin.post(place, json=body | {"since": "2027-01-01T00:00:00Z"}).json()["code"] == "no_cases"
    assert admin.post(place, json=body | {"route": "other"}).json()["code"] == "no_cases"
    for wrong in ({"limit": 0}, {"limit": 1001}, {"route": ""}, {"since": 0}, {"more": 1}):
        assert admin.post(place, json=body | wrong).status_code == 422, wrong
    assert admin.post(f"{SUITES}/none/shadow", json=body).status_code == 404
    assert control.as_("engineer").post(place, json=body).status_code == 403
    assert control.as_("operator").post(place, json=body).status_code == 403, "bodies are not for operators"
    assert admin.get(RUNS).json()["total"] == 0
    assert admin.post(place, json=body).status_code == 201


def test_a_sample_of_requests_is_drawn_by_chance_from_all_of_them(control: Running, admin: httpx.Client) -> None:
    for number in range(30):
        logged(control, number)
    asked: list[set[str]] = []
    for sample in (True, True, False, False):
        body = {
            "prompts": [{"name": "p", "messages": []}],
            "sources": [{"kind": "requests", "since": SINCE, "route": "chat", "limit": 8, "sample": sample}],
        }  # fmt: skip
        made = admin.post(f"{SUITES}/shadow/versions", json=body)
        assert made.status_code == 201, made.text
        cases = admin.get(f"{SUITES}/shadow/versions/{made.json()['number']}/cases").json()["items"]
        asked.append({one["messages"][0]["content"] for one in cases})
    assert [len(one) for one in asked] == [8, 8, 8, 8]
    assert asked[2] == asked[3] == {f"q{number}" for number in range(22, 30)}, "the newest"
    assert asked[0] != asked[1], "the same eight of thirty twice in six million"
