"""What shadow targets did and cost: sums of their own, since no key, team or budget is charged for a copy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Integer, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.models import ShadowHour, UsageRow

_PLACE = ("route", "endpoint", "upstream_model", "operation")
_SUMS = (
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_nano",
    "duration_ms",
)  # fmt: skip


class ShadowSums(BaseModel):
    """What one shadow target did."""

    route: str
    endpoint: str
    upstream_model: str
    operation: str
    requests: int
    failed: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nano: int
    mean_duration_ms: float
    mean_ttft_ms: float | None


async def add(session: AsyncSession, rows: Sequence[UsageRow]) -> None:
    """Count new copies. The `usage` counter is locked."""
    sums: dict[tuple[Any, ...], ShadowHour] = {}
    for row in rows:
        place = {
            "hour": row.ts.replace(minute=0, second=0, microsecond=0), "route": row.route,
            "endpoint": row.endpoint[:120], "upstream_model": row.upstream_model[:160],
            "operation": row.operation[:16], "failed": row.end != "success",
        }  # fmt: skip
        total = sums.get(tuple(place.values()))
        if total is None:
            total = await session.scalar(select(ShadowHour).filter_by(**place))
        if total is None:
            total = ShadowHour(**place, requests=0, ttft_ms=0.0, ttft_count=0, **dict.fromkeys(_SUMS, 0))
            session.add(total)
        sums[tuple(place.values())] = total
        total.requests += 1
        for name in _SUMS:
            setattr(total, name, getattr(total, name) + getattr(row, name))
        if row.ttft_ms is not None:
            total.ttft_ms += row.ttft_ms
            total.ttft_count += 1


async def report(session: AsyncSession, since: datetime, until: datetime) -> list[ShadowSums]:
    """Sums by target, the most expensive first; `since` is rounded down to a whole hour."""
    columns = [getattr(ShadowHour, name) for name in _PLACE]
    numbers = [
        func.sum(getattr(ShadowHour, name)).label(name) for name in ("requests", *_SUMS, "ttft_ms", "ttft_count")
    ]
    failed = func.sum(ShadowHour.requests * cast(ShadowHour.failed, Integer)).label("failed")
    start = since.replace(minute=0, second=0, microsecond=0)
    query = select(*columns, *numbers, failed).where(ShadowHour.hour >= start, ShadowHour.hour < until)
    lines = []
    for row in (await session.execute(query.group_by(*columns))).mappings():
        times, count = float(row["ttft_ms"]), int(row["ttft_count"])
        whole = {name: int(row[name]) for name in ("requests", "failed", *_SUMS) if name != "duration_ms"}
        mean = float(row["duration_ms"]) / whole["requests"]
        values: dict[str, Any] = {name: row[name] for name in _PLACE} | whole
        values |= {"mean_duration_ms": round(mean, 3), "mean_ttft_ms": round(times / count, 3) if count else None}
        lines.append(ShadowSums(**values))
    return sorted(lines, key=lambda line: (-line.cost_nano, -line.requests, line.route))
