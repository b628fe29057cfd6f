"""Finds passages: one way for the gateway and for people.

Milvus says which chunks may fit. Whether a passage is given is decided by the database, after that, in one read: its
document is there, its index is live, and the caller may see it. So what is deleted or forbidden is gone at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.errors import not_found
from control.knowledge import service
from control.knowledge.access import Query
from control.knowledge.embedding import Embedder, Embedders
from control.knowledge.local_model import Floats
from control.knowledge.schemas import Retrieval
from control.knowledge.terms import terms
from control.knowledge.trouble import Trouble
from control.knowledge.vectors import Hit, Vectors, none_of, one_of
from control.models import KnowledgeBase, KnowledgeChunk, KnowledgeDocument, KnowledgeIndex
from gateway.contract.retrieval import Passage, RetrievalLimits, RetrievalReply

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
    where: str

    @property
    def collection(self) -> str:
        return collection_of(self.index.id)


@dataclass(slots=True)
class _Found:
    """A chunk that the caller may see."""

    place: _Place
    chunk: KnowledgeChunk
    document: KnowledgeDocument
    score: float
    similarity: float
    vector: Floats


def collection_of(index_id: str) -> str:
    """Name of an index's collection in Milvus."""
    return f"tg_{index_id.replace('-', '')}"


class Retriever:
    """Searches; one for a process."""

    def __init__(self, db: Database, embedders: Embedders, vectors: Vectors) -> None:
        self._db, self._embedders, self._vectors = db, embedders, vectors

    async def search(self, names: Sequence[str], query: Query) -> RetrievalReply:
        """Passages of these bases, best first.

        Raises:
            Problem: 404 for a base that is not there or that the caller may not read; 409 `index_gone` for a version
                that was replaced; 503 when the index or what embeds fails.
        """
        started = time.monotonic()
        try:
            places = await self._places(names, query)
            ranked = await asyncio.gather(*(self._candidates(place, query) for place in places))
        except Trouble as exc:
            raise exc.problem() from exc
        async with self._db.read() as session:
            found = await _visible(session, [one for some in ranked for one in some], query)
            found = _varied(found, query.limits)
            passages = await _passages(session, found, query)
        took = round((time.monotonic() - started) * 1000, 3)
        return RetrievalReply(passages=tuple(passages), took_ms=took)

    async def _places(self, names: Sequence[str], query: Query) -> list[_Place]:
        places = []
        async with self._db.read() as session:
            for name in dict.fromkeys(names):
                base = await session.scalar(select(KnowledgeBase).where(KnowledgeBase.name == name))
                if base is None or not query.caller.may_read(base):
                    raise not_found("knowledge base", name)
                index = await service.index_of(session, base, query.index)
                if not index.dimension:
                    continue  # nothing is in it yet
                where = await _where(session, base, query)
                if where is not None:
                    embedder = await self._embedders.get(session, index.embedding)
                    policy = query.how or Retrieval.model_validate(base.retrieval)
                    places.append(_Place(base, index, embedder, policy, where))
        return places

    async def _candidates(self, place: _Place, query: Query) -> list[tuple[_Place, Hit, float, float]]:
        """(place, chunk, score, similarity) of one base. In any mode, the query's vector says the similarity."""
        many = max(place.policy.candidates, query.limits.top_k)
        words = terms(query.text)
        vector = await self._embedders.query(place.embedder, query.text)
        if vector.shape != (place.index.dimension,):
            said = (
                f"the index of {place.base.name!r} has {place.index.dimension} dimensions, its model {len(vector)} now"
            )
            raise Trouble("embedding_changed", said, passes=False)
        searches = []
        if place.policy.mode != "bm25":
            searches.append(self._vectors.near(place.collection, vector, many, place.where))
        if place.policy.mode != "dense" and words:
            searches.append(self._vectors.saying(place.collection, words, many, place.where))
        scores: dict[str, float] = {}
        hits: dict[str, Hit] = {}
        for found in await asyncio.gather(*searches):
            for rank, hit in enumerate(found, 1):
                scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (FUSION + rank)
                hits[hit.id] = hit
        return [(place, hit, scores[hit.id], float(hit.vector @ vector)) for hit in hits.values()]


async def _where(session: AsyncSession, base: KnowledgeBase, query: Query) -> str | None:
    """What Milvus may leave out, so that what the caller may not see takes no place; None: nothing is left.

    This saves places, and decides nothing: see `_visible`.
    """
    of_base = (KnowledgeDocument.base_id == base.id, ~KnowledgeDocument.deleting)
    own = select(KnowledgeDocument.id, KnowledgeDocument.readers).where(
        *of_base, KnowledgeDocument.readers.is_not(None)
    )
    hidden = {id for id, readers in await session.execute(own) if not query.caller.may_read_document(base, readers)}
    if query.facts:
        rows = await session.execute(select(KnowledgeDocument.id, KnowledgeDocument.facts).where(*of_base))
        wanted = [id for id, facts in rows if id not in hidden and _fits(facts, query.facts)]
        return None if not wanted else one_of("document", wanted) if len(wanted) <= MOST_IN_FILTER else ""
    return none_of("document", sorted(hidden)) if 0 < len(hidden) <= MOST_IN_FILTER else ""


def _fits(facts: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return all(facts.get(name) == value for name, value in wanted.items())


async def _visible(
    session: AsyncSession, candidates: Sequence[tuple[_Place, Hit, float, float]], query: Query
) -> list[_Found]:
    """Of the candidates, those that the caller may see and that reach the floor; the best first."""
    rows = (
        select(KnowledgeChunk, KnowledgeDocument, KnowledgeBase)
        .join(KnowledgeDocument, KnowledgeDocument.id == KnowledgeChunk.document_id)
        .join(KnowledgeBase, KnowledgeBase.id == KnowledgeDocument.base_id)
        .where(KnowledgeChunk.id.in_([hit.id for _, hit, _, _ in candidates]))
        .where(~KnowledgeDocument.deleting, ~KnowledgeBase.deleting)
    )
    there = {chunk.id: (chunk, document, base) for chunk, document, base in await session.execute(rows)}
    found = []
    for place, hit, score, similarity in candidates:
        chunk, document, base = there.get(hit.id, (None, None, None))
        if chunk is None or document is None or base is None or similarity < query.limits.score_floor:
            continue
        may = query.caller.may_read(base) and query.caller.may_read_document(base, document.readers)
        if may and _fits(document.facts, query.facts):
            found.append(_Found(place, chunk, document, score, similarity, hit.vector))
    return sorted(found, key=lambda one: (-one.score, -one.similarity, one.chunk.id))


def _varied(found: list[_Found], limits: RetrievalLimits) -> list[_Found]:
    """By maximal marginal relevance where the base asks for it: each next one is the best after what it repeats."""
    if not any(one.place.policy.diversity for one in found):
        return found
    left, chosen = list(found), list[_Found]()
    best = found[0].score
    while left and len(chosen) < limits.top_k * 2:

        def worth(one: _Found) -> float:
            weight = one.place.policy.diversity
            alike = [
                float(one.vector @ had.vector) for had in chosen if had.place.embedder.name == one.place.embedder.name
            ]
            return (1 - weight) * one.score / best - weight * max(alike, default=0.0)

        chosen.append(max(left, key=worth))
        left.remove(chosen[-1])
    return chosen


async def _passages(session: AsyncSession, found: Iterable[_Found], query: Query) -> list[Passage]:
    """What is given: within the budget, and no text twice."""
    passages: list[Passage] = []
    left = query.limits.token_budget
    given: set[tuple[str, int]] = set()
    for one in found:
        if len(passages) == query.limits.top_k:
            break
        whole = one.place.policy.expand == "section"
        mark = (one.chunk.document_id, one.chunk.parent if whole else -1 - one.chunk.number)
        if mark in given:
            continue
        text, start, end, tokens = await _section(session, one.chunk) if whole else _alone(one.chunk)
        if tokens > left:
            continue
        given.add(mark)
        left -= tokens
        passages.append(
            Passage(
                base=one.place.base.name, document=one.document.id, title=one.document.name, chunk=one.chunk.id,
                page=one.chunk.page, section=one.chunk.section, start=start, end=end, score=round(one.score, 6),
                similarity=round(one.similarity, 6), tokens=tokens, text=text,
            )
        )  # fmt: skip
    return passages


def _alone(chunk: KnowledgeChunk) -> tuple[str, int, int, int]:
    return chunk.text, chunk.start, chunk.end, chunk.tokens


async def _section(session: AsyncSession, chunk: KnowledgeChunk) -> tuple[str, int, int, int]:
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
