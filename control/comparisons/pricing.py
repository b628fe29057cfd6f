"""What cells have cost: the ledger says so, a moment after the gateway has answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons.engine import Cell
from control.db import Database
from control.models import ComparisonCell, ComparisonRun, UsageRow

AT_ONCE = 500
"""Cells in one question to the ledger."""
Place = tuple[int, int, int]


class Pricing:
    """Fills `cost_nano` and `snapshot` of a run's cells, and knows what the run has cost."""

    def __init__(self, db: Database, row: ComparisonRun) -> None:
        self._db, self._row = db, row
        self._waiting: dict[str, Place] = {}
        self._priced = 0
        self.billed = row.billed_nano
        """All that the ledger has of this run, failed tries and judges included."""

    @property
    def waiting(self) -> int:
        """Cells of which the ledger has said nothing yet."""
        return len(self._waiting)

    async def load(self) -> None:
        """Know which cells of an earlier process have no price."""
        table = ComparisonCell
        async with self._db.read() as session:
            query = select(table.request_id, table.case, table.candidate, table.repeat)
            unpriced = await session.execute(query.where(table.run_id == self._row.id, table.cost_nano.is_(None)))
            self._waiting = {request_id: (case, one, repeat) for request_id, case, one, repeat in unpriced}
            counted = select(func.count()).select_from(table)
            there = await session.scalar(counted.where(table.run_id == self._row.id, table.cost_nano.is_not(None)))
        self._priced = there or 0

    def add(self, cells: Iterable[Cell]) -> None:
        """Cells that are in the database now."""
        self._waiting |= {one.request_id: (one.case, one.candidate, one.repeat) for one in cells}

    def expected(self, under_way: int) -> float:
        """What it will have cost when all that was asked so far is billed."""
        estimate = self._row.estimate["cost_nano"] / max(1, self._row.estimate["cells"])
        mean = self.billed / self._priced if self._priced else estimate
        return self.billed + mean * (self.waiting + under_way)

    async def look(self) -> None:
        """Take from the ledger what it has."""
        ids = list(self._waiting)
        found: dict[str, tuple[int, str]] = {}
        async with self._db.read() as session:
            for start in range(0, len(ids), AT_ONCE):
                found |= await prices(session, self._row, ids[start : start + AT_ONCE])
            self.billed = await billed(session, self._row)
        values = [
            {"at_case": case, "at_candidate": candidate, "at_repeat": repeat, "cost": cost, "config": snapshot}
            for request_id, (cost, snapshot) in found.items()
            for case, candidate, repeat in [self._waiting[request_id]]
        ]
        if values:
            async with self._db.write() as session:
                connection = await session.connection()
                await connection.execute(_priced(self._row.id), values)
        for request_id in found:
            del self._waiting[request_id]
        self._priced += len(found)

    async def keep(self) -> None:
        """Write what the run has cost, after its end."""
        async with self._db.write() as session:
            mine = update(ComparisonRun).where(ComparisonRun.id == self._row.id)
            await session.execute(mine.values(billed_nano=self.billed))


async def prices(session: AsyncSession, row: ComparisonRun, ids: list[str]) -> dict[str, tuple[int, str]]:
    """(cost, snapshot) of those requests that the ledger has."""
    query = select(UsageRow.request_id, UsageRow.cost_nano, UsageRow.snapshot)
    query = query.where(UsageRow.request_id.in_(ids), UsageRow.key == row.key, UsageRow.shadow_of.is_(None))
    return {request_id: (cost, snapshot) for request_id, cost, snapshot in await session.execute(query)}


async def billed(session: AsyncSession, row: ComparisonRun) -> int:
    """What the ledger has of a run, in nano-units."""
    mine = UsageRow.request_id.startswith(f"{row.id}.", autoescape=True)
    query = select(func.sum(UsageRow.cost_nano)).where(UsageRow.key == row.key, UsageRow.ts >= row.created_at, mine)
    return int(await session.scalar(query.where(UsageRow.shadow_of.is_(None))) or 0)


def _priced(run: str) -> Any:
    table: Any = ComparisonCell.__table__
    return (
        update(table)
        .where(
            table.c.run_id == run, table.c.case_number == bindparam("at_case"),
            table.c.candidate == bindparam("at_candidate"), table.c.repeat_number == bindparam("at_repeat"),
        )
        .values(cost_nano=bindparam("cost"), snapshot=bindparam("config"))
    )  # fmt: skip
