"""Finds passages: one way for the gateway and for people.

Milvus says which chunks may fit. Whether a passage is given is decided by the database, after that, in one read: its
document is there, its index is live, and the caller may see it. So what is deleted or forbidden is gone at once. The
same read brings texts and vectors, which takes a fraction of what bringing them from Milvus does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.errors import not_found
from control.knowledge import indexes
from control.knowledge.access import Query
from control.knowledge.embedding import Embedder, Embedders
from control.knowledge.gateway import digest_of_key
from control.knowledge.local_model import Floats
from control.knowledge.rerank import Reranker, Unranked
from control.knowledge.results import Results, Scope, scope_of
from control.knowledge.schemas import Retrieval
from control.knowledge.terms import asked
from control.knowledge.trouble import Trouble
from control.knowledge.vectors import Hit, Vectors, none_of, one_of
from control.models import KnowledgeBase, KnowledgeChunk, KnowledgeDocument, KnowledgeIndex, KnowledgeVector
from gateway.contract.retrieval import Passage, RerankOutcome, RetrievalLimits, RetrievalReply

log = logging.getLogger("tunegate.control.knowledge")

FUSION = 60
"""k of reciprocal rank fusion: how much the first ranks count for more."""
MOST_IN_FILTER = 5000
"""Documents that a filter names to Milvus; of more, only those that were found are looked at."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A base in which to look."""

    base: KnowledgeBase
    index: KnowledgeIndex
    embedder: Embedder
    policy: Retrieval
    reranker: Reranker | None
    where: str

    @property
    def collection(self) -> str:
        return collection_of(self.index.id)


@dataclass(frozen=True, slots=True)
class Plan:
    """A search that may be made, with what the database said of it."""

    query: Query
    places: Sequence[_Place]
    scope: Scope
    started: float


@dataclass(slots=True)
class _Candidate:
    """A chunk that Milvus has found."""

    place: _Place
    id: str
    question: Floats
    """Vector of the query, by the model of the place."""
    score: float = 0.0
    dense: float | None = None
    bm25: float | None = None
    rerank: float | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A candidate that the caller may see."""

    of: _Candidate
    row: Any
    """Columns of `_SHOWN`."""
    vector: Floats
    similarity: float
    """Cosine of its vector and the query's, however it was found."""


_SHOWN = (
    select(
        KnowledgeChunk.id, KnowledgeChunk.index_id, KnowledgeChunk.document_id, KnowledgeChunk.number,
        KnowledgeChunk.parent, KnowledgeChunk.page, KnowledgeChunk.section, KnowledgeChunk.start, KnowledgeChunk.end,
        KnowledgeChunk.tokens, KnowledgeChunk.text, KnowledgeDocument.name.label("title"), KnowledgeDocument.readers,
        KnowledgeDocument.facts, KnowledgeDocument.deleting, KnowledgeDocument.base_id, KnowledgeVector.vector,
    )
    .outerjoin(KnowledgeDocument, KnowledgeDocument.id == KnowledgeChunk.document_id)
    .outerjoin(KnowledgeVector, (KnowledgeVector.base_id == KnowledgeDocument.base_id)
        & (KnowledgeVector.sha256 == KnowledgeChunk.digest))
)  # fmt: skip
"""Nothing of it may be missing. Outer joins, and no condition, because SQLite then begins with the chunks: else it
thinks that 20 are many, and goes through all chunks of all documents that are not deleted."""


def collection_of(index_id: str) -> str:
    """Name of an index's collection in Milvus."""
    return f"tg_{index_id.replace('-', '')}"


class Retriever:
    """Searches; one for a process."""

    def __init__(self, db: Database, embedders: Embedders, vectors: Vectors, results: Results) -> None:
        self._db, self._embedders, self._vectors, self._results = db, embedders, vectors, results

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
            passages = await _passages(session, await _visible(session, candidates, query), query)
        took = _since(plan.started)
        searched = {place.base.name: place.index.number for place in places}
        reply = RetrievalReply(
            passages=tuple(passages), took_ms=took, rerank=rerank, rerank_message=why, indexes=searched
        )
        self._results.put(plan.scope, reply)
        return reply

    async def _places(self, session: AsyncSession, names: Sequence[str], query: Query) -> tuple[list[_Place], Scope]:
        """Where to look, and all that decides what will be found there."""
        places: list[_Place] = []
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
            hidden = await _hidden(session, base, query)
            policy = query.how or Retrieval.model_validate(base.retrieval)
            decided.append([base.id, index.id, base.revision, sorted(hidden), policy.model_dump(mode="json")])
            changed.append(base.changed_at)
            if not index.dimension:
                continue  # nothing is in it yet
            where = await _where(session, base, hidden, query)
            if where is not None:
                embedder = await self._embedders.get(session, index.embedding)
                reranker = await self._reranker(session, policy)
                places.append(_Place(base, index, embedder, policy, reranker, where))
        asked = [query.text, query.limits.model_dump(mode="json"), dict(query.facts)]
        return places, scope_of([decided, asked], max(changed))

    async def _reranker(self, session: AsyncSession, policy: Retrieval) -> Reranker | None:
        if policy.rerank is None:
            return None
        return Reranker(self._embedders.gateway, policy.rerank, await digest_of_key(session, policy.rerank.key))

    async def _candidates(self, place: _Place, query: Query) -> list[_Candidate]:
        """What one base has."""
        many = max(place.policy.candidates, query.limits.top_k)
        words = asked(query.text)
        vector = await self._embedders.query(place.embedder, query.text)
        if vector.shape != (place.index.dimension,):
            said = (
                f"the index of {place.base.name!r} has {place.index.dimension} dimensions, its model {len(vector)} now"
            )
            raise Trouble("embedding_changed", said, passes=False)
        searches: dict[str, Coroutine[Any, Any, list[Hit]]] = {}
        if place.policy.mode != "bm25":
            searches["dense"] = self._vectors.near(place.collection, vector, many, place.where)
        if place.policy.mode != "dense" and words:
            searches["bm25"] = self._vectors.saying(place.collection, words, many, place.where)
        found: dict[str, _Candidate] = {}
        for name, hits in zip(searches, await asyncio.gather(*searches.values()), strict=True):
            for rank, hit in enumerate(hits, 1):
                one = found.get(hit.id)
                if one is None:
                    one = found[hit.id] = _Candidate(place, hit.id, vector)
                one.score += 1 / (FUSION + rank)
                setattr(one, name, hit.score)
        return list(found.values())

    async def _reranked(
        self, places: Sequence[_Place], candidates: Sequence[_Candidate], query: Query
    ) -> tuple[RerankOutcome, str]:
        """Hand the scores of each base that names a rerank model out anew, in its order; or say why not.

        Only what the caller may see leaves control; after it, what may be given is decided once more.
        """
        wanted = [place for place in places if place.reranker is not None]
        if not wanted or not candidates:
            return "none", ""
        async with self._db.read() as session:
            found = await _visible(session, candidates, query)
        shares = [[one for one in found if one.of.place is place] for place in wanted]
        ended = await asyncio.gather(*(_reordered(query.text, share) for share in shares), return_exceptions=True)
        failed = [str(end) for end in ended if isinstance(end, Unranked)]
        for end in ended:
            if isinstance(end, BaseException) and not isinstance(end, Unranked):
                raise end
        if failed:
            log.warning("passages keep the order in which they were found: %s", "; ".join(failed))
        return ("failed", "; ".join(failed)) if failed else ("done", "")


async def _reordered(query: str, found: Sequence[_Found]) -> None:
    """The best of what one base has found, in the order of its rerank model; the others follow. Raises Unranked."""
    reranker = found[0].of.place.reranker if found else None
    if reranker is None:
        return
    some = found[: reranker.settings.candidates]
    given = await reranker.scores(query, [_said(one.row) for one in some])
    scores = [one.of.score for one in some]  # the best first, as they were found
    for one, score in zip(some, given, strict=True):
        one.of.rerank = score
    best_first = sorted(some, key=lambda one: -(one.of.rerank or 0.0))  # of equals, the one that was before stays so
    for one, score in zip(best_first, scores, strict=True):
        one.of.score = score


def _said(row: Any) -> str:
    return f"{row.section}\n{row.text}" if row.section else str(row.text)


def _since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 3)


async def _hidden(session: AsyncSession, base: KnowledgeBase, query: Query) -> set[str]:
    """Documents of a base that the caller may not see."""
    rows = select(KnowledgeDocument.id, KnowledgeDocument.readers).where(
        KnowledgeDocument.base_id == base.id, ~KnowledgeDocument.deleting, KnowledgeDocument.readers.is_not(None)
    )
    return {id for id, readers in await session.execute(rows) if not query.caller.may_read_document(base, readers)}


async def _where(session: AsyncSession, base: KnowledgeBase, hidden: set[str], query: Query) -> str | None:
    """What Milvus may leave out, so that what the caller may not see takes no place; None: nothing is left.

    This saves places, and decides nothing: see `_visible`.
    """
    of_base = (KnowledgeDocument.base_id == base.id, ~KnowledgeDocument.deleting)
    if query.facts:
        rows = await session.execute(select(KnowledgeDocument.id, KnowledgeDocument.facts).where(*of_base))
        wanted = [id for id, facts in rows if id not in hidden and _fits(facts, query.facts)]
        return None if not wanted else one_of("document", wanted) if len(wanted) <= MOST_IN_FILTER else ""
    return none_of("document", sorted(hidden)) if 0 < len(hidden) <= MOST_IN_FILTER else ""


def _fits(facts: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return all(facts.get(name) == value for name, value in wanted.items())


async def _visible(session: AsyncSession, candidates: Sequence[_Candidate], query: Query) -> list[_Found]:
    """Of the candidates, those that are like enough and that the caller may see; the best first."""
    of = {one.place.base.id for one in candidates}
    bases = {
        base.id: base
        for base in await session.scalars(
            select(KnowledgeBase).where(KnowledgeBase.id.in_(of), ~KnowledgeBase.deleting)
        )
        if query.caller.may_read(base)
    }
    rows = await session.execute(_SHOWN.where(KnowledgeChunk.id.in_([one.id for one in candidates])))
    there = {row.id: row for row in rows}
    found = []
    for one in candidates:
        row = there.get(one.id)
        if row is None or row.deleting or row.vector is None or row.base_id not in bases:
            continue
        if not query.caller.may_read_document(bases[row.base_id], row.readers):
            continue
        if not _fits(row.facts, query.facts):
            continue
        vector = np.frombuffer(row.vector, "<f4")
        similarity = float(vector @ one.question)
        if similarity >= query.limits.score_floor:
            found.append(_Found(one, row, vector, similarity))
    return sorted(found, key=_order)


def _order(one: _Found) -> tuple[float, float, float, str]:
    """The best first; of those with the same score, the one that a rerank model likes better."""
    return -one.of.score, -(one.of.rerank or 0.0), -one.similarity, one.of.id


def _varied(found: list[_Found], limits: RetrievalLimits) -> list[_Found]:
    """By maximal marginal relevance where the base asks for it: each next one is the best after what it repeats."""
    left, chosen = list(found), list[_Found]()
    best = found[0].of.score if found else 0.0
    while left and len(chosen) < limits.top_k * 2:

        def worth(one: _Found) -> float:
            weight = one.of.place.policy.diversity
            model = one.of.place.embedder.name
            same = (had.vector for had in chosen if had.of.place.embedder.name == model)
            alike = [float(one.vector @ vector) for vector in same]
            return (1 - weight) * one.of.score / best - weight * max(alike, default=0.0)

        chosen.append(max(left, key=worth))
        left.remove(chosen[-1])
    return chosen


async def _passages(session: AsyncSession, found: list[_Found], query: Query) -> list[Passage]:
    """What is given of what was found, the best first."""
    if any(one.of.place.policy.diversity for one in found):
        found = _varied(found, query.limits)
    answer = _Answer(query.limits)
    await answer.take(session, found)
    return answer.passages


class _Answer:
    """Passages within the budget, and no text twice."""

    def __init__(self, limits: RetrievalLimits) -> None:
        self.passages: list[Passage] = []
        self._top_k, self._left = limits.top_k, limits.token_budget
        self._given: set[tuple[str, int]] = set()

    async def take(self, session: AsyncSession, found: Iterable[_Found]) -> None:
        """Add what there is place for."""
        for one in found:
            if len(self.passages) == self._top_k:
                return
            whole = one.of.place.policy.expand == "section"
            row = one.row
            mark = (row.document_id, row.parent if whole else -1 - row.number)
            if mark in self._given:
                continue
            text, start, end, tokens = await _section(session, row) if whole else _alone(row)
            if tokens > self._left:
                continue
            self._given.add(mark)
            self._left -= tokens
            self.passages.append(
                Passage(
                    base=one.of.place.base.name, document=row.document_id, title=row.title, chunk=row.id,
                    page=row.page, section=row.section, start=start, end=end,
                    score=round(one.of.score, 6), similarity=round(one.similarity, 6),
                    dense=_rounded(one.of.dense), bm25=_rounded(one.of.bm25), rerank=_rounded(one.of.rerank),
                    tokens=tokens, text=text,
                )
            )  # fmt: skip


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 6)


def _alone(chunk: Any) -> tuple[str, int, int, int]:
    return chunk.text, chunk.start, chunk.end, chunk.tokens


async def _section(session: AsyncSession, chunk: Any) -> tuple[str, int, int, int]:
    """(text, start, end, tokens) of the piece of the section that a chunk is in: its chunks, which overlap, as one."""
    same = (
        KnowledgeChunk.index_id == chunk.index_id,
        KnowledgeChunk.document_id == chunk.document_id,
        KnowledgeChunk.parent == chunk.parent,
    )
    text, start, end, tokens = "", 0, 0, 0
    for part in await session.scalars(select(KnowledgeChunk).where(*same).order_by(KnowledgeChunk.number)):
        if not text:
            text, start, end, tokens = _alone(part)
            continue
        new = part.text[max(0, end - part.start) :]
        text += "\n" * (part.start - end) + new  # white space that no chunk begins or ends with
        tokens += -(-part.tokens * len(new) // max(len(part.text), 1))
        end = part.end
    return text, start, end, tokens
