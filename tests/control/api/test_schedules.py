"""Schedules of suites: each time is one run, whatever runs twice or was away, and what becomes worse is said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2 as httpx
import pytest

from control.comparisons import schedules
from control.comparisons.schedule_schemas import Times
from control.db import Database
from tests.control.api.conftest import Running, Start
from tests.control.api.test_runs import RUNS, SUITES, says, state, suite
from tests.fakes.upstream import Upstream
from tests.processes import eventually

PLACE = f"{SUITES}/questions/schedule"
DAILY: dict[str, Any] = {"at": "06:30", "timezone": "Asia/Shanghai", "run": {"candidates": [{"route": "good"}]}}


@pytest.fixture
def gateway() -> Iterator[Upstream]:
    """In place of a gateway."""
    with Upstream() as running:
        running.on("good", says("Answer: yes"))
        yield running


@pytest.fixture
def control(start_control: Start, gateway: Upstream, monkeypatch: pytest.MonkeyPatch) -> Running:
    """A control plane with a route, that looks at schedules all the time."""
    monkeypatch.setattr(schedules, "EVERY", 0.2)
    running = start_control(gateway_url=gateway.url.removesuffix("/v1"))
    assert running.admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).is_success
    body = {"name": "good", "spec": {"target": [{"endpoint": "e", "model": "good"}]}, "grants": []}
    assert running.admin.post("/api/v1/routes", json=body).is_success
    return running


@pytest.fixture
def client(control: Running) -> httpx.Client:
    """An engineer with a suite of 24 cases."""
    engineer = control.as_("engineer")
    suite(engineer, 24)
    return engineer


def put(client: httpx.Client, status: int = 200, **changes: Any) -> dict[str, Any]:
    answer = client.put(PLACE, json=DAILY | changes)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def shown(client: httpx.Client) -> Any:
    return client.get(f"{SUITES}/questions").json()["schedule"]


def due(control: Running, before: str = "") -> str:
    """The next time has come: the run that begins, once it is judged."""
    control.sql("UPDATE suite_schedule SET next_at = '2026-01-01 00:00:00.000000'")
    query = "SELECT last_run FROM suite_schedule WHERE last_run = judged AND last_run != ?"
    eventually(lambda: bool(control.sql(query, before)), 20)
    ((run,),) = control.sql(query, before)
    return str(run)


def test_what_becomes_worse_is_said_until_it_is_accepted_or_gone(
    control: Running, client: httpx.Client, gateway: Upstream
) -> None:
    made = put(client)
    assert (made["at"], made["every_hours"], made["enabled"], made["last_run"]) == ("06:30", None, True, None)
    assert made["next_at"].endswith("T22:30:00Z")
    first = due(control)
    assert shown(client)["baseline"] == first
    assert client.get(f"{RUNS}/{first}").json()["created_by"] == "engineer"
    assert client.post(f"{PLACE}/accept").json()["code"] == "nothing_worse"
    gateway.on("good", says("no"))
    second = due(control, first)
    found = shown(client)
    assert [(one["candidate"], one["scorer"], one["verdict"]) for one in found["regressions"]] == [
        ("good", "says yes", "worse")
    ]
    assert found["baseline"] == first
    assert client.get(f"{SUITES}/questions").json()["regressed"]
    entries = control.admin.get("/api/v1/audit", params={"resource_kind": "suite"}).json()["items"]
    assert [(one["actor"], one["resource"]) for one in entries if one["action"] == "regression"] == [
        ("schedule", "questions")
    ]
    third = due(control, second)
    assert shown(client)["regressions"], "it is still worse than it was"
    assert client.post(f"{PLACE}/accept").json()["baseline"] == third
    assert not client.get(SUITES).json()["items"][0]["regressed"]
    gateway.on("good", says("yes"))
    fourth = due(control, third)
    assert shown(client)["baseline"] == fourth, "better is no regression"
    assert client.delete(PLACE).status_code == 204
    assert shown(client) is None
    assert client.get(RUNS).json()["total"] == 4


def test_times_that_went_by_are_one_run_and_two_processes_begin_it_once(
    control: Running, client: httpx.Client, gateway: Upstream
) -> None:
    gateway.on("good", says("yes", 0.5))
    put(client, at=None, every_hours=2)
    began = datetime.now(UTC).replace(microsecond=0)

    async def looks() -> None:
        """Other processes do what this one does, at the same time."""
        others = [Database(control.settings.database_url) for _ in range(3)]
        control.sql("UPDATE suite_schedule SET next_at = '2026-01-01 01:07:00.000000'")
        await asyncio.gather(*(schedules.look(one) for one in others))
        for one in others:
            await one.close()

    asyncio.run(looks())
    (only,) = client.get(RUNS).json()["items"]
    found = shown(client)
    assert found["last_run"] == only["id"]
    following = datetime.fromisoformat(found["next_at"])
    assert 0 < (following - began).total_seconds() <= 7200 + 30
    assert (following.hour % 2, following.minute) == (1, 7), "in step with the times before"
    control.sql("UPDATE suite_schedule SET next_at = '2026-01-01 01:07:00.000000'")
    eventually(lambda: "still under way" in shown(client)["message"])
    state(client, only["id"], "done", seconds=60)
    assert client.get(RUNS).json()["total"] == 1


def test_what_cannot_begin_is_said_and_tried_at_the_next_time(control: Running, client: httpx.Client) -> None:
    put(client)
    control.sql("UPDATE user_account SET enabled = 0 WHERE username = 'engineer'")
    control.sql("UPDATE suite_schedule SET next_at = '2026-01-01 00:00:00.000000'")
    place = control.admin
    eventually(lambda: "may not do it any more" in shown(place)["message"])
    assert datetime.fromisoformat(shown(place)["next_at"]) > datetime.now(UTC)
    put(place, enabled=False)
    control.sql("UPDATE suite_schedule SET next_at = '2026-01-01 00:00:00.000000'")
    time.sleep(0.6)  # three looks
    assert shown(place)["last_run"] is None
    assert place.get(RUNS).json()["total"] == 0


def test_what_is_no_schedule_is_refused(control: Running, client: httpx.Client) -> None:
    for changes in (
        {"at": None}, {"every_hours": 3}, {"at": None, "every_hours": 0}, {"at": "24:00"}, {"at": "6:30"},
        {"at": None, "every_hours": True}, {"timezone": "Mars/Base"}, {"timezone": "../etc"}, {"timezone": "\x00"},
        {"run": {}}, {"run": {"candidates": [{"route": "nobody"}]}}, {"run": 1}, {"enabled": 1}, {"more": 1},
        {"run": DAILY["run"] | {"key": "nobody"}}, {"run": DAILY["run"] | {"version": 9}},
    ):  # fmt: skip
        answer = client.put(PLACE, json=DAILY | changes)
        assert answer.status_code in (404, 422), (changes, answer.text)
    assert shown(client) is None
    put(client)
    assert control.as_("viewer").put(PLACE, json=DAILY).status_code == 403
    assert client.delete(f"{SUITES}/questions").status_code == 204
    assert control.sql("SELECT count(*) FROM suite_schedule") == [(0,)]


@pytest.mark.parametrize(
    ("times", "moment", "following"),
    [
        ({"at": "06:30", "timezone": "Asia/Shanghai"}, "2026-11-28T22:29:59", "2026-11-28T22:30:00"),
        ({"at": "06:30", "timezone": "Asia/Shanghai"}, "2026-11-28T22:30:00", "2026-11-29T22:30:00"),
        ({"at": "02:30", "timezone": "Europe/Berlin"}, "2026-03-29T00:00:00", "2026-03-29T01:30:00"),  # left out
        ({"at": "02:30", "timezone": "Europe/Berlin"}, "2026-10-25T00:00:00", "2026-10-25T00:30:00"),  # twice
        ({"at": "02:30", "timezone": "Europe/Berlin"}, "2026-10-25T00:30:00", "2026-10-26T01:30:00"),
        ({"at": "00:00", "timezone": "Pacific/Kiritimati"}, "2026-12-31T09:00:00", "2026-12-31T10:00:00"),
        ({"every_hours": 6}, "2026-11-28T00:00:00", "2026-11-28T06:00:00"),
        ({"every_hours": 6}, "2026-11-29T06:00:00", "2026-11-29T12:00:00"),
        ({"every_hours": 6}, "2026-11-29T05:59:59", "2026-11-29T06:00:00"),
    ],
)
def test_the_next_time(times: dict[str, Any], moment: str, following: str) -> None:
    last = datetime(2026, 11, 28, tzinfo=UTC)
    found = Times.model_validate(times).after(datetime.fromisoformat(f"{moment}+00:00"), last)
    assert found == datetime.fromisoformat(f"{following}+00:00")
