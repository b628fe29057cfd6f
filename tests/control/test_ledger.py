"""The ledger on every database: each event once, sums exact to the nano-unit, an audit chain that shows tampering."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update

from control.audit.endpoints import verify
from control.db import Database
from control.kit.audit import Actor, note
from control.migrations.run import migrate
from control.models import ApiKey, AuditRow, Counter, Quarantine, SpendRow, Team, UsageRow
from control.models.base import new_id, now
from control.models.rollups import ROLLUPS, usage_hour
from control.usage import ingest
from control.usage.spend import spend_after
from control.usage.windows import window_of
from gateway.contract.internal import UsageBatch


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Database]:
    db = Database(url)
    try:
        await migrate(db.engine)
        yield db
    finally:
        await db.close()


def event(**changed: Any) -> dict[str, Any]:
    return {
        "v": 1, "id": str(uuid.uuid4()), "ts": time.time() - 1, "request_id": "r1", "key": "first@alice",
        "team": None, "operation": "chat", "model": "gpt", "route": "gpt", "endpoint": "openai",
        "upstream_model": "gpt-x", "snapshot": "c1", "stream": True, "end": "success", "status": 200, "error": "",
        "tokens": {"input": 10, "cache_read": 1, "cache_write": 2, "output": 5, "reasoning": 3},
        "usage_source": "provider", "cost_nano": 1_234_567, "ttft_ms": 12.5, "duration_ms": 80.0,
        "attempts": [{"endpoint": "openai", "model": "gpt-x", "status": 200, "error": "", "ms": 12.0}],
    } | changed  # fmt: skip


async def send(db: Database, *events: dict[str, Any]) -> tuple[int, int, int]:
    async with db.write() as session:
        ack = await ingest.store(session, UsageBatch(gateway="g1", events=events))
    return ack.stored, ack.duplicates, ack.quarantined


async def add_key(db: Database, name: str, *, team: str | None = None, budgets: list[Any] | None = None) -> None:
    owner_kind, owner = ("team", team) if team else ("user", name.partition("@")[2])
    async with db.write() as session:
        session.add(
            ApiKey(
                id=new_id(), public_name=name, name=name.partition("@")[0], owner_kind=owner_kind, owner=owner,
                digest=uuid.uuid4().hex * 2, prefix="sk-tg-x", created_at=now(), updated_at=now(),
                created_by="test", budgets=budgets or [],
            )
        )  # fmt: skip


def run(url: str, work: Callable[[Database], Awaitable[None]]) -> None:
    async def main() -> None:
        async with database(url) as db:
            await work(db)

    asyncio.run(main())


def test_an_event_that_arrives_again_is_counted_once(database_url: str) -> None:
    async def work(db: Database) -> None:
        looked_up = {"outcome": "found", "passages": 3, "ms": 7.5, "indexes": {"handbook": 2}, "trial": True}
        one, two = event(retrieval=looked_up), event(cost_nano=5)
        assert await send(db, one, two) == (2, 0, 0)
        assert await send(db, two, one, one) == (0, 3, 0)
        assert await send(db, event(id=one["id"], cost_nano=99)) == (0, 1, 0)
        async with db.read() as session:
            assert await session.scalar(select(func.sum(UsageRow.cost_nano))) == 1_234_572
            assert await session.scalar(select(func.sum(usage_hour.c.cost_nano))) == 1_234_572
            row = (await session.scalars(select(UsageRow).where(UsageRow.id == one["id"]))).one()
            assert row.ts.tzinfo == UTC
            assert abs(row.ts.timestamp() - one["ts"]) < 2e-6, "to the microsecond"
            assert (row.input_tokens, row.reasoning_tokens, row.duration_ms) == (10, 3, 80.0)
            assert row.attempts[0]["endpoint"] == "openai"
            assert row.retrieval == looked_up
            assert await session.scalar(select(func.count()).where(UsageRow.retrieval.is_(None))) == 1

    run(database_url, work)


def test_hits_of_a_response_cache_are_counted_and_what_they_saved(database_url: str) -> None:
    async def work(db: Database) -> None:
        told: list[dict[str, Any] | None] = [
            {"result": "hit", "age": 3, "saved_nano": 70}, {"result": "semantic", "age": 0, "saved_nano": 7},
            {"result": "miss", "age": 0, "saved_nano": 0}, {"result": "bypass"}, None,
        ]  # fmt: skip
        events = [event(cost_nano=number, **({"cache": one} if one else {})) for number, one in enumerate(told)]
        assert await send(db, *events) == (5, 0, 0)
        assert await send(db, events[0]) == (0, 1, 0)
        wrong = [{"result": "found"}, {"result": "hit", "saved_nano": -1}, {"result": "hit", "saved_nano": 2**62}, {}]
        assert await send(db, *(event(cache=one) for one in wrong)) == (0, 0, 4)
        async with db.read() as session:
            for rollup in ROLLUPS:
                sums = select(*(func.sum(rollup.c[name]) for name in ("requests", "cached", "saved_nano", "cost_nano")))
                assert tuple(map(int, (await session.execute(sums)).one())) == (5, 2, 77, 10), rollup.name
            kept = (await session.scalars(select(UsageRow.cache).order_by(UsageRow.cost_nano))).all()
            assert kept[:2] == told[:2]
            assert kept[3:] == [{"result": "bypass", "age": 0, "saved_nano": 0}, None]

    run(database_url, work)


def test_writers_at_the_same_time_lose_and_double_nothing(database_url: str) -> None:
    async def work(db: Database) -> None:
        await add_key(db, "first@alice", budgets=[{"amount": "5", "window": "total", "timezone": "UTC"}])
        events = [event(cost_nano=random.Random(n).randrange(10**9)) for n in range(120)]
        batches = [events[start : start + 20] for start in range(0, 120, 10)]  # each event in two batches
        stored = sum(ack[0] for ack in await asyncio.gather(*(send(db, *batch) for batch in batches)))
        total = sum(e["cost_nano"] for e in events)
        assert stored == 120
        async with db.read() as session:
            assert await session.scalar(select(func.sum(UsageRow.cost_nano))) == total
            assert await session.scalar(select(func.sum(usage_hour.c.cost_nano))) == total
            assert await session.scalar(select(func.sum(usage_hour.c.requests))) == 120
            assert await session.scalar(select(SpendRow.nano)) == total

    run(database_url, work)


def test_what_is_no_event_is_kept_apart_and_stops_nothing(database_url: str) -> None:
    async def work(db: Database) -> None:
        bad = [
            event(cost_nano=-1), event(cost_nano=2**63), event(ts=1e18), event(ts=float("nan")), {}, event(extra=1),
            event(key="k" * 300), event(id=""), event(tokens={"input": -1}),
        ]  # fmt: skip
        assert await send(db, *bad, event()) == (1, 0, len(bad))
        async with db.read() as session:
            rows = (await session.scalars(select(Quarantine))).all()
            assert len(rows) == len(bad)
            assert all(row.reason and row.event for row in rows)

    run(database_url, work)


def test_a_budget_that_comes_later_knows_what_was_spent_before(database_url: str) -> None:
    async def work(db: Database) -> None:
        await send(db, event(key="late@alice", cost_nano=700), event(key="late@alice", cost_nano=1, ts=1_600_000_000))
        await add_key(
            db, "late@alice",
            budgets=[{"amount": "1", "window": "day", "timezone": "Asia/Shanghai"},
                     {"amount": "1", "window": "total", "timezone": "UTC"}],
        )  # fmt: skip
        await send(db, event(key="late@alice", cost_nano=30))
        async with db.read() as session:
            spend = await spend_after(session, 0)
        assert {(s.window, s.nano) for s in spend.spent if s.name == "late@alice"} >= {("total", 731)}
        assert {s.nano for s in spend.spent if s.window == "day"} == {730}
        async with db.read() as session:
            again = await spend_after(session, spend.cursor)
        assert (again.cursor, again.spent) == (spend.cursor, ())

    run(database_url, work)


def test_a_teams_budget_counts_all_its_keys(database_url: str) -> None:
    async def work(db: Database) -> None:
        async with db.write() as session:
            session.add(Team(name="lab", budgets=[{"amount": "1", "window": "month", "timezone": "UTC"}], limits={}))
        await add_key(db, "a@lab", team="lab")
        await send(db, event(key="a@lab", team="lab", cost_nano=3), event(key="b@lab", team="lab", cost_nano=4))
        async with db.read() as session:
            spent = (await spend_after(session, 0)).spent
        assert [(s.scope, s.name, s.window, s.nano) for s in spent] == [("team", "lab", "month", 7)]

    run(database_url, work)


@pytest.mark.parametrize(
    ("span", "zone", "moment", "start", "end"),
    [
        ("day", "Asia/Shanghai", "2026-03-01T16:30:00+00:00", "2026-03-01T16:00:00+00:00", "2026-03-02T16:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-03-29T12:00:00+00:00", "2026-03-28T23:00:00+00:00", "2026-03-29T22:00:00+00:00"),
        ("week", "UTC", "2026-11-29T23:59:59+00:00", "2026-11-23T00:00:00+00:00", "2026-11-30T00:00:00+00:00"),
        ("month", "UTC", "2026-12-31T23:00:00+00:00", "2026-12-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
    ],
)
def test_windows_are_those_of_the_calendar(span: str, zone: str, moment: str, start: str, end: str) -> None:
    found = window_of(span, zone, datetime.fromisoformat(moment))
    assert found == (datetime.fromisoformat(start).timestamp(), datetime.fromisoformat(end).timestamp())


def test_the_audit_chain_shows_what_was_changed_or_taken_out(database_url: str) -> None:
    async def work(db: Database) -> None:
        async def add() -> None:
            async with db.write() as session:
                note(session, Actor("alice"), "update", "key", "k", {"api_key": "sk-1"}, {"名": "值", "limits": {}})

        await asyncio.gather(*(add() for _ in range(10)))
        async with db.read() as session:
            assert (await verify(session)).model_dump() == {"rows": 10, "intact": True, "broken_at": None}
            assert "sk-1" not in "".join(await session.scalars(select(AuditRow.before)))
        async with db.write() as session:
            await session.execute(update(AuditRow).where(AuditRow.seq == 4).values(actor="mallory"))
        async with db.read() as session:
            assert (await verify(session)).broken_at == 4
        async with db.write() as session:
            await session.execute(update(AuditRow).where(AuditRow.seq == 4).values(actor="alice"))
            await session.execute(delete(AuditRow).where(AuditRow.seq == 10))
        async with db.read() as session:
            assert (await verify(session)).broken_at == 10

    run(database_url, work)


def test_an_audit_entry_and_its_change_are_one(database_url: str) -> None:
    async def work(db: Database) -> None:
        async def fails() -> None:
            async with db.write() as session:
                session.add(Team(name="ghost", limits={}, budgets=[]))
                note(session, Actor("alice"), "create", "team", "ghost")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fails()
        async with db.read() as session:
            assert await session.scalar(select(func.count()).select_from(Team)) == 0
            assert await session.scalar(select(func.count()).select_from(AuditRow)) == 0
            assert await session.scalar(select(Counter.value).where(Counter.name == "config")) == 1

    run(database_url, work)
