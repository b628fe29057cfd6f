"""Answers that are there already: to the same request of the same version of a route, in a run of the same suite."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons.scorers.base import Answer
from control.models import ComparisonCell, ComparisonRun
from control.models.base import now


class Kept(NamedTuple):
    """An answer of an earlier run."""

    answer: dict[str, Any]
    """As its cell has it."""
    request_id: str
    snapshot: str
    cost_nano: int | None
    """What it cost then; None where the ledger had not said."""

    def read(self) -> Answer:
        """For scorers."""
        fields = ("text", "tool_calls", "finish_reason", "citations", "usage", "latency_ms", "ttft_ms")
        return Answer(**{name: self.answer[name] for name in fields})


def digest_of(request: Mapping[str, Any], route_version: int, repeat: int) -> str:
    """By what an answer is found again. Repeats are answers of their own."""
    text = json.dumps([request, route_version, repeat], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


async def found(session: AsyncSession, row: ComparisonRun, digest: str, days: int) -> Kept | None:
    """The newest such answer that is at most so many days old, if there is one. Those that were taken over themselves
    do not count: none gets older than it may.
    """
    cell = ComparisonCell
    query = (
        select(cell.answer, cell.request_id, cell.snapshot, cell.cost_nano)
        .join(ComparisonRun, ComparisonRun.id == cell.run_id)
        .where(ComparisonRun.suite_id == row.suite_id, cell.run_id != row.id, cell.digest == digest, cell.ok)
        .where(cell.finished_at >= now() - timedelta(days=days))
        .order_by(cell.finished_at.desc())
        .limit(1)
    )
    first = (await session.execute(query)).first()
    return Kept(*first) if first is not None else None
