"""What a scrape of control looks up, on every database: states, ages, and how late usage arrives."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import update

from control.db import Database
from control.jobs.states import STATES
from control.models import KnowledgeBase, KnowledgeDocument, KnowledgeEntry, KnowledgeIndex, UsageRow
from control.models.base import new_id, now
from control.monitoring import figures
from control.settings import ConsoleTable, Settings
from tests.control.test_gateways import report
from tests.control.test_job_states import fresh
from tests.control.test_ledger import add_key, event, run, send


def looking(db: Database, folder: Path) -> figures.Look:
    parts = SimpleNamespace(
        db=db, settings=Settings(console=ConsoleTable(data_dir=folder)), publisher=SimpleNamespace(failing=False)
    )
    return figures.Look(cast(Any, parts))


async def told(look: figures.Look) -> dict[tuple[str, ...], float]:
    """(metric, label values…) -> value."""
    return {(name, *labels): value for name, samples in (await look.figures()).items() for labels, value in samples}


async def waits(db: Database, hours: int, state: str) -> None:
    """A document of this age in an index."""
    async with db.write() as session:
        at = now() - timedelta(hours=hours)
        base = KnowledgeBase(name=f"b-{state}", owner_kind="user", owner="alice")
        session.add(base)
        await session.flush()
        index = KnowledgeIndex(
            id=new_id(), base_id=base.id, number=1, state="live", embedding={}, chunking={}, created_at=at,
            created_by="alice",
        )  # fmt: skip
        document = KnowledgeDocument(
            id=new_id(), base_id=base.id, name="a", sha256="0" * 64, size=1, created_at=at, created_by="alice"
        )
        session.add_all([index, document])
        await session.flush()
        session.add(KnowledgeEntry(index_id=index.id, document_id=document.id, state=state, not_before=at))


def test_figures_are_what_the_database_holds(database_url: str, tmp_path: Path) -> None:
    async def work(db: Database) -> None:
        look = looking(db, tmp_path)
        empty = await told(look)
        assert {labels[1]: value for labels, value in empty.items() if labels[0] == "tunegate_jobs"} == dict.fromkeys(
            STATES, 0
        )
        assert ("tunegate_ledger_lag_seconds",) not in empty, "nothing has arrived"
        async with db.write() as session:
            for name, hours in (("old", 2), ("new", 1)):
                job = fresh(name, "queued")
                job.queued_at = now() - timedelta(hours=hours)
                session.add(job)
        await report(db, "g/w0")
        await waits(db, 3, "waiting")
        await waits(db, 9, "failed")
        await send(db, event(duration_ms=500.0))
        full = await told(look)
        assert full["tunegate_jobs", "queued"] == 2
        assert full["tunegate_job_queue_age_seconds",] == pytest.approx(7200, abs=60)
        assert full["tunegate_knowledge_documents", "failed"] == 1
        assert full["tunegate_knowledge_queue_age_seconds",] == pytest.approx(3 * 3600, abs=60)
        assert 0 <= full["tunegate_gateway_silent_seconds", "g/w0"] < 60
        assert 0.3 < full["tunegate_ledger_lag_seconds",] < 30, "admitted a second ago, took half of it"

    run(database_url, work)


def test_a_late_event_is_as_late_as_it_is_and_clocks_that_differ_are_not_below_zero(
    database_url: str, tmp_path: Path
) -> None:
    async def work(db: Database) -> None:
        look = looking(db, tmp_path)
        await send(db, event())
        for late, seconds in ((timedelta(minutes=10), 600), (timedelta(minutes=-10), 0)):
            async with db.write() as session:
                row = (await session.execute(UsageRow.__table__.select())).one()
                await session.execute(update(UsageRow).values(received_at=row.ts + late))
            assert (await told(look))["tunegate_ledger_lag_seconds",] == pytest.approx(seconds, abs=1)

    run(database_url, work)


def test_budgets_are_counted_when_nearly_spent_and_looked_at_once_a_minute(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(db: Database) -> None:
        look = looking(db, tmp_path)
        budget = {"amount": "0.001", "window": "total", "timezone": "UTC"}
        await add_key(db, "first@alice", budgets=[budget])
        assert (await told(look))["tunegate_budgets_nearly_spent",] == 0
        await send(db, event(cost_nano=950_000))
        assert (await told(look))["tunegate_budgets_nearly_spent",] == 0, "looked at a moment ago"
        monkeypatch.setattr(figures, "BUDGETS", 0.0)
        assert (await told(look))["tunegate_budgets_nearly_spent",] == 1

    run(database_url, work)
