"""Finds passages: one way for the gateway and for people.

In which bases, with what; then Milvus, or a copy of what it has (`copies.py`), by vector and by words; then `found.py`,
which decides what is given.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.errors import not_found
from control.knowledge import indexes
from control.knowledge.access import Query
from control.knowledge.chunking import below
from control.knowledge.copies import Copies
from control.knowledge.embedding import Embedders
from control.knowledge.found import Candidate, Found, Place, fits, passages, visible
from control.knowledge.gateway import digest_of_key
from control.knowledge.rerank import Reranker, Unranked
from control.knowledge.results import Results, Scope, scope_of
from control.knowledge.schemas import Retrieval
from control.knowledge.terms import asked
from control.knowledge.trouble import Trouble
from control.knowledge.vectors import ALL, Among, Hit, Vectors
from control.models import KnowledgeBase, KnowledgeDocument, KnowledgeIndex
from gateway.contract.retrieval import RerankOutcome, RetrievalReply

log = logging.getLogger("tunegate.control.knowledge")

FUSION = 60
"""k of reciprocal rank fusion: how much the first ranks count for more."""
REMEMBERED = 256
"""Bases whose documents with readers of their own are remembered: the last that changed or were first asked."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A search that may be made, with what the database said of it."""

    query: Query
    places: Sequence[Place]
    scope: Scope
    started: float


class Retriever:
    """Searches; one for a process."""

    def __init__(self, db: Database, embedders: Embedders, vectors: Vectors, copies: Copies, results: Results) -> None:
        self._db, self._embedders, self._vectors, self._copies = db, embedders, vectors, copies
        self._results = results
        self._readers: dict[str, tuple[int, list[tuple[str, Any]]]] = {}
        """Base → its revision, and its documents that have readers of their own."""

    async def plan(self, session: AsyncSession, names: Sequence[str], query: Query) -> Plan:
        """A search in these bases.

        Raises:
            Problem: 404 for a base that is not there or that the caller may not read; 409 `index_gone` for a version
                that was replaced; 503 when what embeds is not to be had.
        """
        started = time.monotonic()
        try:
            places, scope = await self._places(session, names, query)
        except Trouble as exc:
            raise exc.problem() from exc
        return Plan(query, places, scope, started)

    async def search(self, plan: Plan) -> RetrievalReply:
        """Passages, best first.

        Raises:
            Problem: 503 when the index or what embeds fails.
        """
        query, places = plan.query, plan.places
        kept = None if query.fresh else self._results.get(plan.scope)
        if kept is not None:
            return kept.model_copy(update={"took_ms": _since(plan.started), "cached": True})
        try:
            ranked = await asyncio.gather(*(self._candidates(place, query) for place in places))
        except Trouble as exc:
            raise exc.problem() from exc
        candidates = [one for some in ranked for one in some]
        rerank, why = await self._reranked(places, candidates, query)
        async with self._db.read() as session:
            given = await passages(session, candidates, query)
        took = _since(plan.started)
        searched = {place.base.name: place.index.number for place in places}
        reply = RetrievalReply(passages=tuple(given), took_ms=took, rerank=rerank, rerank_message=why, indexes=searched)
        self._results.put(plan.scope, reply)
        return reply

    async def close(self) -> None:
        """Make no copies any more."""
        await self._copies.close()

    async def _places(self, session: AsyncSession, names: Sequence[str], query: Query) -> tuple[list[Place], Scope]:
        """Where to look, and all that decides what will be found there."""
        places: list[Place] = []
        decided: list[Any] = []
        changed = []
        live = select(KnowledgeBase, KnowledgeIndex).join(KnowledgeIndex, KnowledgeIndex.base_id == KnowledgeBase.id)
        rows = await session.execute(live.where(KnowledgeBase.name.in_(names), KnowledgeIndex.state == "live"))
        there = {base.name: (base, index) for base, index in rows}
        for name in dict.fromkeys(names):
            if name not in there or not query.caller.may_read(there[name][0]):
                raise not_found("knowledge base", name)
            base, index = there[name]
            if query.trial:
                index = await indexes.on_trial(session, base)
            elif query.index is not None:
                index = await indexes.index_of(session, base, query.index)
            hidden = await self._hidden(session, base, query)
            policy = query.how or Retrieval.model_validate(base.retrieval)
            decided.append([base.id, index.id, base.revision, sorted(hidden), policy.model_dump(mode="json")])
            changed.append(base.changed_at)
            if not index.dimension:
                continue  # nothing is in it yet
            among = await _among(session, base, hidden, query)
            if among is not None:
                embedder = await self._embedders.get(session, index.embedding)
                reranker = await self._reranker(session, policy)
                places.append(Place(base, index, embedder, policy, reranker, among))
        asked = [query.text, query.limits.model_dump(mode="json"), dict(query.facts)]
        return places, scope_of([decided, asked], max(changed))

    async def _hidden(self, session: AsyncSession, base: KnowledgeBase, query: Query) -> set[str]:
        """Documents of a base that the caller may not see, as of the base's revision."""
        revision, documents = self._readers.get(base.id, (None, []))
        if revision != base.revision:
            rows = await session.execute(
                select(KnowledgeDocument.id, KnowledgeDocument.readers).where(
                    KnowledgeDocument.base_id == base.id,
                    ~KnowledgeDocument.deleting,
                    KnowledgeDocument.readers.is_not(None),
                )
            )
            documents = [(row.id, row.readers) for row in rows]
            self._readers.pop(base.id, None)
            self._readers[base.id] = (base.revision, documents)
            if len(self._readers) > REMEMBERED:
                del self._readers[next(iter(self._readers))]
        return {id for id, readers in documents if not query.caller.may_read_document(base, readers)}

    async def _reranker(self, session: AsyncSession, policy: Retrieval) -> Reranker | None:
        if policy.rerank is None:
            return None
        return Reranker(self._embedders.gateway, policy.rerank, await digest_of_key(session, policy.rerank.key))

    async def _candidates(self, place: Place, query: Query) -> list[Candidate]:
        """What one base has."""
        many = max(place.policy.candidates, query.limits.top_k)
        words = asked(query.text)
        vector = await self._embedders.query(place.embedder, query.text)
        if vector.shape != (place.index.dimension,):
            said = (
                f"the index of {place.base.name!r} has {place.index.dimension} dimensions, its model {len(vector)} now"
            )
            raise Trouble("embedding_changed", said, passes=False)
        copy = self._copies.of(place.base, place.index) if self._vectors.lite else None
        near = partial(self._vectors.near, place.collection) if copy is None else copy.near
        saying = partial(self._vectors.saying, place.collection) if copy is None else copy.saying
        searches: dict[str, Coroutine[Any, Any, list[Hit]]] = {}
        if place.policy.mode != "bm25":
            searches["dense"] = near(vector, many, place.among)
        if place.policy.mode != "dense" and words:
            searches["bm25"] = saying(words, many, place.among)
        found: dict[str, Candidate] = {}
        for name, hits in zip(searches, await asyncio.gather(*searches.values()), strict=True):
            for rank, hit in _ranked(hits):
                one = found.get(hit.id)
                if one is None:
                    one = found[hit.id] = Candidate(place, hit.id, vector)
                one.score += 1 / (FUSION + rank)
                setattr(one, name, hit.score)
        return list(found.values())

    async def _reranked(
        self, places: Sequence[Place], candidates: Sequence[Candidate], query: Query
    ) -> tuple[RerankOutcome, str]:
        """Hand the scores of each base that names a rerank model out anew, in its order; or say why not.

        Only what the caller may see leaves control; after it, what may be given is decided once more.
        """
        wanted = [place for place in places if place.reranker is not None]
        if not wanted or not candidates:
            return "none", ""
        async with self._db.read() as session:
            found = await visible(session, candidates, query)
        shares = [[one for one in found if one.of.place is place] for place in wanted]
        ended = await asyncio.gather(*(_reordered(query.text, share) for share in shares), return_exceptions=True)
        failed = [str(end) for end in ended if isinstance(end, Unranked)]
        for end in ended:
            if isinstance(end, BaseException) and not isinstance(end, Unranked):
                raise end
        if failed:
            log.warning("passages keep the order in which they were found: %s", "; ".join(failed))
        return ("failed", "; ".join(failed)) if failed else ("done", "")


def _ranked(hits: Sequence[Hit]) -> Iterator[tuple[int, Hit]]:
    """Hits with their ranks, from 1. The same score is the same rank: which of them an index names first is chance."""
    rank = 0
    for at, hit in enumerate(hits, 1):
        if at == 1 or hit.score != hits[at - 2].score:
            rank = at
        yield rank, hit


async def _reordered(query: str, found: Sequence[Found]) -> None:
    """The best of what one base has found, in the order of its rerank model; the others follow. Raises Unranked."""
    reranker = found[0].of.place.reranker if found else None
    if reranker is None:
        return
    some = found[: reranker.settings.candidates]
    given = await reranker.scores(query, [below(one.row.section, one.row.text) for one in some])
    scores = [one.of.score for one in some]  # the best first, as they were found
    for one, score in zip(some, given, strict=True):
        one.of.rerank = score
    best_first = sorted(some, key=lambda one: -(one.of.rerank or 0.0))  # of equals, the one that was before stays so
    for one, score in zip(best_first, scores, strict=True):
        one.of.score = score


def _since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 3)


async def _among(session: AsyncSession, base: KnowledgeBase, hidden: set[str], query: Query) -> Among | None:
    """Where to look, so that what the caller may not see takes no place; None: nothing is left."""
    of_base = (KnowledgeDocument.base_id == base.id, ~KnowledgeDocument.deleting)
    if query.facts:
        rows = await session.execute(select(KnowledgeDocument.id, KnowledgeDocument.facts).where(*of_base))
        wanted = frozenset(id for id, facts in rows if id not in hidden and fits(facts, query.facts))
        return Among(wanted, inside=True) if wanted else None
    return Among(frozenset(hidden)) if hidden else ALL
