"""Bodies of requests on every database: once each, unreadable in a dump, gone on their day, and copies' sums apart."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from control import rewrap as rewrapping
from control.db import Database
from control.errors import Problem
from control.models import RequestBody, SpendRow, UsageRow
from control.models.base import now
from control.models.rollups import shadow_hour, usage_hour
from control.rewrap import rewrap
from control.security import Vault
from control.usage import bodies, shadows
from gateway.contract.internal import BodyBatch
from tests.control.test_ledger import add_key, event, run, send

VAULT, OTHER, BOTH = Vault(b"k" * 32), Vault(b"o" * 32), Vault(b"o" * 32, b"k" * 32)


def entry(**changed: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()), "ts": time.time() - 5, "keep_days": 7, "request": '{"q":"the question"}',
        "response": '{"a":"the answer \x00"}', "request_cut": False, "response_cut": True, "redacted": {"email": 2},
    } | changed  # fmt: skip


async def post(db: Database, *entries: dict[str, Any], vault: Vault = VAULT) -> tuple[int, int]:
    batch = BodyBatch.model_validate({"gateway": "g1", "entries": entries})
    async with db.write() as session:
        ack = await bodies.store(session, vault, batch)
    return ack.stored, ack.duplicates


async def held(db: Database, *ids: str) -> dict[str, RequestBody]:
    async with db.read() as session:
        return await bodies.find(session, ids)


def test_an_entry_is_stored_once_and_sealed(database_url: str) -> None:
    async def work(db: Database) -> None:
        one, two = entry(), entry(request=None, response="张三 😀")
        assert await post(db, one, two, one) == (2, 1)
        assert await post(db, two) == (0, 1)
        rows = await held(db, one["id"], two["id"])
        assert bodies.opened(VAULT, rows[one["id"]]) == (one["request"], one["response"])
        assert bodies.opened(VAULT, rows[two["id"]]) == (None, "张三 😀")
        row = rows[one["id"]]
        assert (row.request_cut, row.response_cut, row.redacted) == (False, True, {"email": 2})
        assert row.expires_at - row.created_at == timedelta(days=7)
        assert "question" not in row.sealed
        with pytest.raises(Problem, match="do not open"):
            bodies.opened(OTHER, row)
        row.id = two["id"]
        with pytest.raises(Problem, match="do not open"):
            bodies.opened(VAULT, row)

    run(database_url, work)


def test_two_deliveries_at_once_store_each_entry_once(database_url: str) -> None:
    async def work(db: Database) -> None:
        entries = [entry() for _ in range(20)]

        async def deliver() -> bool:
            try:
                await post(db, *entries)
            except Problem as problem:
                return problem.status != 503
            return True

        done = await asyncio.gather(*(deliver() for _ in range(4)))
        assert any(done)
        async with db.read() as session:
            assert await session.scalar(select(func.count()).select_from(RequestBody)) == 20

    run(database_url, work)


def test_bodies_go_on_their_day_in_steps_and_others_stay(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BATCH", 10)

    async def work(db: Database) -> None:
        old = [entry(ts=time.time() - 8 * 86_400) for _ in range(25)]
        young = [entry(ts=time.time() - 6 * 86_400), entry(ts=time.time() - 8 * 86_400, keep_days=9)]
        await post(db, *old, *young)
        assert await held(db, *(one["id"] for one in old)) == {}, "over is over, deleted or not"
        assert await bodies.sweep(db) == 25
        assert await bodies.sweep(db) == 0
        assert set(await held(db, *(one["id"] for one in young))) == {one["id"] for one in young}

    run(database_url, work)


def test_what_was_erased_does_not_come_back(database_url: str) -> None:
    async def work(db: Database) -> None:
        there, coming = entry(), entry()
        await send(db, event(id=there["id"]), event(id=coming["id"]))
        await post(db, there)
        for _ in range(2):
            async with db.write() as session:
                rows = (await session.scalars(select(UsageRow))).all()
                await bodies.erase(session, rows)
        assert await post(db, there, coming) == (0, 2)
        assert await held(db, there["id"], coming["id"]) == {}
        async with db.read() as session:
            states = await bodies.states(session, [there["id"], coming["id"]])
            assert [erased for _, erased in states.values()] == [True, True]
            left = (await session.execute(select(RequestBody.sealed, RequestBody.wrapped_key))).all()
        assert set(map(tuple, left)) == {("", "")}

    run(database_url, work)


def test_two_erasures_at_once_end_well(database_url: str) -> None:
    async def work(db: Database) -> None:
        one = entry()
        await send(db, event(id=one["id"]))

        async def erase() -> str:
            try:
                async with db.write() as session:
                    await bodies.erase(session, (await session.scalars(select(UsageRow))).all())
            except Problem as problem:
                return problem.code
            return "done"

        ends = await asyncio.gather(*(erase() for _ in range(4)))
        assert set(ends) <= {"done", "busy"}
        assert "done" in ends
        assert await post(db, one) == (0, 1)

    run(database_url, work)


def test_a_new_key_opens_what_the_old_one_sealed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrapping, "BATCH", 2)

    async def work(db: Database) -> None:
        entries = [entry() for _ in range(5)]
        await post(db, *entries)
        await post(db, lost := entry(), vault=Vault(b"x" * 32))
        assert await rewrap(db, BOTH, RequestBody) == (5, 1)
        assert await rewrap(db, BOTH, RequestBody) == (0, 1), "a second time, only the lost one is left"
        rows = await held(db, *(one["id"] for one in entries))
        assert [bodies.opened(OTHER, rows[one["id"]])[0] for one in entries] == [one["request"] for one in entries]
        assert lost["id"] not in rows

    run(database_url, work)


def test_a_sweep_survives_a_database_that_is_down(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        db = Database(f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}")
        task = asyncio.create_task(bodies.keep_sweeping(db))
        await asyncio.sleep(0.3)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await db.close()

    asyncio.run(work())
    assert "bodies cannot be deleted now" in caplog.text


def test_a_copy_is_in_the_ledger_and_in_no_sum_but_its_own(database_url: str) -> None:
    async def work(db: Database) -> None:
        await add_key(db, "first@alice", budgets=[{"amount": "5", "window": "total"}])
        one = event(cost_nano=100)
        copy = event(cost_nano=7, shadow_of=one["id"], endpoint="other", upstream_model="candidate", ttft_ms=None)
        failed = copy | {"id": str(uuid.uuid4()), "end": "upstream_error", "cost_nano": 0, "duration_ms": 20.0}
        assert await send(db, copy) == (1, 0, 0), "a copy may arrive first"
        assert await send(db, one, failed, copy) == (2, 1, 0)
        async with db.read() as session:
            assert await session.scalar(select(SpendRow.nano)) == 100
            assert (
                await session.execute(select(func.sum(usage_hour.c.requests), func.sum(usage_hour.c.cost_nano)))
            ).one() == (1, 100)
            assert await session.scalar(select(func.count()).select_from(UsageRow)) == 3
            moment = now()
            (line,) = await shadows.report(session, moment - timedelta(hours=1), moment)
            assert (line.route, line.endpoint, line.upstream_model) == ("gpt", "other", "candidate")
            assert (line.requests, line.failed, line.cost_nano, line.output_tokens) == (2, 1, 7, 10)
            assert (line.mean_duration_ms, line.mean_ttft_ms) == (50.0, None)
            assert await session.scalar(select(func.sum(shadow_hour.c.requests))) == 2

    run(database_url, work)


def test_a_budget_that_is_made_later_does_not_count_copies_of_before(database_url: str) -> None:
    async def work(db: Database) -> None:
        one = event(cost_nano=100)
        await send(db, one, event(cost_nano=7, shadow_of=one["id"]))
        await add_key(db, "first@alice", budgets=[{"amount": "5", "window": "total"}])
        await send(db, event(cost_nano=1))
        async with db.read() as session:
            assert await session.scalar(select(SpendRow.nano)) == 101

    run(database_url, work)


def test_a_moment_in_the_future_keeps_nothing_longer(database_url: str) -> None:
    async def work(db: Database) -> None:
        await post(db, one := entry(ts=time.time() + 1e9))
        (row,) = (await held(db, one["id"])).values()
        assert row.expires_at <= datetime.now(UTC) + timedelta(days=7)

    run(database_url, work)
