"""What conversations came to, by the index that their passages were from: the live one, and one that is held back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.knowledge.evaluation.metrics import percentile
from control.knowledge.schemas import KnowledgeTrial, TrialSide
from control.models import KnowledgeBase, Route, UsageRow
from control.models.base import now

MOST = 10_000
"""Conversations that are looked at: the newest."""
_GOOD = ("success", "blocked", "client_gone", "client_gone_partial")
"""Ends of conversations in which nothing failed."""


async def report(session: AsyncSession, base: KnowledgeBase, days: int) -> KnowledgeTrial:
    """The conversations of the last days whose passages may have been from the base, index by index."""
    specs = (await session.execute(select(Route.name, Route.spec))).all()
    knowledge = {route: spec.get("knowledge") or {} for route, spec in specs}
    routes = sorted(route for route, of in knowledge.items() if base.name in of.get("bases", ()))
    query = (
        select(UsageRow.end, UsageRow.retrieval, UsageRow.ttft_ms, UsageRow.output_tokens, UsageRow.cost_nano)
        .where(UsageRow.route.in_(routes), UsageRow.ts >= now() - timedelta(days=days))
        .where(UsageRow.retrieval.is_not(None), UsageRow.shadow_of.is_(None))
        .order_by(UsageRow.ts.desc())
        .limit(MOST)
    )
    rows = (await session.execute(query)).all()
    sides: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        number = row.retrieval.get("indexes", {}).get(base.name)
        if isinstance(number, int):
            sides[number].append(row)
    trying = [route for route in routes if knowledge[route].get("trial")]
    return KnowledgeTrial(
        days=days, routes=trying, cut=len(rows) == MOST, sides=[_side(one, sides[one]) for one in sorted(sides)]
    )


def _side(index: int, rows: Sequence[Any]) -> TrialSide:
    ttfts = [row.ttft_ms for row in rows if row.ttft_ms is not None]
    return TrialSide(
        index=index,
        requests=len(rows),
        failed=sum(row.end not in _GOOD for row in rows),
        found=sum(row.retrieval["outcome"] == "found" for row in rows),
        passages=round(sum(row.retrieval["passages"] for row in rows) / len(rows), 3),
        p50_retrieval_ms=percentile([row.retrieval["ms"] for row in rows], 0.5),
        p50_ttft_ms=percentile(ttfts, 0.5) if ttfts else None,
        output_tokens=round(sum(row.output_tokens for row in rows) / len(rows), 1),
        cost_nano=round(sum(row.cost_nano for row in rows) / len(rows)),
    )
