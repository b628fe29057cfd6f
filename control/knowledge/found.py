"""What a search has found, what of it the caller may see, and what of that is given.

Milvus says which chunks may fit. Whether a passage is given is decided by the database, after that, in one transaction:
its base and its document are there, and the caller may see them. So what is deleted or forbidden is gone at once. The
same transaction brings texts and vectors: from Milvus they would take longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.knowledge.access import Owned, Query
from control.knowledge.embedding import Embedder
from control.knowledge.local_model import Floats
from control.knowledge.rerank import Reranker
from control.knowledge.schemas import Retrieval
from control.knowledge.vectors import Among
from control.models import KnowledgeBase, KnowledgeChunk, KnowledgeDocument, KnowledgeIndex, KnowledgeVector
from gateway.contract.retrieval import Passage, RetrievalLimits


def collection_of(index_id: str) -> str:
    """Name of an index's collection in Milvus."""
    return f"tg_{index_id.replace('-', '')}"


@dataclass(frozen=True, slots=True)
class Place:
    """A base in which to look."""

    base: KnowledgeBase
    index: KnowledgeIndex
    embedder: Embedder
    policy: Retrieval
    reranker: Reranker | None
    among: Among

    @property
    def collection(self) -> str:
        """Name of the index's collection in Milvus."""
        return collection_of(self.index.id)


@dataclass(slots=True)
class Candidate:
    """A chunk that Milvus has found."""

    place: Place
    id: str
    question: Floats
    """Vector of the query, by the model of the place."""
    score: float = 0.0
    dense: float | None = None
    bm25: float | None = None
    rerank: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate that the caller may see."""

    of: Candidate
    row: Any
    """Columns of `SHOWN`."""
    vector: Floats
    similarity: float
    """Cosine of its vector and the query's, however it was found."""


SHOWN = (
    select(
        KnowledgeChunk.id, KnowledgeChunk.index_id, KnowledgeChunk.document_id, KnowledgeChunk.number,
        KnowledgeChunk.parent, KnowledgeChunk.page, KnowledgeChunk.section, KnowledgeChunk.start, KnowledgeChunk.end,
        KnowledgeChunk.tokens, KnowledgeChunk.text, KnowledgeDocument.name.label("title"), KnowledgeDocument.readers,
        KnowledgeDocument.facts, KnowledgeDocument.deleting, KnowledgeDocument.base_id, KnowledgeVector.vector,
        KnowledgeBase.owner_kind, KnowledgeBase.owner, KnowledgeBase.readers.label("base_readers"),
        KnowledgeBase.deleting.label("base_deleting"),
    )
    .outerjoin(KnowledgeDocument, KnowledgeDocument.id == KnowledgeChunk.document_id)
    .outerjoin(KnowledgeBase, KnowledgeBase.id == KnowledgeDocument.base_id)
    .outerjoin(KnowledgeVector, (KnowledgeVector.base_id == KnowledgeDocument.base_id)
        & (KnowledgeVector.sha256 == KnowledgeChunk.digest))
)  # fmt: skip
"""Nothing of it may be missing. Outer joins, and no condition, because SQLite then begins with the chunks: else it
thinks that 20 are many, and goes through all chunks of all documents that are not deleted."""


def fits(facts: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether a document's metadata have what a filter asks for."""
    return all(facts.get(name) == value for name, value in wanted.items())


async def visible(session: AsyncSession, candidates: Sequence[Candidate], query: Query) -> list[Found]:
    """Of the candidates, those that are like enough and that the caller may see; the best first."""
    rows = await session.execute(SHOWN.where(KnowledgeChunk.id.in_([one.id for one in candidates])))
    there = {row.id: row for row in rows}
    found = []
    for one in candidates:
        row = there.get(one.id)
        if row is None or row.deleting or row.vector is None or row.base_deleting is not False:
            continue
        base = Owned(row.owner_kind, row.owner, row.base_readers)
        if not query.caller.may_read(base) or not query.caller.may_read_document(base, row.readers):
            continue
        if not fits(row.facts, query.facts):
            continue
        vector = np.frombuffer(row.vector, "<f4")
        similarity = float(vector @ one.question)
        if similarity >= query.limits.score_floor:
            found.append(Found(one, row, vector, similarity))
    return sorted(found, key=_order)


def _order(one: Found) -> tuple[float, float, float, str]:
    """The best first; of those with the same score, the one that a rerank model likes better."""
    return -one.of.score, -(one.of.rerank or 0.0), -one.similarity, one.of.id


def _varied(found: list[Found], limits: RetrievalLimits) -> list[Found]:
    """By maximal marginal relevance where the base asks for it: each next one is the best after what it repeats."""
    left, chosen = list(found), list[Found]()
    best = found[0].of.score if found else 0.0
    while left and len(chosen) < limits.top_k * 2:

        def worth(one: Found) -> float:
            weight = one.of.place.policy.diversity
            model = one.of.place.embedder.name
            same = (had.vector for had in chosen if had.of.place.embedder.name == model)
            alike = [float(one.vector @ vector) for vector in same]
            return (1 - weight) * one.of.score / best - weight * max(alike, default=0.0)

        chosen.append(max(left, key=worth))
        left.remove(chosen[-1])
    return chosen


def _looked_at(candidates: Sequence[Candidate], query: Query) -> Iterator[list[Candidate]]:
    """Candidates in the order in which they are looked up: first as many of the best as will do nearly always; all at
    once where each is weighed against the others.
    """
    some = len(candidates)
    if not any(one.place.policy.diversity for one in candidates):
        candidates = sorted(candidates, key=lambda one: -one.score)
        some = min(some, 2 * query.limits.top_k)
        while 0 < some < len(candidates) and candidates[some].score == candidates[some - 1].score:
            some += 1  # which of them is better, only the look tells
    yield list(candidates[:some])
    yield list(candidates[some:])


async def passages(session: AsyncSession, candidates: Sequence[Candidate], query: Query) -> list[Passage]:
    """What is given of what was found and may be seen, the best first: within the budget, and no text twice."""
    answer, given = list[Passage](), set[tuple[str, int]]()
    for some in _looked_at(candidates, query):
        if some and len(answer) < query.limits.top_k:
            await _give(session, await visible(session, some, query), query, answer, given)
    return answer


async def _give(
    session: AsyncSession, found: list[Found], query: Query, answer: list[Passage], given: set[tuple[str, int]]
) -> None:
    """Put what is found into an answer. `given`: documents and sections that are in it."""
    if any(one.of.place.policy.diversity for one in found):
        found = _varied(found, query.limits)
    left = query.limits.token_budget - sum(passage.tokens for passage in answer)
    for one in found:
        if len(answer) == query.limits.top_k:
            break
        whole, row = one.of.place.policy.expand == "section", one.row
        mark = (row.document_id, row.parent if whole else -1 - row.number)
        if mark in given:
            continue
        text, start, end, tokens = await _section(session, row) if whole else _alone(row)
        if tokens > left:
            continue
        given.add(mark)
        left -= tokens
        answer.append(
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
