"""What cells have cost: the ledger says so, a moment after the gateway has answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons.engine import Cell
from control.comparisons.matches import Verdict
from control.comparisons.rescoring import Place, rescored
from control.comparisons.scoring import Scoring
from control.db import Database
from control.models import ComparisonCell, ComparisonRun, UsageRow

AT_ONCE = 500
"""Cells in one question to the ledger."""


class Pricing:
    """Fills `cost_nano` and `snapshot` of a run's cells, and knows what the run has cost."""

    def __init__(self, db: Database, row: ComparisonRun) -> None:
        self._db, self._row = db, row
        self._waiting: dict[str, Place] = {}
        self._priced = 0
        self._scoring: tuple[Scoring, Sequence[Mapping[str, Any]]] = (Scoring(()), ())
        self._judging: set[str] = set()
        self._judged = (0, 0)
        self.billed = row.billed_nano
        """All that the ledger has of this run, failed tries and judges included."""

    @property
    def waiting(self) -> int:
        """Cells and questions to judges of pairs of which the ledger has said nothing yet."""
        return len(self._waiting) + len(self._judging)

    async def load(self) -> None:
        """Know which cells of an earlier process have no price."""
        table = ComparisonCell
        mine = (table.run_id == self._row.id, table.reused_from == "")  # others have cost an earlier run
        async with self._db.read() as session:
            query = select(table.request_id, table.case, table.candidate, table.repeat)
            unpriced = await session.execute(query.where(*mine, table.cost_nano.is_(None)))
            self._waiting = {request_id: (case, one, repeat) for request_id, case, one, repeat in unpriced}
            counted = select(func.count()).select_from(table)
            there = await session.scalar(counted.where(*mine, table.cost_nano.is_not(None)))
        self._priced = there or 0

    def scored_by(self, scoring: Scoring, cases: Sequence[Mapping[str, Any]]) -> None:
        """Prices give scores by these scorers, too."""
        self._scoring = (scoring, cases)

    def add(self, cells: Iterable[Cell], verdicts: Iterable[Verdict]) -> None:
        """Those that are in the database now."""
        asked = [one for one in cells if one.kept is None]
        self._waiting |= {one.request_id: (one.case, one.candidate, one.repeat) for one in asked}
        self._judging |= {request_id for one in verdicts for request_id in one.request_ids}

    def expected(self, under_way: int, judging: int) -> float:
        """What it will have cost when all that was asked so far is billed: cells, and matches at two questions each."""
        guess = self._row.estimate["cost_nano"] / max(1, self._row.estimate["cells"])
        cost, asked = self._judged
        mean = (self.billed - cost) / self._priced if self._priced else guess
        question = cost / asked if asked else mean
        waiting = mean * (len(self._waiting) + under_way) + question * (len(self._judging) + 2 * judging)
        return self.billed + waiting

    async def look(self) -> None:
        """Take from the ledger what it has."""
        ids = list(self._waiting)
        found: dict[str, tuple[int, str]] = {}
        async with self._db.read() as session:
            for start in range(0, len(ids), AT_ONCE):
                found |= await prices(session, self._row, ids[start : start + AT_ONCE])
            asked = list(self._judging)
            for start in range(0, len(asked), AT_ONCE):
                self._judging -= set(await prices(session, self._row, asked[start : start + AT_ONCE]))
            self.billed = (await billed(session, self._row))[0]
            self._judged = await billed(session, self._row, "p")
        values = [
            dict(zip(_AT, self._waiting[request_id], strict=True), fresh_cost_nano=cost, fresh_snapshot=snapshot)
            for request_id, (cost, snapshot) in found.items()
        ]
        if values:
            async with self._db.read() as session:
                costs = {self._waiting[request_id]: cost for request_id, (cost, _) in found.items()}
                scores = await rescored(session, self._row.id, *self._scoring, costs)
            async with self._db.write() as session:
                connection = await session.connection()
                await connection.execute(_priced(self._row.id, "cost_nano", "snapshot"), values)
                if scores:
                    fresh = [dict(zip(_AT, place, strict=True), fresh_scores=one) for place, one in scores.items()]
                    await connection.execute(_priced(self._row.id, "scores"), fresh)
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


async def billed(session: AsyncSession, row: ComparisonRun, what: str = "") -> tuple[int, int]:
    """What the ledger has of a run, in nano-units, and of how many requests; `p`: of judges of pairs only."""
    mine = UsageRow.request_id.startswith(f"{row.id}.{what}", autoescape=True)
    query = select(func.sum(UsageRow.cost_nano), func.count()).where(
        UsageRow.key == row.key, UsageRow.ts >= row.created_at, mine, UsageRow.shadow_of.is_(None)
    )
    cost, requests = (await session.execute(query)).one()
    return int(cost or 0), requests


_AT = ("at_case", "at_candidate", "at_repeat")


def _priced(run: str, *columns: str) -> Any:
    """Writes columns of one cell after the other."""
    table: Any = ComparisonCell.__table__
    return (
        update(table)
        .where(
            table.c.run_id == run, table.c.case_number == bindparam("at_case"),
            table.c.candidate == bindparam("at_candidate"), table.c.repeat_number == bindparam("at_repeat"),
        )
        .values({column: bindparam(f"fresh_{column}", type_=table.c[column].type) for column in columns})
    )  # fmt: skip
