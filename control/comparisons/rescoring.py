"""Scores by scorers that look at the cost: given anew when the ledger has said what an answer has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons.scoring import Scoring
from control.models import ComparisonCell

AT_ONCE = 200
"""Cells in one question to the database."""
Place = tuple[int, int, int]
"""Case, candidate and repeat."""


async def rescored(
    session: AsyncSession, run: str, scoring: Scoring, cases: Sequence[Mapping[str, Any]], costs: Mapping[Place, int]
) -> dict[Place, dict[str, Any]]:
    """All scores of the cells that have cost so much, in nano-units; empty where no scorer looks at the cost."""
    if not scoring.looks_at_cost:
        return {}
    table, places, found = ComparisonCell, list(costs), {}
    columns = (table.case, table.candidate, table.repeat, table.request, table.answer, table.scores)
    for start in range(0, len(places), AT_ONCE):
        some = tuple_(table.case, table.candidate, table.repeat).in_(places[start : start + AT_ONCE])
        for case, candidate, repeat, request, answer, scores in await session.execute(
            select(*columns).where(table.run_id == run, some, table.ok)
        ):
            place = (case, candidate, repeat)
            found[place] = {**scores, **await scoring.priced(cases[case - 1], request, answer, costs[place])}
    return found
