"""Asks the questions of runs in the background, one after another, by the very search that gateways get.

Which process works on a run is decided by a claim that it renews. Every answer is written by itself, so a run that was
interrupted goes on with the questions that have none. It looks with the eyes of the base's owner: how well a base finds
is measured, and not who may see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update

from control.db import Database
from control.errors import Problem
from control.kit.periodic import every
from control.knowledge.access import Caller, Query
from control.knowledge.evaluation import metrics
from control.knowledge.evaluation.schemas import Expected, KnowledgeRunSettings
from control.knowledge.ingest import CLAIM, PAUSES
from control.knowledge.retrieval import Retriever
from control.models import KnowledgeAnswer, KnowledgeBase, KnowledgeRun, KnowledgeTestSet
from control.models.base import now
from gateway.contract.retrieval import RetrievalLimits

log = logging.getLogger("tunegate.control.knowledge")

_OPEN = ("waiting", "running")
_TOKENS = 200_000
"""Of ten passages together: none is left out for its length."""


class Runs:
    """Works on runs one after another."""

    def __init__(self, db: Database, retriever: Retriever) -> None:
        self._db, self._retriever = db, retriever

    async def all_there_is(self) -> None:
        """Ask all that is to be asked."""
        while (run := await self._claimed()) is not None:
            await self._work(run)

    async def _claimed(self) -> KnowledgeRun | None:
        moment = now()
        waits = (KnowledgeRun.state.in_(_OPEN), KnowledgeRun.not_before <= moment)
        async with self._db.read() as session:
            query = (
                select(KnowledgeRun)
                .join(KnowledgeTestSet, KnowledgeTestSet.id == KnowledgeRun.set_id)
                .join(KnowledgeBase, KnowledgeBase.id == KnowledgeTestSet.base_id)
                .where(*waits, ~KnowledgeBase.deleting)
                .order_by(KnowledgeRun.not_before, KnowledgeRun.id)
            )
            run: KnowledgeRun | None = await session.scalar(query.limit(1))
        if run is None:
            return None
        async with self._db.write() as session:
            mine = update(KnowledgeRun).where(KnowledgeRun.id == run.id, *waits)
            done = await session.execute(mine.values(not_before=moment + CLAIM, state="running"))
        return run if done.rowcount == 1 else None  # type: ignore[attr-defined]

    async def _work(self, run: KnowledgeRun) -> None:
        keeping = asyncio.create_task(every(CLAIM.total_seconds() / 3, lambda: self._keep(run), "no claim"))
        try:
            await self._ask(run)
        except Problem as exc:
            await self._pause(run, exc)
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping

    async def _ask(self, run: KnowledgeRun) -> None:
        settings = KnowledgeRunSettings.model_validate(run.settings)
        limits = RetrievalLimits(top_k=metrics.DEPTH, score_floor=settings.score_floor, token_budget=_TOKENS)
        async with self._db.read() as session:
            of_run = select(KnowledgeBase).join(KnowledgeTestSet, KnowledgeTestSet.base_id == KnowledgeBase.id)
            base = await session.scalar(of_run.where(KnowledgeTestSet.id == run.set_id))
            holes = (KnowledgeAnswer.run_id == run.id, KnowledgeAnswer.took_ms.is_(None))
            answers = (await session.scalars(select(KnowledgeAnswer).where(*holes))).all()
        if base is None:
            return  # taken away meanwhile, and the run with it
        owner = Caller(frozenset({(base.owner_kind, base.owner)}))
        for answer in answers:
            query = Query(answer.text, owner, limits, {}, how=settings.retrieval, index=run.index_number, fresh=True)
            async with self._db.read() as session:
                plan = await self._retriever.plan(session, [base.name], query)
            reply = await self._retriever.search(plan)
            expected = [Expected.model_validate(one) for one in answer.expected]
            ranks = metrics.places(expected, reply.passages)
            if not await self._keep(run, answer.number, ranks=ranks, took_ms=reply.took_ms, rerank=reply.rerank):
                return
        await self._finish(run)

    async def _keep(self, run: KnowledgeRun, number: int | None = None, **found: Any) -> bool:
        """Renew the claim, and keep an answer; whether the run is still there."""
        values: dict[str, Any] = {"not_before": now() + CLAIM}
        async with self._db.write() as session:
            if number is not None:
                which = (KnowledgeAnswer.run_id == run.id, KnowledgeAnswer.number == number)
                await session.execute(update(KnowledgeAnswer).where(*which).values(**found))
                asked = (KnowledgeAnswer.run_id == run.id, KnowledgeAnswer.took_ms.is_not(None))
                many = await session.scalar(select(func.count()).select_from(KnowledgeAnswer).where(*asked))
                values |= {"done": many, "tries": 0}
            mine = update(KnowledgeRun).where(KnowledgeRun.id == run.id, KnowledgeRun.state.in_(_OPEN))
            done = await session.execute(mine.values(**values))
        return bool(done.rowcount == 1)  # type: ignore[attr-defined]

    async def _finish(self, run: KnowledgeRun) -> None:
        async with self._db.write() as session:
            row = await session.get(KnowledgeRun, run.id, with_for_update=True)
            if row is None or row.state not in _OPEN:
                return
            answers = (await session.scalars(select(KnowledgeAnswer).where(KnowledgeAnswer.run_id == run.id))).all()
            pairs = [(one.ranks, one.took_ms) for one in answers if one.ranks is not None and one.took_ms is not None]
            if len(pairs) < row.total:
                return  # another process is at it
            row.figures = metrics.figures(pairs, sum(one.rerank == "failed" for one in answers)).model_dump()
            row.state, row.code, row.message, row.finished_at = "done", "", "", now()

    async def _pause(self, run: KnowledgeRun, exc: Problem) -> None:
        """Wait, where trying again may help; else it has failed."""
        async with self._db.write() as session:
            row = await session.get(KnowledgeRun, run.id, with_for_update=True)
            if row is None or row.state not in _OPEN:
                return
            pause = PAUSES[min(row.tries, len(PAUSES) - 1)]
            row.code, row.message, row.tries = exc.code, exc.detail[:1000], row.tries + 1
            row.state = "waiting" if exc.retry_after is not None else "failed"
            row.not_before = now() + timedelta(seconds=pause)
            row.finished_at = now() if row.state == "failed" else None
        log.warning("run %d of test set %s: %s: %s", run.number, run.set_id, exc.code, exc.detail)
