"""What each budget has been spent, kept beside the ledger in its transaction.

A row is made from the ledger's own sum when it is first needed (of all time: from the sums that outlive the ledger) and
added to from then on, so it equals the ledger to the nano-unit at every commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.models import ApiKey, SpendRow, Team, UsageRow
from control.models.base import now
from control.models.rollups import usage_caller_day, usage_owner_shift
from control.usage.windows import FOREVER, window_of
from gateway.contract.internal import Spend, Spent

Scope = tuple[str, str]
"""("key" | "team", name)."""


async def add(session: AsyncSession, rows: Sequence[UsageRow], cursor: int) -> None:
    """Count new ledger rows (already flushed) into the spend of their budgets. The `usage` counter is locked."""
    scopes: dict[Scope, list[UsageRow]] = {}
    for row in rows:
        scopes.setdefault(("key", row.key), []).append(row)
        if row.team:
            scopes.setdefault(("team", row.team), []).append(row)
    for (scope, name), budgets in (await _budgets(session, scopes)).items():
        for span, timezone in budgets:
            sums: dict[tuple[int, int], int] = {}
            for row in scopes[scope, name]:
                window = window_of(span, timezone, row.ts)
                sums[window] = sums.get(window, 0) + row.cost_nano
            for window, nano in sums.items():
                await _count(session, (scope, name), span, timezone, window, nano, cursor)


async def begin(session: AsyncSession, scope: Scope, budgets: Iterable[Mapping[str, str]], cursor: int) -> None:
    """Make the rows of new budgets from what the ledger already holds. The `usage` counter is locked."""
    for budget in budgets:
        span, timezone = budget.get("window", "month"), budget.get("timezone", "UTC")
        await _count(session, scope, span, timezone, window_of(span, timezone, now()), 0, cursor)


async def spend_after(session: AsyncSession, after: int) -> Spend:
    """Rows of running windows that changed after the cursor."""
    moment = now().timestamp()
    query = select(SpendRow).where(SpendRow.cursor > after, SpendRow.start <= moment, SpendRow.end > moment)
    rows = (await session.scalars(query.order_by(SpendRow.cursor))).all()
    spent = tuple(
        Spent(
            scope="key" if row.scope == "key" else "team",
            name=row.name,
            window=row.span,  # type: ignore[arg-type]  # written by us from the same words
            timezone=row.timezone,
            start=row.start,
            nano=row.nano,
        )
        for row in rows
    )
    return Spend(cursor=max([after, *(row.cursor for row in rows)]), spent=spent)


async def _budgets(session: AsyncSession, scopes: Iterable[Scope]) -> dict[Scope, list[tuple[str, str]]]:
    found: dict[Scope, list[tuple[str, str]]] = {}
    keys = [name for kind, name in scopes if kind == "key"]
    teams = [name for kind, name in scopes if kind == "team"]
    for kind, query in (
        ("key", select(ApiKey.public_name, ApiKey.budgets).where(ApiKey.public_name.in_(keys))),
        ("team", select(Team.name, Team.budgets).where(Team.name.in_(teams))),
    ):
        for name, budgets in await session.execute(query):
            if budgets:
                found[kind, name] = [(b.get("window", "month"), b.get("timezone", "UTC")) for b in budgets]
    return found


async def _count(
    session: AsyncSession, scope: Scope, span: str, timezone: str, window: tuple[int, int], nano: int, cursor: int
) -> None:
    kind, name = scope
    row = await session.scalar(
        select(SpendRow).where(
            SpendRow.scope == kind,
            SpendRow.name == name,
            SpendRow.span == span,
            SpendRow.timezone == timezone,
            SpendRow.start == window[0],
        )
    )
    if row is None:
        total = await _sum(session, scope, window)
        row = SpendRow(scope=kind, name=name, span=span, timezone=timezone, start=window[0], end=window[1], nano=total)
        session.add(row)
    else:
        row.nano += nano
    row.cursor = cursor
    await session.flush()


async def _sum(session: AsyncSession, scope: Scope, window: tuple[int, int]) -> int:
    """What the ledger says; of all time, what the sums say that outlive it (`control.usage.retention`)."""
    query: Select[Any]
    if window == (0, FOREVER):
        table, name = (usage_caller_day, "key") if scope[0] == "key" else (usage_owner_shift, "team")
        query = select(func.coalesce(func.sum(table.c.cost_nano), 0)).where(table.c[name] == scope[1])
        return int(await session.scalar(query) or 0)
    column = UsageRow.key if scope[0] == "key" else UsageRow.team
    query = select(func.coalesce(func.sum(UsageRow.cost_nano), 0)).where(
        UsageRow.shadow_of.is_(None),
        column == scope[1],
        UsageRow.ts >= datetime.fromtimestamp(window[0], UTC),
        UsageRow.ts < datetime.fromtimestamp(window[1], UTC),
    )
    return int(await session.scalar(query) or 0)
