"""Reports on every database: whichever sums they read, they say what the ledger says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from control.db import Database
from control.kit.permissions import Person
from control.models import ROLLUPS, UsageRow
from control.models.base import now
from control.models.rollups import BOUNDS, counter, percentile, usage_caller_day, usage_hour, usage_owner_shift
from control.usage import reports
from control.usage.sources import Dimension, Filters, Source
from tests.control.test_ledger import add_key, event, run, send

ADMIN = Person("1", "root", "admin", "")
MEMBER = Person("2", "alice", "member", "")
KEYS = {"a@alice": None, "b@alice": None, "c@bob": None, "t@lab": "lab", "u@lab": "lab", "v@ops": "ops"}
Event = dict[str, Any]


def some_events(count: int) -> list[Event]:
    """Over ten days, an hour to the left of now and right of it included."""
    dice, end = random.Random(11), now().timestamp()
    chosen = []
    for _ in range(count):
        key = dice.choice(list(KEYS))
        chosen.append(
            event(
                ts=end - dice.random() * 10 * 86_400, key=key, team=KEYS[key], route=dice.choice(["r", "s"]),
                endpoint=dice.choice(["e1", None]), upstream_model=dice.choice(["m1", "m2"]),
                end=dice.choice(["success"] * 4 + ["upstream_error"]), cost_nano=dice.randrange(10**10),
                duration_ms=dice.random() * 20_000, ttft_ms=dice.choice([None, dice.random() * 900]),
            )
        )  # fmt: skip
    return chosen


def of(one: Event, name: str, zone: ZoneInfo) -> str:
    hour = datetime.fromtimestamp(one["ts"] // 3600 * 3600, UTC).astimezone(zone)
    match name:
        case "hour":
            return hour.isoformat()
        case "day":
            return hour.date().isoformat()
        case "owner":
            return str(one["key"]).partition("@")[2]
        case _:
            return one[name] or ""


def by_hand(events: Iterable[Event], by: Iterable[str], zone: str) -> dict[tuple[str, ...], tuple[int, int, int]]:
    sums: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for one in events:
        group = tuple(of(one, name, ZoneInfo(zone)) for name in by)
        requests, failed, nano = sums.get(group, (0, 0, 0))
        sums[group] = requests + 1, failed + (one["end"] != "success"), nano + one["cost_nano"]
    return sums


def inside(events: Iterable[Event], filters: Filters) -> list[Event]:
    first, last = filters.hours
    return [one for one in events if first <= one["ts"] // 3600 < last]


QUESTIONS: list[tuple[list[Dimension], str]] = [
    ([], "UTC"), (["day"], "UTC"), (["hour"], "Asia/Kolkata"), (["day"], "Asia/Shanghai"), (["day"], "Asia/Kathmandu"),
    (["hour", "day", "route"], "America/New_York"), (["key"], "UTC"), (["key", "day"], "UTC"), (["key", "hour"], "UTC"),
    (["key", "day"], "Asia/Shanghai"), (["team"], "UTC"), (["team", "day"], "Asia/Shanghai"),
    (["owner", "team"], "UTC"), (["team", "day"], "Europe/Berlin"), (["team", "route"], "UTC"),
    (["endpoint", "upstream_model", "operation"], "UTC"),
]  # fmt: skip


async def filled(db: Database, events: list[Event]) -> None:
    for key, team in KEYS.items():
        await add_key(db, key, team=team)
    for start in range(0, len(events), 150):
        await send(db, *events[start : start + 150])


def test_every_report_says_what_the_ledger_says(database_url: str) -> None:
    async def work(db: Database) -> None:
        events = some_events(600)
        await filled(db, events)
        for days, person, teams in ((3, ADMIN, []), (30, ADMIN, []), (0.3, ADMIN, []), (7.4, MEMBER, ["lab"])):
            filters = Filters(since=now() - timedelta(days=days), until=now())
            seen = inside(events, filters)
            if person is MEMBER:
                seen = [one for one in seen if one["team"] == "lab" or str(one["key"]).endswith("@alice")]
            for by, zone in QUESTIONS:
                asked = reports.Question(filters=filters, by=by, timezone=zone)
                async with db.read() as session:
                    answer = await reports.report(session, person, teams, asked, 1000)
                found = {
                    tuple(line.group[name] for name in by): (line.requests, line.failed, line.cost_nano)
                    for line in answer.lines
                }
                assert found == by_hand(seen, by, zone), (days, by, zone)
                assert answer.others is None
                assert answer.total.cost_nano == sum(one["cost_nano"] for one in seen)
                in_order = sorted(found) if "day" in by[:1] else list(found)
                assert list(found) == in_order

    run(database_url, work)


def test_all_sums_equal_the_ledger(database_url: str) -> None:
    async def work(db: Database) -> None:
        await filled(db, some_events(400))
        async with db.read() as session:
            facts = await session.execute(
                select(func.count(), func.sum(UsageRow.cost_nano), func.sum(UsageRow.output_tokens))
            )
            ledger = tuple(map(int, facts.one()))
            for table in ROLLUPS:
                sums = (func.sum(table.c[name]) for name in ("requests", "cost_nano", "output_tokens"))
                assert tuple(map(int, (await session.execute(select(*sums))).one())) == ledger, table.name
                counted = sum(func.coalesce(func.sum(table.c[f"duration_{n}"]), 0) for n in range(len(BOUNDS) + 1))
                assert await session.scalar(select(counted)) == ledger[0]  # type: ignore[call-overload]

    run(database_url, work)


def test_the_rest_beyond_the_top_is_summed(database_url: str) -> None:
    async def work(db: Database) -> None:
        events = some_events(400)
        await filled(db, events)
        filters = Filters(since=now() - timedelta(days=9), until=now())
        for by in (["key"], ["key", "route"], ["team", "owner"]):
            asked = reports.Question.model_validate({"filters": filters, "by": by, "timezone": "UTC"})
            async with db.read() as session:
                whole = await reports.report(session, ADMIN, [], asked, 1000)
                cut = await reports.report(session, ADMIN, [], asked, 2)
                assert await reports.complete(session, ADMIN, [], asked) == whole.lines
            assert cut.lines == whole.lines[:2]
            assert cut.total.model_dump(exclude={"mean_duration_ms", "mean_ttft_ms"}) == whole.total.model_dump(
                exclude={"mean_duration_ms", "mean_ttft_ms"}
            )
            assert cut.others is not None
            assert cut.others.requests == sum(line.requests for line in whole.lines[2:])
            assert cut.others.cost_nano == sum(line.cost_nano for line in whole.lines[2:])
            assert [line.cost_nano for line in whole.lines] == sorted(one.cost_nano for one in whole.lines)[::-1]

    run(database_url, work)


def test_in_time_the_top_is_that_of_the_whole_time(database_url: str) -> None:
    async def work(db: Database) -> None:
        await filled(db, some_events(400))
        filters = Filters(since=now() - timedelta(days=9), until=now())
        for by in (["day", "key"], ["hour", "route", "upstream_model"], ["team", "day"]):
            places = [name for name in by if name not in ("hour", "day")]
            timed = reports.Question.model_validate({"filters": filters, "by": by, "timezone": "Asia/Shanghai"})
            whole_time = reports.Question.model_validate({"filters": filters, "by": places, "timezone": "UTC"})
            async with db.read() as session:
                every = await reports.report(session, ADMIN, [], timed, 1000)
                cut = await reports.report(session, ADMIN, [], timed, 2)
                best = await reports.report(session, ADMIN, [], whole_time, 2)
            top = [{name: line.group[name] for name in places} for line in best.lines]
            assert cut.lines == [line for line in every.lines if {name: line.group[name] for name in places} in top]
            assert cut.others is not None
            assert best.others is not None
            assert cut.others.cost_nano == best.others.cost_nano
            assert cut.total.cost_nano == every.total.cost_nano

    run(database_url, work)


@pytest.mark.parametrize(("name", "value"), [("upstream_model", "m1"), ("operation", "chat"), ("operation", "none")])
def test_a_report_is_narrowed_by_what_was_called_upstream(database_url: str, name: str, value: str) -> None:
    async def work(db: Database) -> None:
        events = some_events(120)
        await filled(db, events)
        filters = Filters.model_validate({"since": now() - timedelta(days=11), "until": now(), name: value})
        asked = reports.Question(filters=filters, by=["key"], timezone="UTC")
        async with db.read() as session:
            answer = await reports.report(session, ADMIN, [], asked, 100)
        assert answer.total.requests == sum(one[name] == value for one in events)

    run(database_url, work)


HOUR_9 = datetime(2026, 11, 10, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("groups", "zone", "person", "filters", "tables"),
    [
        (["hour", "route"], "UTC", ADMIN, {}, ["usage_place_hour"]),
        (["day"], "Asia/Kolkata", ADMIN, {"endpoint": "e"}, ["usage_place_hour"]),
        (["day"], "UTC", MEMBER, {}, ["usage_owner_shift", "usage_hour", "usage_hour"]),
        (["team", "day"], "Asia/Shanghai", ADMIN, {}, ["usage_owner_shift", "usage_hour", "usage_hour"]),
        (["team", "day"], "Europe/Berlin", ADMIN, {}, ["usage_hour"]),
        (["key"], "Europe/Berlin", ADMIN, {}, ["usage_caller_day", "usage_hour", "usage_hour"]),
        (["key", "day"], "Asia/Shanghai", ADMIN, {}, ["usage_hour"]),
        (["key", "hour"], "UTC", ADMIN, {}, ["usage_hour"]),
        (["team", "route"], "UTC", ADMIN, {}, ["usage_hour"]),
        ([], "UTC", ADMIN, {"key": "k"}, ["usage_caller_day", "usage_hour", "usage_hour"]),
    ],
)
def test_a_report_reads_the_smallest_sums_that_answer_it(
    groups: list[str], zone: str, person: Person, filters: dict[str, str], tables: list[str]
) -> None:
    asked = Filters.model_validate({"since": HOUR_9, "until": HOUR_9 + timedelta(days=10, hours=3)} | filters)
    pieces = Source(asked, zone, person, [], "sqlite").pieces(groups)
    assert [piece[0].name for piece in pieces] == tables
    spans = {usage_hour: 1, usage_owner_shift: 8, usage_caller_day: 24}
    read = sum((last - first) * spans.get(table, 1) for table, first, last in pieces)
    assert read == 243, "no hour is left out or counted twice"


def test_clocks_that_change_make_days_of_23_and_25_hours() -> None:
    since = datetime(2026, 10, 24, 12, tzinfo=UTC)  # Berlin goes back on the 25th, at 1:00 UTC
    source = Source(Filters(since=since, until=since + timedelta(days=2)), "Europe/Berlin", ADMIN, [], "sqlite")
    first, _ = source.filters.hours
    assert source._offsets() == [(first, 120), (first + 13, 60)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda dice: dice.lognormvariate(6, 1.2), lambda dice: dice.random() * 300, lambda dice: 5.0,
        lambda dice: 8.0, lambda dice: dice.choice([3.0, 30_000.0]), lambda dice: dice.expovariate(1 / 40_000),
    ],
)  # fmt: skip
def test_percentiles_are_off_by_less_than_a_factor_of_two(draw: Callable[[random.Random], float]) -> None:
    dice = random.Random(5)
    times = sorted(draw(dice) for _ in range(1_000))
    counts = [0] * (len(BOUNDS) + 1)
    for one in times:
        counts[counter(one)] += 1
    for part in (0.01, 0.5, 0.95, 1.0):
        exact, found = times[max(0, int(part * 1000) - 1)], percentile(counts, part)
        assert found is not None
        assert exact / 2 <= found <= exact * 2 or max(exact, found) <= BOUNDS[0] or found == BOUNDS[-1]


def test_percentiles_of_nothing_and_of_the_longest() -> None:
    assert percentile([0] * 18, 0.5) is None
    assert percentile([0] * 17 + [3], 0.5) == BOUNDS[-1]
    assert counter(0) == 0
    assert counter(8) == 1
    assert counter(1e12) == 17
