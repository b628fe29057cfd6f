"""Reports over the hourly sums. Money is in nano-units of the account currency, tokens in disjoint buckets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Integer, Select, and_, cast, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import Problem
from control.kit.permissions import Person
from control.models import UsageHour, UsageRow

Dimension = Literal["key", "owner", "team", "route", "endpoint", "upstream_model", "operation", "hour", "day"]
MOST_ROWS = 10_000
"""Rows of a report; one that would have more is refused and says how to narrow it."""


class UsageSums(BaseModel):
    """One line of a report: where, and how much."""

    group: dict[str, str]
    """Value of each dimension asked for; hours and days as ISO 8601 with their offset."""
    requests: int
    failed: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int
    cost_nano: int
    mean_duration_ms: float | None
    mean_ttft_ms: float | None


class Filters(BaseModel):
    """What a report is about."""

    since: datetime
    until: datetime
    key: str | None = None
    owner: str | None = None
    team: str | None = None
    route: str | None = None
    endpoint: str | None = None


def visible_to(person: Person, teams: Sequence[str], table: type[UsageHour | UsageRow]) -> ColumnElement[bool]:
    """Rows that a person sees: all with `usage:read`, else what their own keys and their teams' keys did."""
    if person.may("usage:read"):
        return true()
    mine = and_(table.owner == person.username, table.team == "")
    return or_(mine, table.team.in_([team for team in teams if team]))


async def report(
    session: AsyncSession, visible: ColumnElement[bool], filters: Filters, by: Sequence[Dimension], timezone: str
) -> list[UsageSums]:
    """Sums by the dimensions, the most expensive first, or in order of time where time is one of them.

    `since` is rounded down and `until` up to whole hours. Days are those of `timezone`; in a zone with an offset of
    half an hour, an hour counts to the day in which it began.
    """
    timed = "hour" in by or "day" in by
    columns = [getattr(UsageHour, name) for name in by if name not in ("hour", "day")]
    if timed:
        columns.insert(0, UsageHour.hour)  # first: SQLite sums twice as fast when groups follow the index
    query = (
        _where(select(*columns, *_SUMS), visible, filters).group_by(*columns)
        if columns
        else _where(select(*_SUMS), visible, filters)
    )
    rows = (await session.execute(query.limit(MOST_ROWS * 24 + 1))).mappings().all()
    zone = ZoneInfo(timezone)
    folded: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        if not row["requests"]:
            continue  # a sum over nothing
        place = tuple(_label(name, row, zone) for name in by)
        sums = folded.setdefault(place, dict.fromkeys(_NAMES, 0))
        for name in _NAMES:
            value = row[name] or 0  # a Decimal on PostgreSQL and MariaDB
            sums[name] += float(value) if name.endswith("_ms") else int(value)
    if len(folded) > MOST_ROWS or len(rows) > MOST_ROWS * 24:
        raise Problem(422, "too_many_rows", f"this report has more than {MOST_ROWS} rows: choose a shorter time")
    lines = [_line(dict(zip(by, place, strict=True)), sums) for place, sums in folded.items()]
    if timed:
        return sorted(lines, key=lambda line: (line.group.get("hour", ""), line.group.get("day", "")))
    return sorted(lines, key=lambda line: (-line.cost_nano, -line.requests))


def as_csv(by: Sequence[Dimension], lines: Iterable[UsageSums]) -> str:
    """The report as CSV. A cell that a spreadsheet would take for a formula gets an apostrophe before it."""
    numbers = [name for name in UsageSums.model_fields if name != "group"]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*by, *numbers])
    for line in lines:
        cells = [line.group[name] for name in by]
        writer.writerow(
            [*("'" + cell if cell[:1] in "=+-@\t\r" and cell else cell for cell in cells)]
            + [getattr(line, name) for name in numbers]
        )
    return out.getvalue()


_SUMMED = (
    "requests", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
    "cost_nano", "duration_ms", "ttft_ms", "ttft_count",
)  # fmt: skip
_NAMES = (*_SUMMED, "failed_requests")
_SUMS = (
    *(func.sum(getattr(UsageHour, name)).label(name) for name in _SUMMED),
    func.sum(UsageHour.requests * cast(UsageHour.failed, Integer)).label("failed_requests"),
)


def _where(query: Select[Any], visible: ColumnElement[bool], filters: Filters) -> Select[Any]:
    start = filters.since.replace(minute=0, second=0, microsecond=0)
    query = query.where(visible, UsageHour.hour >= start, UsageHour.hour < filters.until)
    for name in ("key", "owner", "team", "route", "endpoint"):
        value = getattr(filters, name)
        if value is not None:
            query = query.where(getattr(UsageHour, name) == value)
    return query


def _label(name: str, row: Any, zone: ZoneInfo) -> str:
    if name == "hour":
        return str(row["hour"].astimezone(zone).isoformat())
    if name == "day":
        return str(row["hour"].astimezone(zone).date().isoformat())
    return str(row[name])


def _line(group: dict[str, str], sums: dict[str, float]) -> UsageSums:
    whole = {name: int(sums[name]) for name in _SUMMED if name not in ("duration_ms", "ttft_ms", "ttft_count")}
    return UsageSums(
        group=group,
        failed=int(sums["failed_requests"]),
        total_tokens=sum(whole[name] for name in whole if name.endswith("_tokens")),
        mean_duration_ms=round(sums["duration_ms"] / sums["requests"], 3) if sums["requests"] else None,
        mean_ttft_ms=round(sums["ttft_ms"] / sums["ttft_count"], 3) if sums["ttft_count"] else None,
        **whole,
    )
