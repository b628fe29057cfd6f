"""What keys did on each of the last days: one small query, for the little charts of a list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.kit.permissions import Person
from control.kit.schemas import example
from control.models.base import now
from control.models.rollups import usage_caller_day
from control.usage.sources import visible_to

_EPOCH = date(1970, 1, 1)


class KeyDays(BaseModel):
    """A key's days, the oldest first; the last one is today. A day without requests has zeros."""

    key: str
    requests: list[int]
    cost_nano: list[int]


class DailyUsage(BaseModel):
    """Days of UTC, of each key that was asked for."""

    model_config = example(
        since="2026-11-23", items=[{"key": "chatbot@support", "requests": [120, 7], "cost_nano": [205_000_000, 9_000]}]
    )

    since: date
    """The first day."""
    items: list[KeyDays]


async def of_keys(
    session: AsyncSession, person: Person, teams: Sequence[str], keys: Sequence[str], days: int
) -> DailyUsage:
    """Requests and cost of each key on each of the last `days`. A key that did nothing has zeros, as has one that the
    person may not see, or that there is not.
    """
    first = (now().date() - _EPOCH).days - days + 1
    columns = usage_caller_day.c
    query = select(columns.key, columns.day, columns.requests, columns.cost_nano).where(
        columns.key.in_(keys), columns.day >= first, visible_to(person, teams, columns.team, columns.owner)
    )
    found = {key: KeyDays(key=key, requests=[0] * days, cost_nano=[0] * days) for key in keys}
    for key, day, requests, cost in await session.execute(query):
        if key in found and day - first < days:  # an event may come from a clock that is ahead
            found[key].requests[day - first] += requests
            found[key].cost_nano[day - first] += cost
    return DailyUsage(since=_EPOCH + timedelta(days=first), items=list(found.values()))
