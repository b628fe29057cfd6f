"""Puts documents into indexes, one after another, in the background: parse, cut, embed, write, and then show.

Which process of control works on an entry is decided by a claim that it renews. Every step can be done again: what was
parsed is a file, what was embedded is in `knowledge_vector`, what is in Milvus is written by id. The chunks come into
the database last, in one transaction with `ready`: a document is found as a whole or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

import numpy as np
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.kit.files import Files
from control.kit.periodic import every
from control.kit.upsert import upsert
from control.knowledge import chunking, documents, indexes, service
from control.knowledge.embedding import BATCH, Embedder, Embedders, digest_of
from control.knowledge.found import collection_of
from control.knowledge.indexes import OPEN
from control.knowledge.local_model import Floats
from control.knowledge.parsing import Unparsed, parse
from control.knowledge.schemas import Chunking
from control.knowledge.terms import terms
from control.knowledge.trouble import Trouble
from control.knowledge.vectors import Row, Vectors
from control.models import (
    KnowledgeBase,
    KnowledgeChunk,
    KnowledgeDocument,
    KnowledgeEntry,
    KnowledgeIndex,
    KnowledgeVector,
)
from control.models.base import now
from control.settings import KnowledgeTable

log = logging.getLogger("tunegate.control.knowledge")

CLAIM = timedelta(seconds=30)
"""How long a claim holds unless it is renewed."""
SETTLE = 20.0
"""Seconds after which what was written is indexed, while more is being written."""
PAUSES = (5, 15, 60, 300)
"""Seconds until an entry is tried again after a trouble that may pass; the last one again and again."""


class Ingest:
    """Works on entries one after another."""

    def __init__(
        self, db: Database, files: Files, settings: KnowledgeTable, embedders: Embedders, vectors: Vectors
    ) -> None:
        self._db, self._files, self._settings = db, files, settings
        self._embedders, self._vectors = embedders, vectors
        self._written: set[str] | None = None
        """Collections written to since they were settled; at first unknown: whoever wrote last may have been killed."""

    async def all_there_is(self) -> None:
        """Work on every entry that waits, then have what was written indexed."""
        if self._written is None:
            async with self._db.read() as session:
                filled = (KnowledgeIndex.state != "old", KnowledgeIndex.dimension > 0)
                self._written = set(map(collection_of, await session.scalars(select(KnowledgeIndex.id).where(*filled))))
        settled = time.monotonic()
        while (entry := await self._claimed()) is not None:
            await self._work(entry, self._written)
            if time.monotonic() - settled > SETTLE:
                await self._settle(self._written)
                settled = time.monotonic()
        await self._settle(self._written)

    async def _settle(self, written: set[str]) -> None:
        for collection in sorted(written):
            await self._vectors.settle(collection)
            written.discard(collection)

    async def _claimed(self) -> KnowledgeEntry | None:
        moment = now()
        waits = (KnowledgeEntry.state.in_(OPEN), KnowledgeEntry.not_before <= moment)
        async with self._db.read() as session:
            query = (
                select(KnowledgeEntry)
                .join(KnowledgeIndex, KnowledgeIndex.id == KnowledgeEntry.index_id)
                .join(KnowledgeDocument, KnowledgeDocument.id == KnowledgeEntry.document_id)
                .join(KnowledgeBase, KnowledgeBase.id == KnowledgeDocument.base_id)
                .where(*waits, KnowledgeIndex.state != "old", ~KnowledgeDocument.deleting, ~KnowledgeBase.deleting)
                .order_by(KnowledgeEntry.not_before, KnowledgeEntry.document_id)
            )
            entry: KnowledgeEntry | None = await session.scalar(query.limit(1))
        if entry is None:
            return None
        async with self._db.write() as session:
            mine = update(KnowledgeEntry).where(*_is(entry), *waits).values(not_before=moment + CLAIM)
            done = await session.execute(mine)
        return entry if done.rowcount == 1 else None  # type: ignore[attr-defined]

    async def _work(self, entry: KnowledgeEntry, written: set[str]) -> None:
        keeping = asyncio.create_task(every(CLAIM.total_seconds() / 3, lambda: self._keep(entry), "no claim"))
        try:
            await self._put(entry, written)
        except Unparsed as exc:
            await self._end(entry, "failed", exc.code, str(exc))
        except Trouble as exc:
            await self._end(entry, "waiting" if exc.passes else "failed", exc.code, str(exc))
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping

    async def _put(self, entry: KnowledgeEntry, written: set[str]) -> None:
        async with self._db.read() as session:
            index = await session.get(KnowledgeIndex, entry.index_id)
            document = await session.get(KnowledgeDocument, entry.document_id)
            if index is None or document is None:
                return  # taken away meanwhile
            embedder = await self._embedders.get(session, index.embedding)
        await self._keep(entry, state="parsing", code="", message="")
        source, target = documents.source(self._files, document.id), documents.parsed(self._files, document.id)
        result = await parse(source, document.name, target, self._settings)
        how = Chunking.model_validate(index.chunking)
        chunks = await asyncio.to_thread(lambda: list(chunking.cut(result["blocks"], how, embedder.count)))
        if len(chunks) > self._settings.max_chunks:
            said = f"it makes {len(chunks)} chunks, {self._settings.max_chunks} is the most: split it"
            raise Unparsed("too_many_chunks", said)
        await self._keep(entry, state="embedding", total=len(chunks), done=0, reused=0)
        reused = 0
        for start in range(0, len(chunks), BATCH):
            some = chunks[start : start + BATCH]
            vectors, known = await self._embedded(index, embedder, [chunk.with_section for chunk in some])
            reused += known
            rows = [
                Row(_id(index, document, chunk.number), document.id, vector, terms(chunk.with_section))
                for chunk, vector in zip(some, vectors, strict=True)
            ]
            await self._vectors.put(collection_of(index.id), rows)
            written.add(collection_of(index.id))
            await self._keep(entry, done=start + len(some), reused=reused)
        while missing := await self._show(index, document, result, chunks, embedder):
            await self._embedded(index, embedder, missing)
        log.info("document %s of knowledge base %s: %d chunks", document.id, index.base_id, len(chunks))

    async def _embedded(
        self, index: KnowledgeIndex, embedder: Embedder, texts: Sequence[str]
    ) -> tuple[list[Floats], int]:
        """Vectors of texts, and how many of them were there already."""
        digests = [digest_of(embedder, text) for text in texts]
        async with self._db.read() as session:
            there = (KnowledgeVector.base_id == index.base_id, KnowledgeVector.sha256.in_(digests))
            known = {row.sha256: row.vector for row in await session.scalars(select(KnowledgeVector).where(*there))}
        new = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
        if new:
            made = await embedder.embed(list(new.values()))
            rows = [
                {"base_id": index.base_id, "sha256": digest, "vector": vector.astype("<f4").tobytes()}
                for digest, vector in zip(new, made, strict=True)
            ]
            async with self._db.write() as session:
                same: Any = KnowledgeVector.__table__
                await upsert(session, same, ["base_id", "sha256"], rows, lambda row: {"vector": row.vector})
            known |= {row["sha256"]: row["vector"] for row in rows}
        vectors = [np.frombuffer(known[digest], "<f4") for digest in digests]
        await self._pinned(index, len(vectors[0]))
        return vectors, len(texts) - len(new)

    async def _pinned(self, index: KnowledgeIndex, dimension: int) -> None:
        """The first vectors of an index decide its dimension, for good."""
        if index.dimension == dimension:
            return
        if not index.dimension:
            await self._vectors.prepare(collection_of(index.id), dimension)
            async with self._db.write() as session:
                unpinned = (KnowledgeIndex.id == index.id, KnowledgeIndex.dimension == 0)
                await session.execute(update(KnowledgeIndex).where(*unpinned).values(dimension=dimension))
        async with self._db.read() as session:
            pinned = await session.scalar(select(KnowledgeIndex.dimension).where(KnowledgeIndex.id == index.id))
        if pinned != dimension:
            said = f"its model gives {dimension} dimensions now, the index has {pinned}: change the embedding"
            raise Trouble("embedding_changed", said, passes=False)
        index.dimension = dimension

    async def _show(
        self,
        index: KnowledgeIndex,
        document: KnowledgeDocument,
        result: dict[str, Any],
        chunks: Sequence[chunking.Chunk],
        embedder: Embedder,
    ) -> list[str]:
        """From this transaction on, the document is found, and those that it replaces are not.

        Some texts, and nothing is done: their vectors were taken away meanwhile, with a document that had them too.
        """
        texts = {digest_of(embedder, chunk.with_section): chunk.with_section for chunk in chunks}
        async with self._db.write() as session:
            base = await session.get(KnowledgeBase, index.base_id, with_for_update=True)
            held = await session.get(KnowledgeDocument, document.id, with_for_update=True)
            entry = await session.get(KnowledgeEntry, (index.id, document.id), with_for_update=True)
            if base is None or held is None or held.deleting or entry is None or entry.state == "ready":
                return []
            for start in range(0, len(texts), BATCH):
                some = dict(islice(texts.items(), start, start + BATCH))
                of_base = (KnowledgeVector.base_id == base.id, KnowledgeVector.sha256.in_(some))
                there = set(await session.scalars(select(KnowledgeVector.sha256).where(*of_base)))
                if missing := some.keys() - there:
                    return [some[digest] for digest in missing]
            mine = (KnowledgeChunk.index_id == index.id, KnowledgeChunk.document_id == document.id)
            await session.execute(delete(KnowledgeChunk).where(*mine))
            session.add_all(
                KnowledgeChunk(
                    id=_id(index, document, chunk.number), index_id=index.id, document_id=document.id,
                    number=chunk.number, parent=chunk.parent, page=chunk.page, section=chunk.section,
                    start=chunk.start, end=chunk.end, tokens=chunk.tokens, text=chunk.text,
                    digest=digest_of(embedder, chunk.with_section),
                )
                for chunk in chunks
            )  # fmt: skip
            held.kind, held.pages = result["kind"], result["pages"]
            entry.state, entry.code, entry.message, entry.tries = "ready", "", "", 0
            service.documents_changed(base)
            await session.flush()
            await indexes.swap_if_complete(session, base)
            await indexes.replace(session, base)
        return []

    async def _keep(self, entry: KnowledgeEntry, **values: Any) -> None:
        """Renew the claim, and keep how far it is."""
        async with self._db.write() as session:
            query = update(KnowledgeEntry).where(*_is(entry), KnowledgeEntry.state.in_(OPEN))
            await session.execute(query.values(not_before=now() + CLAIM, **values))

    async def _end(self, entry: KnowledgeEntry, state: str, code: str, message: str) -> None:
        async with self._db.write() as session:
            base = await _base_of(session, entry)
            row = await session.get(KnowledgeEntry, (entry.index_id, entry.document_id), with_for_update=True)
            if base is None or row is None or row.state not in OPEN:
                return
            pause = PAUSES[min(row.tries, len(PAUSES) - 1)]
            row.state, row.code, row.message, row.tries = state, code, message[:1000], row.tries + 1
            row.not_before = now() + timedelta(seconds=pause)
            if state == "failed":  # it may have been the last one that an index waited for
                await session.flush()
                await indexes.swap_if_complete(session, base)
        log.warning("document %s: %s: %s: %s", entry.document_id, state, code, message)


async def _base_of(session: AsyncSession, entry: KnowledgeEntry) -> KnowledgeBase | None:
    """The base of an entry, locked: before its documents and entries, as everybody locks them."""
    query = (
        select(KnowledgeBase)
        .join(KnowledgeIndex, KnowledgeIndex.base_id == KnowledgeBase.id)
        .where(KnowledgeIndex.id == entry.index_id)
    )
    found: KnowledgeBase | None = await session.scalar(query.with_for_update(of=KnowledgeBase))
    return found


def _is(entry: KnowledgeEntry) -> tuple[Any, Any]:
    return KnowledgeEntry.index_id == entry.index_id, KnowledgeEntry.document_id == entry.document_id


def _id(index: KnowledgeIndex, document: KnowledgeDocument, number: int) -> str:
    return hashlib.sha256(f"{index.id} {document.id} {number}".encode()).hexdigest()[:32]
