"""Ledger rows into the sums that reports read: one statement per table and batch, which reads nothing before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Table, func
from sqlalchemy.ext.asyncio import AsyncSession

from control.kit.upsert import upsert
from control.models import ROLLUPS, UsageRow
from control.models.rollups import COUNTERS, DURATIONS, LENGTHS, SUMS, TOKENS, TTFTS, counter, span_of, unique_of

HOUR = 3600
Sums = dict[str, Any]


def hours(moment: datetime) -> int:
    """Whole hours since 1970."""
    return int(moment.timestamp() // HOUR)


async def add(session: AsyncSession, rows: Sequence[UsageRow], tables: Sequence[Table] = ROLLUPS) -> None:
    """Count new ledger rows (at least one). The `usage` counter is locked."""
    for table in tables:
        await upsert(session, table, unique_of(table), sum_up(table, rows), partial(_added, table))


def sum_up(table: Table, rows: Iterable[UsageRow]) -> list[Sums]:
    """Rows of a rollup that these ledger rows alone would make."""
    time, *unique = unique_of(table)
    parts = [name for name in LENGTHS if name in table.c]
    found: dict[tuple[Any, ...], Sums] = {}
    for row in rows:
        place = (hours(row.ts) // span_of(table), *(getattr(row, name)[: LENGTHS[name]] for name in unique))
        sums = found.get(place)
        if sums is None:
            sums = found[place] = {time: place[0]} | {name: getattr(row, name)[: LENGTHS[name]] for name in parts}
            sums |= dict.fromkeys(SUMS, 0) | dict.fromkeys(COUNTERS)
        _count(sums, row)
    return list(found.values())


def _count(sums: Sums, row: UsageRow) -> None:
    sums["requests"] += 1
    sums["failed"] += row.end != "success"
    for name in TOKENS:
        sums[name] += getattr(row, name)
    sums["cost_nano"] += row.cost_nano
    if row.cache is not None:
        sums["cached"] += row.cache["result"] in ("hit", "semantic")
        sums["saved_nano"] += row.cache["saved_nano"]
    sums["duration_ms"] += row.duration_ms
    name = DURATIONS[counter(row.duration_ms)]
    sums[name] = (sums[name] or 0) + 1
    if row.ttft_ms is not None:
        sums["ttft_ms"] += row.ttft_ms
        sums["ttft_count"] += 1
        name = TTFTS[counter(row.ttft_ms)]
        sums[name] = (sums[name] or 0) + 1


def _added(table: Table, new: Any) -> dict[str, Any]:
    added = {name: table.c[name] + new[name] for name in SUMS}
    # of two NULLs, NULL stays
    return added | {n: func.coalesce(table.c[n] + new[n], table.c[n], new[n]) for n in COUNTERS}
