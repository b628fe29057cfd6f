"""Copies of indexes in memory, for searches on Milvus Lite: it goes through all chunks in Python, twice for a search.

A copy has the revision of its base. A search that has read another one in the database finds no copy, asks Milvus Lite,
and has the copy brought up to date meanwhile: so what has changed is in effect at once, as without copies. A document
that is ready in an index never changes there, so only documents that have come are read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.knowledge.chunking import below
from control.knowledge.memory import Memory
from control.knowledge.terms import terms
from control.knowledge.vectors import Row
from control.models import (
    KnowledgeBase,
    KnowledgeChunk,
    KnowledgeDocument,
    KnowledgeEntry,
    KnowledgeIndex,
    KnowledgeVector as Vector,
)

log = logging.getLogger("tunegate.control.knowledge")

AT_ONCE = 500
"""Chunks that are read in one statement."""
IN_USE = 60.0
"""Seconds since its last search in which a copy does not make room for another one."""
REST = 5.0
"""How many times as long as bringing a copy up to date took it is left as it is after that."""
_WORDS_BYTES = 1000
"""Of a chunk, about; for a guess before it is read."""


@dataclass(slots=True)
class _Kept:
    memory: Memory
    revision: int
    """Of the base, when the documents were looked up."""
    used: float


class Copies:
    """All copies of a process, together of a bounded size: what is not used makes room."""

    def __init__(self, db: Database, most_bytes: int) -> None:
        self._db, self._most = db, most_bytes
        self._kept: dict[str, _Kept] = {}
        self._not_before: dict[str, float] = {}
        self._making: dict[str, asyncio.Task[None]] = {}

    def of(self, base: KnowledgeBase, index: KnowledgeIndex) -> Memory | None:
        """The copy of an index as it is, as the caller has read base and index; None, and one is made, if there is
        none.
        """
        kept, moment = self._kept.get(index.id), time.monotonic()
        if kept is not None:
            kept.used = moment
            if kept.revision == base.revision:
                return kept.memory
        if self._most and index.id not in self._making and moment >= self._not_before.get(index.id, 0.0):
            task = self._making[index.id] = asyncio.create_task(self._make(index.id))
            task.add_done_callback(lambda _: self._making.pop(index.id))
        return None

    async def close(self) -> None:
        """Make no more."""
        making = list(self._making.values())
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _make(self, index_id: str) -> None:
        began = time.monotonic()
        try:
            await self._bring(index_id)
        except Exception:
            log.exception("the index %s is not copied into memory: Milvus Lite is asked as before", index_id)
            self._not_before[index_id] = time.monotonic() + IN_USE
            return
        ended = time.monotonic()
        self._not_before[index_id] = max(self._not_before.get(index_id, 0.0), ended + REST * (ended - began))

    async def _bring(self, index_id: str) -> None:
        """Make the copy of an index, or bring it up to date."""
        async with self._db.read() as session:
            index = await session.get(KnowledgeIndex, index_id)
            base = await session.get(KnowledgeBase, index.base_id) if index is not None else None
            if index is None or base is None or index.state == "old":
                self._kept.pop(index_id, None)
                return
            # the revision first: where later changes are seen in a transaction, the copy has more than it says
            revision, dimension = base.revision, index.dimension
            there = await _documents(session, index_id)
        kept = self._kept.get(index_id)
        memory = Memory.empty(dimension) if kept is None else kept.memory
        if not self._has_room(index_id, sum(there.values()) * (4 * dimension + _WORDS_BYTES)):
            return
        new = {name: chunks for name, chunks in there.items() if name not in memory.documents}
        rows = list[Row]()
        async for some in self._read(index_id, base.id, new):
            rows += await asyncio.to_thread(lambda: [_row(one) for one in some])  # noqa: B023 - awaited at once
        memory = await asyncio.to_thread(memory.changed, memory.documents.keys() - there.keys(), rows)
        if self._has_room(index_id, memory.bytes):
            self._kept[index_id] = _Kept(memory, revision, time.monotonic())

    def _has_room(self, index_id: str, needed: int) -> bool:
        """Whether there is room for a copy, which others that nobody uses have made; if not, there is none for now."""
        others = sorted((kept.used, name) for name, kept in self._kept.items() if name != index_id)
        taken = sum(self._kept[name].memory.bytes for _, name in others)
        for used, name in others:
            if taken + needed > self._most and time.monotonic() - used > IN_USE:
                taken -= self._kept.pop(name).memory.bytes
        if taken + needed <= self._most:
            return True
        self._kept.pop(index_id, None)
        self._not_before[index_id] = time.monotonic() + IN_USE
        return False

    async def _read(self, index_id: str, base_id: str, new: Mapping[str, int]) -> AsyncIterator[Sequence[Any]]:
        """The chunks of documents, some at a time."""
        some = (
            select(KnowledgeChunk.id, KnowledgeChunk.document_id, KnowledgeChunk.section, KnowledgeChunk.text)
            .add_columns(Vector.vector)
            .join(Vector, (Vector.base_id == base_id) & (Vector.sha256 == KnowledgeChunk.digest))
            .where(KnowledgeChunk.index_id == index_id)
        )
        for names in _together(new):
            for start in range(0, max(map(new.__getitem__, names)), AT_ONCE):
                number = (KnowledgeChunk.number >= start, KnowledgeChunk.number < start + AT_ONCE)
                async with self._db.read() as session:
                    found = await session.execute(some.where(KnowledgeChunk.document_id.in_(names), *number))
                    yield found.all()


async def _documents(session: AsyncSession, index_id: str) -> dict[str, int]:
    """What may be found in an index: document → how many chunks it has."""
    rows = await session.execute(
        select(KnowledgeEntry.document_id, KnowledgeEntry.total)
        .join(KnowledgeDocument, KnowledgeDocument.id == KnowledgeEntry.document_id)
        .where(KnowledgeEntry.index_id == index_id, KnowledgeEntry.state == "ready", ~KnowledgeDocument.deleting)
    )
    return {row.document_id: row.total for row in rows}


def _together(documents: Mapping[str, int]) -> list[list[str]]:
    """Documents in groups that are read at once: about as many chunks as that may be."""
    groups, size = [list[str]()], 0
    for name, chunks in documents.items():
        if size + chunks > AT_ONCE and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += chunks
    return [group for group in groups if group]


def _row(one: Any) -> Row:
    return Row(one.id, one.document_id, np.frombuffer(one.vector, "<f4"), terms(below(one.section, one.text)))
