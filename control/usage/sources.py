"""Which sums a report reads: the smallest table that tells apart what was asked for, and how its hours make days."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from sqlalchemy import (
    ColumnElement,
    Double,
    Select,
    SQLColumnExpression,
    Table,
    and_,
    case,
    cast,
    func,
    or_,
    select,
    true,
    tuple_,
)

from control.kit.permissions import Person
from control.models import KeyUse
from control.models.base import now
from control.models.rollups import ROLLUPS, span_of, usage_caller_day, usage_hour, usage_place_hour
from control.usage.rollup import HOUR, hours

Dimension = Literal["key", "owner", "team", "route", "endpoint", "upstream_model", "operation", "hour", "day"]
FILTERS = ("key", "owner", "team", "route", "endpoint", "upstream_model", "operation")
TIME = ("hour", "day")
Piece = tuple[Table, int, int]
"""A table of sums, its first hour (or shift, or day), and the one after its last."""


class Filters(BaseModel):
    """What a report is about."""

    since: datetime
    until: datetime
    key: str | None = None
    owner: str | None = None
    team: str | None = None
    route: str | None = None
    endpoint: str | None = None
    upstream_model: str | None = None
    operation: str | None = None

    @property
    def given(self) -> dict[str, str]:
        """Those that narrow it down, besides time."""
        return {name: value for name in FILTERS if (value := getattr(self, name)) is not None}

    @property
    def hours(self) -> tuple[int, int]:
        """First hour and the one after the last: `since` is rounded down, and `until` up. The ledger holds nothing from
        before 1970 or from beyond tomorrow.
        """
        last = max(0, min(int(-(-self.until.timestamp() // HOUR)), hours(now()) + 48))
        return max(0, min(hours(self.since), last)), last


def visible_to(
    person: Person, teams: Sequence[str], team: SQLColumnExpression[str], owner: SQLColumnExpression[str]
) -> ColumnElement[bool]:
    """Rows that a person sees: all with `usage:read`, else what their own keys and their teams' keys did."""
    if person.may("usage:read"):
        return true()
    mine = and_(owner == person.username, team == "")
    return or_(mine, team.in_([name for name in teams if name]))


@dataclass(frozen=True, slots=True)
class Source:
    """The sums that a person sees of a time."""

    filters: Filters
    timezone: str
    person: Person
    teams: Sequence[str]
    dialect: str
    """Of the database."""

    def pieces(self, groups: Sequence[str]) -> list[Piece]:
        """What to read for these groups: the first table that has them, whole, and the hours that it is too coarse for
        from the table that has everything. A shift or day that is not over is whole if `until` is not over either.
        """
        needed = {*groups, *self.filters.given} - {*TIME}
        if not self._sees_all:
            needed |= {"team", "owner"}
        first, last = self.filters.hours
        for table in ROLLUPS:
            span = span_of(table)
            start, end = -(-first // span), -(-last // span) if last > hours(now()) else last // span
            if needed <= set(table.c.keys()) and start < end and self._aligned(span, groups):
                edges = (first, start * span), (end * span, last)
                return [(table, start, end), *((usage_hour, *edge) for edge in edges if edge[0] < edge[1])]
        return [(usage_hour, first, last)]

    def query(
        self, groups: Sequence[str], names: Sequence[str], only: Sequence[tuple[Any, ...]] | None = None
    ) -> Select[Any]:
        """Sums of the columns `names` in each group; with `only`, in the groups that are these apart from their time.
        An `hour` is a number since 1970, and a `day` one of the time zone's.
        """
        return _together([self._part(piece, groups, names, only) for piece in self.pieces(groups)], groups, names)

    def ranking(self, groups: Sequence[str]) -> Select[Any]:
        """Cost and requests of each group as floating point: PostgreSQL adds whole numbers up three times as slowly."""
        names = ("cost_nano", "requests")
        return _together(
            [self._part(piece, groups, names, None, rough=True) for piece in self.pieces(groups)], groups, names
        )

    def _part(
        self,
        piece: Piece,
        groups: Sequence[str],
        names: Sequence[str],
        only: Sequence[tuple[Any, ...]] | None,
        *,
        rough: bool = False,
    ) -> Select[Any]:
        table, start, end = piece
        time: ColumnElement[Any] = table.c[table.info["time"]]
        found: dict[str, ColumnElement[Any]] = dict(table.c)
        found |= {"hour": time * span_of(table), "day": self._day(time * span_of(table))}
        conditions = [
            time >= start,
            time < end,
            *(table.c[name] == value for name, value in self.filters.given.items()),
        ]
        if table is not usage_place_hour:
            conditions.append(visible_to(self.person, self.teams, table.c.team, table.c.owner))
        if only is not None:
            conditions.append(tuple_(*(found[name] for name in groups if name not in TIME)).in_(only))
        elif rough and table is usage_caller_day and self._walks(groups):
            return _key_by_key(conditions, names)
        kept = {
            name: cast(found[name], Double) if rough and name in names else found[name] for name in (*groups, *names)
        }
        columns = [column.label(name) for name, column in kept.items()]
        return _summed(select(*columns).where(*conditions).subquery("rows_read").c, groups, names)

    def _walks(self, groups: Sequence[str]) -> bool:
        return self.dialect == "sqlite" and tuple(groups) == ("key",) and not self.filters.given and self._sees_all

    @property
    def _sees_all(self) -> bool:
        return self.person.may("usage:read")

    def _aligned(self, span: int, groups: Sequence[str]) -> bool:
        if span == 1 or "hour" in groups:
            return span == 1
        return "day" not in groups or all(minutes % (span * 60) == 0 for _, minutes in self._offsets())

    def _day(self, hour: ColumnElement[int]) -> ColumnElement[int]:
        """Number of the day, since 1970, in which an hour began."""
        changes = self._offsets()
        minutes: Any = changes[-1][1]
        if len(changes) > 1:
            earlier = zip(changes[1:], changes, strict=False)
            minutes = case(*((hour < change[0], before[1]) for change, before in earlier), else_=minutes)
        day: ColumnElement[int] = (hour * 60 + minutes) // 1440
        return day

    def _offsets(self) -> list[tuple[int, int]]:
        return list(_offsets(ZoneInfo(self.timezone), *self.filters.hours))


def _together(parts: Sequence[Select[Any]], groups: Sequence[str], names: Sequence[str]) -> Select[Any]:
    if len(parts) == 1:
        return parts[0]
    return _summed(parts[0].union_all(*parts[1:]).subquery("parts").c, groups, names)


def _summed(columns: Any, groups: Sequence[str], names: Sequence[str]) -> Select[Any]:
    grouped = [columns[name] for name in groups]
    return select(*grouped, *(func.sum(columns[name]).label(name) for name in names)).group_by(*grouped)


def _key_by_key(conditions: Sequence[ColumnElement[bool]], names: Sequence[str]) -> Select[Any]:
    """As `_summed`, but SQLite, which would sort all rows, goes from key to key along an index (4 times as fast)."""
    table, key = usage_caller_day, KeyUse.public_name
    columns: list[ColumnElement[Any]] = [key.label("key"), *(func.sum(table.c[name]).label(name) for name in names)]
    query = select(*columns).outerjoin_from(KeyUse, table, and_(table.c.key == key, *conditions))
    return query.group_by(key).having(func.sum(table.c.requests) > 0)


def _offsets(zone: ZoneInfo, first: int, last: int) -> Iterator[tuple[int, int]]:
    """First hour of each stretch of time with one offset from UTC, and the offset in minutes."""

    def offset(hour: int) -> int:
        moment = datetime.fromtimestamp(hour * HOUR, UTC).astimezone(zone)
        return int((moment.utcoffset() or moment - moment).total_seconds() // 60)

    known = offset(first)
    yield first, known
    for day in range(first, last, 24):
        if offset(min(day + 24, last)) != known:
            for hour in range(day, min(day + 24, last) + 1):
                if offset(hour) != known:
                    known = offset(hour)
                    yield hour, known
