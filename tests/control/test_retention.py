"""Old usage goes in small batches, and what was spent stays true: on every database."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from control.db import Database
from control.models import AuditRow, BreakerSpan, Counter, Quarantine, UsageRow
from control.models.base import now
from control.models.rollups import usage_caller_day, usage_hour, usage_owner_shift, usage_place_hour
from control.settings import RetentionTable
from control.usage import retention
from control.usage.spend import spend_after
from tests.control.test_ledger import add_key, event, run, send

DAY = 86_400.0


def aged(days: float, **more: Any) -> dict[str, Any]:
    return event(ts=time.time() - days * DAY, **more)


async def count(db: Database, table: Any) -> int:
    async with db.read() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture(autouse=True)
def in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 7)
    monkeypatch.setattr(retention, "PAUSE", 0)


def test_old_rows_go_and_sums_stay(database_url: str) -> None:
    async def work(db: Database) -> None:
        await send(db, *(aged(50) for _ in range(30)), *(aged(1) for _ in range(5)), {"bad": 1})
        gone = await retention.sweep(db, RetentionTable(ledger_days=40), now())
        assert gone == {"usage_event": 30}
        assert await count(db, UsageRow) == 5
        assert await count(db, Quarantine) == 1
        async with db.read() as session:
            for table in (usage_hour, usage_place_hour, usage_owner_shift, usage_caller_day):
                assert await session.scalar(select(func.sum(table.c.requests))) == 35
            assert await session.scalar(select(Counter.value).where(Counter.name == "retention")) == 30
            audit = (await session.scalars(select(AuditRow))).one()
            assert (audit.actor, audit.action, audit.after) == ("retention", "delete", '{"usage_event":30}')
        assert await retention.sweep(db, RetentionTable(ledger_days=40), now()) == {}, "once an hour is enough"
        later = now() + timedelta(days=60)
        assert await retention.sweep(db, RetentionTable(ledger_days=40), later) == {
            "usage_event": 5, "usage_quarantine": 1,
        }  # fmt: skip

    run(database_url, work)


def test_sums_by_hour_go_by_whole_days(database_url: str) -> None:
    async def work(db: Database) -> None:
        morning = now().replace(hour=6, minute=0, second=0)
        ages = [100 - n / 24 for n in range(48)]  # hour by hour; at 99 days and 6 hours a day began
        old = [event(ts=morning.timestamp() - age * DAY, route=f"r{n}") for n, age in enumerate(ages)]
        await send(db, *old, aged(1))
        gone = await retention.sweep(db, RetentionTable(ledger_days=35, hourly_days=99), morning)
        assert gone == {"usage_event": 48, "usage_hour": 18, "usage_place_hour": 18}
        async with db.read() as session:
            assert (await session.scalar(select(func.min(usage_hour.c.hour))) or 1) % 24 == 0
            assert await session.scalar(select(func.sum(usage_caller_day.c.requests))) == 49

    run(database_url, work)


def test_what_breakers_did_goes_when_its_days_are_over(database_url: str) -> None:
    async def work(db: Database) -> None:
        def span(days: float | None) -> BreakerSpan:
            ended = None if days is None else now() - timedelta(days=days)
            return BreakerSpan(
                gateway="g", endpoint="e", target="e/m", credential="", state="open", error="", ended="closed",
                began_at=now() - timedelta(days=100), ended_at=ended,
            )  # fmt: skip

        async with db.write() as session:
            session.add_all([*(span(91) for _ in range(20)), span(89), span(None)])
        kept_for_ever = RetentionTable(ledger_days=0, health_days=0)
        assert await retention.sweep(db, kept_for_ever, now() - timedelta(hours=2)) == {}
        assert await retention.sweep(db, RetentionTable(ledger_days=0), now()) == {"breaker_span": 20}
        assert await count(db, BreakerSpan) == 2

    run(database_url, work)


def test_budgets_stay_exact_after_the_ledger_has_gone(database_url: str) -> None:
    async def work(db: Database) -> None:
        total = [{"amount": "1", "window": "total", "timezone": "UTC"}]
        await add_key(db, "before@alice", budgets=total)
        old, new = aged(50, cost_nano=700), aged(1, cost_nano=30)
        for key in ("before@alice", "after@alice"):
            await send(db, *(one | {"key": key, "id": key + one["id"][:20]} for one in (old, new)))
        assert await retention.sweep(db, RetentionTable(ledger_days=40), now()) == {"usage_event": 2}
        month = {"amount": "1", "window": "month", "timezone": "UTC"}
        await add_key(db, "after@alice", budgets=[*total, month])
        for key in ("before@alice", "after@alice"):
            await send(db, event(key=key, cost_nano=1))
        async with db.read() as session:
            spent = (await spend_after(session, 0)).spent
        assert {(s.name, s.nano) for s in spent if s.window == "total"} == {("before@alice", 731), ("after@alice", 731)}

    run(database_url, work)


def test_killed_half_way_it_goes_on_later_and_two_at_a_time_do_not_clash(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(db: Database) -> None:
        await send(db, *(aged(50, cost_nano=1) for _ in range(60)), aged(1, cost_nano=5))
        settings, batches = RetentionTable(ledger_days=40), 0
        real = retention._batch

        async def dies(database: Database, old: retention.Old) -> int:
            nonlocal batches
            batches += 1
            if batches == 4:
                raise KeyboardInterrupt  # as final as a kill for the code on the way
            return await real(database, old)

        with monkeypatch.context() as patched:
            patched.setattr(retention, "_batch", dies)
            with pytest.raises(KeyboardInterrupt):
                await retention.sweep(db, settings, now())
        assert await count(db, UsageRow) == 61 - 3 * 7
        swept = await asyncio.gather(*(retention.sweep(db, settings, now()) for _ in range(3)), send(db, event()))
        assert sum(gone.get("usage_event", 0) for gone in swept[:3]) == 60 - 21  # type: ignore[union-attr]
        assert await count(db, UsageRow) == 2
        async with db.read() as session:
            assert await session.scalar(select(Counter.value).where(Counter.name == "retention")) == 60
            assert await session.scalar(select(func.sum(usage_hour.c.requests))) == 62

    run(database_url, work)


def test_a_database_that_is_down_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        calls, enough = 0, asyncio.Event()

        async def fails(*_: object) -> dict[str, int]:
            nonlocal calls
            calls += 1
            if calls == 3:
                enough.set()
            raise OSError("connection refused")

        monkeypatch.setattr(retention, "sweep", fails)
        monkeypatch.setattr(retention, "EVERY", 0.01)
        db = Database("sqlite+aiosqlite:////nowhere")
        task = asyncio.create_task(retention.run(db, RetentionTable()))
        await enough.wait()
        task.cancel()
        await retention.run(db, RetentionTable(ledger_days=0, health_days=0))  # for ever: there is nothing to do

    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize("wrong", [{"ledger_days": 34}, {"ledger_days": -1}, {"hourly_days": 399},
                                   {"ledger_days": 0, "hourly_days": 30_000_000}])  # fmt: skip
def test_settings_that_would_lose_what_budgets_need_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        RetentionTable(**wrong)
