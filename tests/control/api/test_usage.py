"""Usage through the API: reports that sum to the ledger, who sees what, CSV that no spreadsheet executes."""

from __future__ import annotations

import csv
import hashlib
import io
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.control.api.conftest import Running
from tests.control.api.test_keys import published
from tests.control.test_ledger import event
from tests.fakes.gateway import eventually


def send(control: Running, *events: dict[str, Any]) -> dict[str, int]:
    answer = control.service().post("/internal/v1/usage", json={"gateway": "g1", "events": events})
    assert answer.status_code == 200, answer.text
    body: dict[str, int] = answer.json()
    return body


def report(control: Running, who: str = "admin", **query: Any) -> list[dict[str, Any]]:
    since = (datetime.now(UTC) - timedelta(days=40)).isoformat()
    answer = control.as_(who).get("/api/v1/usage", params={"since": since} | query)
    assert answer.status_code == 200, answer.text
    lines: list[dict[str, Any]] = answer.json()["lines"]
    return lines


def test_every_report_sums_to_the_ledger_to_the_nano_unit(control: Running) -> None:
    dice = random.Random(7)
    now = datetime.now(UTC).timestamp()
    events = [
        event(
            ts=now - dice.random() * 30 * 86_400, key=dice.choice(["a@x", "b@x", "c@y"]), route=dice.choice(["r", "s"]),
            endpoint=dice.choice(["e1", "e2", None]), cost_nano=dice.randrange(10**12),
            end=dice.choice(["success", "upstream_error"]), ttft_ms=dice.choice([None, 10.0]),
        )
        for _ in range(300)
    ]  # fmt: skip
    assert send(control, *events) == {"stored": 300, "duplicates": 0, "quarantined": 0}
    total = sum(e["cost_nano"] for e in events)
    for by in ([], ["key"], ["route", "endpoint"], ["day"], ["hour", "key"], ["upstream_model", "operation", "day"]):
        lines = report(control, by=by, timezone="Asia/Shanghai")
        assert sum(line["cost_nano"] for line in lines) == total
        assert sum(line["requests"] for line in lines) == 300
        assert sum(line["failed"] for line in lines) == sum(e["end"] != "success" for e in events)
        assert sum(line["total_tokens"] for line in lines) == 300 * 21
    assert control.sql("SELECT sum(cost_nano) FROM usage_event") == [(total,)]
    mean = report(control, key="a@x")[0]
    assert (mean["mean_ttft_ms"], mean["mean_duration_ms"]) == (10.0, 80.0)


def test_people_see_what_their_own_keys_and_teams_did(control: Running) -> None:
    for who, name in (("member", "m"), ("engineer", "e")):
        assert control.as_(who).post("/api/v1/keys", json={"name": name}).status_code == 201
    control.admin.post("/api/v1/teams", json={"name": "lab"})
    control.admin.put("/api/v1/teams/lab/members", json={"username": "member"})
    send(
        control, event(key="m@member", cost_nano=1), event(key="e@engineer", cost_nano=10),
        event(key="t@lab", team="lab", cost_nano=100), event(key="gone@nobody", cost_nano=1000),
    )  # fmt: skip
    assert sum(line["cost_nano"] for line in report(control, "member")) == 101
    assert sum(line["cost_nano"] for line in report(control, "engineer")) == 10
    assert sum(line["cost_nano"] for line in report(control, "viewer")) == 1111
    rows = control.as_("member").get("/api/v1/usage/requests").json()["items"]
    assert {row["key"] for row in rows} == {"m@member", "t@lab"}


def test_the_ledger_is_read_page_by_page_without_a_row_twice(control: Running) -> None:
    send(control, *(event(request_id=f"r{n}") for n in range(25)))
    seen: list[str] = []
    before: int | None = None
    while True:
        query = {"per_page": 10} | ({"before": before} if before else {})
        page = control.admin.get("/api/v1/usage/requests", params=query).json()
        seen += [row["request_id"] for row in page["items"]]
        before = page["before"]
        if before is None:
            break
    assert seen == [f"r{n}" for n in reversed(range(25))]
    found = control.admin.get("/api/v1/usage/requests", params={"request_id": "r7"}).json()["items"]
    assert [row["request_id"] for row in found] == ["r7"]


def test_a_request_that_was_reported_late_is_listed_where_it_happened(control: Running) -> None:
    start = datetime.now(UTC).timestamp() - 3600
    happened = [5, 1, 4, 1, 3, 9, 2, 6, 5]  # in order of arrival; some at the same moment
    send(control, *(event(request_id=f"late{n}", ts=start + second) for n, second in enumerate(happened)))
    seen: list[str] = []
    before: int | None = None
    while not seen or before is not None:
        query = {"per_page": 2} | ({"before": before} if before else {})
        page = control.admin.get("/api/v1/usage/requests", params=query).json()
        seen += [row["request_id"] for row in page["items"] if row["request_id"].startswith("late")]
        before = page["before"]
    assert seen == ["late5", "late7", "late8", "late0", "late2", "late4", "late6", "late3", "late1"]


def test_a_long_report_is_cut_and_its_export_is_not(control: Running) -> None:
    send(control, *(event(key=f"k{n:03}@x", cost_nano=n, duration_ms=100.0, ttft_ms=None) for n in range(130)))
    answer = control.admin.get("/api/v1/usage", params={"by": "key"}).json()
    assert [line["group"]["key"] for line in answer["lines"]] == [f"k{n:03}@x" for n in range(129, 29, -1)]
    assert (answer["others"]["requests"], answer["others"]["cost_nano"]) == (30, sum(range(30)))
    assert (answer["total"]["requests"], answer["total"]["cost_nano"]) == (130, sum(range(130)))
    assert 64 <= answer["total"]["p50_duration_ms"] <= answer["others"]["p95_duration_ms"] <= 128
    assert answer["total"]["p95_ttft_ms"] is None
    text = control.admin.get("/api/v1/usage/export", params={"by": "key"}).text
    assert len(list(csv.DictReader(io.StringIO(text)))) == 130


def test_csv_cells_are_no_formulas(control: Running) -> None:
    send(control, event(route="=cmd|' /C calc'!A0", cost_nano=5))
    answer = control.admin.get("/api/v1/usage/export", params={"by": "route"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["route"][:2], row["cost_nano"]) for row in rows] == [("'=", "5")]


def test_a_key_knows_when_it_was_last_used(control: Running) -> None:
    secret = control.admin.post("/api/v1/keys", json={"name": "k"}).json()["secret"]
    assert control.admin.get("/api/v1/keys/k@admin").json()["last_used_at"] is None
    eventually(lambda: hashlib.sha256(secret.encode()).hexdigest() in published(control))
    etag = control.service().get("/internal/v1/snapshot").headers["etag"]
    send(control, event(key="k@admin", ts=1_750_000_000), event(key="k@admin", ts=1_700_000_000))
    assert control.admin.get("/api/v1/keys/k@admin").json()["last_used_at"].startswith("2025-06-15T15:06:40")
    unchanged = control.service().get("/internal/v1/snapshot?wait=1", headers={"if-none-match": etag})
    assert unchanged.status_code == 304, "use is no change of configuration"


@pytest.mark.parametrize(
    "query",
    [
        "timezone=Mars", "by=password", "by=key&by=route&by=day&by=hour", "since=yesterday", "since=2026-01-01",
        "since=2027-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "until=0001-01-01T00:00:00Z", "top=0", "top=1001",
        "since=0001-01-01T00:00:00%2B12:00", "until=9999-12-31T23:59:59-12:00",
    ],
)  # fmt: skip
def test_a_bad_question_is_a_422(control: Running, query: str) -> None:
    assert control.admin.get(f"/api/v1/usage?{query}").status_code == 422


@pytest.mark.parametrize("by", [["day"], ["hour", "key"], ["team", "day"], ["key"]])
def test_all_of_time_is_a_report_as_quick_as_any(control: Running, by: list[str]) -> None:
    send(control, event(cost_nano=7), event(ts=0.0, cost_nano=1))
    ever = {"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z", "timezone": "Asia/Shanghai", "by": by}
    assert sum(line["cost_nano"] for line in report(control, **ever)) == 8
    assert report(control, **ever | {"since": "9999-01-01T00:00:00Z"}) == []


@pytest.mark.parametrize("body", [{}, {"gateway": "g", "events": [{}] * 1001}, {"gateway": "", "events": []}, []])
def test_a_batch_that_is_none_is_refused_as_a_whole(control: Running, body: Any) -> None:
    assert control.service().post("/internal/v1/usage", json=body).status_code == 422
