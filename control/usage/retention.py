"""Deletes what is older than the settings say: ledger rows, sums by hour, and what breakers did.

A sweep goes batch by batch, each a transaction of its own under the lock of the `retention` counter: one process works
at a time, ingest gets its turn in between, and one that is killed has lost nothing but the rest of the work. The
counter holds how many rows have gone, and the hour of the last whole sweep, so that replicas do not repeat it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, select
from sqlalchemy.orm import InstrumentedAttribute

from control.db import Database, lock
from control.kit.audit import Actor, note
from control.kit.periodic import every
from control.models import BreakerSpan, Counter, Quarantine, UsageRow
from control.models.base import now
from control.models.rollups import usage_hour, usage_place_hour
from control.settings import RetentionTable
from control.usage.rollup import hours

log = logging.getLogger("tunegate.control.retention")
BATCH = 1000
PAUSE = 0.05
"""Seconds between two batches, for those who want to write."""
EVERY = 600.0
"""Seconds between two looks whether this hour has been swept."""


@dataclass(frozen=True, slots=True)
class Old:
    """Rows of one table that are to go."""

    name: str
    table: Any
    id: ColumnElement[int] | InstrumentedAttribute[int]
    condition: ColumnElement[bool]


async def run(db: Database, settings: RetentionTable) -> None:
    """Sweep every hour until cancelled; nothing to do where everything is kept for ever."""
    if settings.ledger_days or settings.hourly_days or settings.health_days:
        await every(EVERY, lambda: sweep(db, settings, now()), "retention: what is old cannot be deleted now")


async def sweep(db: Database, settings: RetentionTable, moment: datetime) -> dict[str, int]:
    """Delete everything that is too old at this moment, unless that was done in this hour; rows by table."""
    hour = moment.astimezone(UTC).strftime("%Y-%m-%dT%H")
    async with db.read() as session:
        done = await session.scalar(select(Counter.text).where(Counter.name == "retention"))
    if done is not None and done >= hour:
        return {}
    gone: dict[str, int] = {}
    for old in _old(settings, moment):
        while deleted := await _batch(db, old):
            gone[old.name] = gone.get(old.name, 0) + deleted
            await asyncio.sleep(PAUSE)
    async with db.write() as session:
        counter = await lock(session, "retention")
        counter.text = max(counter.text, hour)
        if gone:
            note(session, Actor("retention"), "delete", "usage", hour, after=gone)
    if gone:
        log.warning("retention: deleted %s", ", ".join(f"{count} rows of {name}" for name, count in gone.items()))
    return gone


def _old(settings: RetentionTable, moment: datetime) -> Iterator[Old]:
    if settings.ledger_days:
        cut = moment - timedelta(days=settings.ledger_days)
        yield Old("usage_event", UsageRow, UsageRow.seq, UsageRow.ts < cut)
        yield Old("usage_quarantine", Quarantine, Quarantine.id, Quarantine.received_at < cut)
    if settings.hourly_days:
        day = hours(moment - timedelta(days=settings.hourly_days)) // 24  # whole days go: other sums know no parts
        for table in (usage_hour, usage_place_hour):
            yield _hourly(table, day * 24)
    if settings.health_days:
        ended = BreakerSpan.ended_at < moment - timedelta(days=settings.health_days)
        yield Old("breaker_span", BreakerSpan, BreakerSpan.id, ended)


def _hourly(table: Table, first: int) -> Old:
    return Old(table.name, table, table.c.id, table.c.hour < first)


async def _batch(db: Database, old: Old) -> int:
    """Delete up to `BATCH` rows; how many there were."""
    async with db.write() as session:
        counter = await lock(session, "retention")
        ids = (await session.scalars(select(old.id).where(old.condition).limit(BATCH))).all()
        if ids:
            await session.execute(delete(old.table).where(old.id.in_(ids)))
            counter.value += len(ids)
        return len(ids)
