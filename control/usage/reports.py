"""Reports over the sums of the ledger. Money is in nano-units of the account currency, tokens in disjoint buckets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Select
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import Problem
from control.kit.permissions import Person
from control.kit.schemas import example
from control.kit.sheets import tame
from control.models.rollups import COUNTERS, DURATIONS, HITS, SUMS, TIMES, TOKENS, TTFTS, percentile
from control.usage.rollup import HOUR
from control.usage.sources import TIME, Dimension, Filters, Source

MOST_ROWS = 10_000
"""Rows of a report; one that would have more is refused and says how to narrow it."""
MOST_EXPORTED = 50_000
"""Rows of an export."""
_MANY = frozenset({"key", "owner"})
"""Dimensions with so many values that the most expensive are looked for first, and only these summed up."""
_EPOCH = date(1970, 1, 1).toordinal()
_ALL = (*SUMS, *COUNTERS)


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
    cached: int
    """Requests that response caches answered."""
    saved_nano: int
    """What these would have cost beyond what they did."""
    mean_duration_ms: float | None
    p50_duration_ms: float | None
    p95_duration_ms: float | None
    mean_ttft_ms: float | None
    p50_ttft_ms: float | None
    p95_ttft_ms: float | None


_NUMBERS = [name for name in UsageSums.model_fields if name != "group"]
_AN_EXAMPLE = {
    "requests": 120, "failed": 1, "input_tokens": 42_000, "cache_read_tokens": 8_000, "cache_write_tokens": 0,
    "output_tokens": 9_000, "reasoning_tokens": 0, "total_tokens": 59_000, "cost_nano": 205_000_000,
    "cached": 12, "saved_nano": 20_000_000,
    "mean_duration_ms": 1840.5, "p50_duration_ms": 1510.0, "p95_duration_ms": 4020.0,
    "mean_ttft_ms": 310.2, "p50_ttft_ms": 260.0, "p95_ttft_ms": 700.0,
}  # fmt: skip


class UsageReport(BaseModel):
    """Sums of the time asked for. Percentiles are exact to a factor of two; most are much closer."""

    model_config = example(
        since="2026-11-23T00:00:00Z", until="2026-11-24T00:00:00Z",
        lines=[{"group": {"day": "2026-11-23"}, **_AN_EXAMPLE}], others=None, total={"group": {}, **_AN_EXAMPLE},
    )  # fmt: skip

    since: datetime
    until: datetime
    lines: list[UsageSums]
    others: UsageSums | None
    """Sum of the lines beyond `top`; null when there are none."""
    total: UsageSums


class Question(BaseModel):
    """The report that was asked for."""

    filters: Filters
    by: list[Dimension]
    timezone: str

    @property
    def timed(self) -> bool:
        """Whether its lines are those of hours or days."""
        return "hour" in self.by or "day" in self.by


async def report(session: AsyncSession, person: Person, teams: Sequence[str], asked: Question, top: int) -> UsageReport:
    """Sums by the dimensions, of the `top` most expensive; all of these in order of time where time is one of them."""
    reader = _Reader(session, person, teams, asked)
    rest: list[Sums] = []
    if not reader.places:
        lines = await reader.lines(MOST_ROWS)
    elif asked.timed:
        best = await reader.most_expensive(top + 1)
        lines = await reader.lines(MOST_ROWS, best[:top]) if best else []
        if len(best) > top:
            rest = [_without(await reader.total(), (sums for _, sums in lines))]
    elif _MANY.isdisjoint(asked.by):
        every = await reader.lines(MOST_ROWS)
        lines, rest = every[:top], [sums for _, sums in every[top:]]
    elif len(best := await reader.most_expensive(top + 1)) > top:
        lines = await reader.lines(top, best[:top])
        rest = [_without(await reader.total(), (sums for _, sums in lines))]
    else:
        lines = await reader.lines(top)
    return UsageReport(
        since=asked.filters.since,
        until=asked.filters.until,
        lines=[_line(group, sums) for group, sums in lines],
        others=_line({}, _added(rest)) if rest else None,
        total=_line({}, _added([*(sums for _, sums in lines), *rest])),
    )


async def complete(session: AsyncSession, person: Person, teams: Sequence[str], asked: Question) -> list[UsageSums]:
    """Every line, for an export."""
    lines = await _Reader(session, person, teams, asked).lines(MOST_EXPORTED)
    return [_line(group, sums) for group, sums in lines]


def as_csv(by: Sequence[Dimension], lines: Iterable[UsageSums]) -> str:
    """The report as CSV. A cell that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*by, *_NUMBERS])
    for line in lines:
        writer.writerow([*(tame(line.group[name]) for name in by), *(getattr(line, name) for name in _NUMBERS)])
    return out.getvalue()


Sums = dict[str, Any]
Found = tuple[dict[str, str], Sums]
"""The group of a line, and its sums."""


class _Reader:
    """The queries of one report."""

    def __init__(self, session: AsyncSession, person: Person, teams: Sequence[str], asked: Question) -> None:
        self._session, self._asked = session, asked
        self._source = Source(asked.filters, asked.timezone, person, teams, session.get_bind().dialect.name)
        self._zone = ZoneInfo(asked.timezone)
        time = [name for name in TIME if name in asked.by][:1]  # an hour says which day it is in
        self.places = [name for name in asked.by if name not in TIME]
        self._groups = [*time, *self.places]

    async def lines(self, most: int, only: Sequence[tuple[Any, ...]] | None = None) -> list[Found]:
        """Every group (or only these) and its sums."""
        query = self._source.query(self._groups, _ALL, only)
        if self._asked.timed:
            query = query.order_by(*(query.selected_columns[name] for name in self._groups))
        else:
            query = query.order_by(*self._by_cost(query))
        rows = (await self._session.execute(query.limit(most + 1))).all()
        if len(rows) > most:
            raise Problem(422, "too_many_rows", f"this report has more than {most} rows: choose a shorter time")
        groups = len(self._groups)
        lines = ((self._labels(row[:groups]), _whole(row[groups:])) for row in map(tuple, rows))
        return [line for line in lines if line[1]["requests"]]  # a sum over nothing is one line, too

    async def most_expensive(self, count: int) -> list[tuple[Any, ...]]:
        """The groups that cost most, whatever the time; the first the most."""
        query = self._source.ranking(self.places)
        rows = await self._session.execute(query.order_by(*self._by_cost(query)).limit(count))
        return [tuple(row)[: len(self.places)] for row in rows]

    async def total(self) -> Sums:
        """The sums of everything."""
        return _whole(tuple((await self._session.execute(self._source.query([], _ALL))).one()))

    def _by_cost(self, query: Select[Any]) -> list[ColumnElement[Any]]:
        columns = query.selected_columns
        return [columns["cost_nano"].desc(), columns["requests"].desc(), *(columns[name] for name in self.places)]

    def _labels(self, group: tuple[Any, ...]) -> dict[str, str]:
        values = dict(zip(self._groups, group, strict=True))
        return {name: self._label(name, values) for name in self._asked.by}

    def _label(self, name: str, values: dict[str, Any]) -> str:
        if name not in TIME:
            return str(values[name])
        if "hour" not in values:
            return date.fromordinal(_EPOCH + int(values["day"])).isoformat()
        moment = datetime.fromtimestamp(int(values["hour"]) * HOUR, UTC).astimezone(self._zone)
        return moment.isoformat() if name == "hour" else moment.date().isoformat()


def _whole(values: tuple[Any, ...]) -> Sums:
    """Numbers, where PostgreSQL and MariaDB have Decimals and a sum over nothing is NULL."""
    sums: Sums = {name: int(value or 0) for name, value in zip(_ALL, values, strict=True)}
    return sums | {name: float(value or 0) for name, value in zip(_ALL, values, strict=True) if name in TIMES}


def _added(lines: Iterable[Sums]) -> Sums:
    total: Sums = dict.fromkeys(_ALL, 0)
    for sums in lines:
        for name in _ALL:
            total[name] += sums[name]
    return total


def _without(total: Sums, lines: Iterable[Sums]) -> Sums:
    shown = _added(lines)
    return {name: total[name] - shown[name] for name in _ALL}


def _line(group: dict[str, str], sums: Sums) -> UsageSums:
    durations, ttfts = [sums[name] for name in DURATIONS], [sums[name] for name in TTFTS]
    return UsageSums(
        group=group,
        **{name: sums[name] for name in ("requests", "failed", *TOKENS, "cost_nano", *HITS)},
        total_tokens=sum(sums[name] for name in TOKENS),
        mean_duration_ms=round(sums["duration_ms"] / sums["requests"], 3) if sums["requests"] else None,
        p50_duration_ms=percentile(durations, 0.5),
        p95_duration_ms=percentile(durations, 0.95),
        mean_ttft_ms=round(sums["ttft_ms"] / sums["ttft_count"], 3) if sums["ttft_count"] else None,
        p50_ttft_ms=percentile(ttfts, 0.5),
        p95_ttft_ms=percentile(ttfts, 0.95),
    )
