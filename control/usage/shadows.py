"""What shadow targets did and cost: sums of their own, since no key, team or budget is charged for a copy."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.models.rollups import HITS, PLACE, SUMS, TIMES, shadow_hour
from control.usage.sources import Filters


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


async def report(session: AsyncSession, since: datetime, until: datetime) -> list[ShadowSums]:
    """Sums by target, the most expensive first, of whole hours: `since` is rounded down, and `until` up."""
    first, last = Filters(since=since, until=until).hours
    columns = [shadow_hour.c[name] for name in PLACE]
    query = select(*columns, *(func.sum(shadow_hour.c[name]).label(name) for name in SUMS))
    query = query.where(shadow_hour.c.hour >= first, shadow_hour.c.hour < last).group_by(*columns)
    lines = []
    for row in (await session.execute(query)).mappings():
        whole = {name: int(row[name]) for name in SUMS if name not in (*TIMES, *HITS)}  # a copy is asked for always
        count = whole.pop("ttft_count")
        means = {
            "mean_duration_ms": round(float(row["duration_ms"]) / whole["requests"], 3),
            "mean_ttft_ms": round(float(row["ttft_ms"]) / count, 3) if count else None,
        }
        lines.append(ShadowSums.model_validate({name: row[name] for name in PLACE} | whole | means))
    return sorted(lines, key=lambda line: (-line.cost_nano, -line.requests, line.route))
