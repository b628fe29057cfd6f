"""What budgets have been spent in the windows that are running, for people to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, case, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.kit.permissions import Person
from control.kit.schemas import example
from control.models import ApiKey, SpendRow, Team
from control.models.base import now
from control.usage.sources import visible_to
from control.usage.windows import FOREVER, window_of
from gateway.contract.snapshot import Budget

Kind = Literal["key", "team"]
MOST = 100
"""Budgets of one answer."""
_NANO = 10**9


class Spending(BaseModel):
    """A budget, and what has been spent of it in its running window."""

    model_config = example(
        window="month", timezone="UTC", amount_nano=50_000_000_000, spent_nano=12_345_678_900,
        since="2026-11-01T00:00:00Z", resets_at="2026-12-01T00:00:00Z",
    )  # fmt: skip

    window: Literal["day", "week", "month", "total"]
    timezone: str
    amount_nano: int
    """In nano-units of the account currency."""
    spent_nano: int
    """What the ledger says; requests that gateways have not reported yet are missing."""
    since: datetime | None
    """When the window began; null: it is of all time."""
    resets_at: datetime | None
    """When the next window begins; null: never."""


class BudgetInUse(BaseModel):
    """A budget of a key or a team."""

    kind: Kind
    name: str
    spending: Spending


class BudgetsInUse(BaseModel):
    """Budgets that are nearly spent, the fullest first."""

    items: list[BudgetInUse]


Spent = Mapping[tuple[str, str], int]
"""(window, time zone) -> nano-units."""


async def spending(
    session: AsyncSession, kind: Kind, budgets: Mapping[str, Iterable[Mapping[str, Any]]]
) -> dict[str, list[Spending]]:
    """Name -> its budgets with what they have been spent, in one query. A window that has no row has seen no request:
    a budget that is new gets its row from the ledger (`control.usage.spend`).
    """
    moment = now()
    names = [name for name, some in budgets.items() if some]
    found: dict[str, dict[tuple[str, str], int]] = {name: {} for name in budgets}
    if names:
        query = select(SpendRow.name, SpendRow.span, SpendRow.timezone, SpendRow.nano)
        query = query.where(SpendRow.scope == kind, SpendRow.name.in_(names), _running(moment))
        for name, span, timezone, nano in await session.execute(query):
            found[name][span, timezone] = nano
    return {name: [_shown(one, found[name], moment) for one in some] for name, some in budgets.items()}


async def nearly_spent(session: AsyncSession, person: Person, teams: Sequence[str], part: float) -> list[BudgetInUse]:
    """Budgets that the person sees of which at least `part` is spent: of what is enabled, and not those of nothing,
    which are closed on purpose.
    """
    moment = now()
    of_team = case((ApiKey.owner_kind == "team", ApiKey.owner), else_="")
    keys = select(ApiKey.public_name, ApiKey.budgets, SpendRow.span, SpendRow.timezone, SpendRow.nano).join(
        SpendRow, and_(SpendRow.scope == "key", SpendRow.name == ApiKey.public_name, _running(moment))
    )
    keys = keys.where(
        ApiKey.revoked_at.is_(None), ApiKey.enabled.is_(True), visible_to(person, teams, of_team, ApiKey.owner)
    )
    whole = select(Team.name, Team.budgets, SpendRow.span, SpendRow.timezone, SpendRow.nano).join(
        SpendRow, and_(SpendRow.scope == "team", SpendRow.name == Team.name, _running(moment))
    )
    whole = whole.where(Team.enabled.is_(True))
    if not person.may("teams:read"):
        whole = whole.where(Team.name.in_(teams))
    found: list[BudgetInUse] = []
    kinds: tuple[tuple[Kind, Any], ...] = (("key", keys), ("team", whole))
    for kind, query in kinds:
        for name, budgets, span, timezone, nano in await session.execute(query):
            for one in (_shown(budget, {(span, timezone): nano}, moment) for budget in budgets or ()):
                same = (one.window, one.timezone) == (span, timezone)
                if same and one.amount_nano and one.spent_nano >= one.amount_nano * part:
                    found.append(BudgetInUse(kind=kind, name=name, spending=one))
    return sorted(found, key=lambda one: -one.spending.spent_nano / one.spending.amount_nano)[:MOST]


def _running(moment: datetime) -> ColumnElement[bool]:
    return and_(SpendRow.start <= moment.timestamp(), SpendRow.end > moment.timestamp())


def _shown(stored: Mapping[str, Any], spent: Spent, moment: datetime) -> Spending:
    budget = Budget.model_validate(stored)
    start, end = window_of(budget.window, budget.timezone, moment)
    return Spending(
        window=budget.window,
        timezone=budget.timezone,
        amount_nano=int(budget.amount * _NANO),
        spent_nano=spent.get((budget.window, budget.timezone), 0),
        since=datetime.fromtimestamp(start, UTC) if start else None,
        resets_at=datetime.fromtimestamp(end, UTC) if end != FOREVER else None,
    )
