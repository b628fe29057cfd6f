"""Takes away what nobody finds any more: deleted documents and bases, and indexes that another one has replaced.

Milvus and the disk first, the row last: whatever is interrupted is found again.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import delete, select

from control.db import Database
from control.kit.files import Files
from control.knowledge.found import collection_of
from control.knowledge.indexes import swap_if_complete
from control.knowledge.vectors import Vectors
from control.models import KnowledgeBase, KnowledgeChunk, KnowledgeDocument, KnowledgeIndex, KnowledgeVector

AT_ONCE = 20
"""Documents between two looks."""


class Cleaning:
    """One for a process. Two at once do no harm."""

    def __init__(self, db: Database, files: Files, vectors: Vectors) -> None:
        self._db, self._files, self._vectors = db, files, vectors

    async def all_there_is(self) -> None:
        """Take away what there is."""
        await self._documents()
        await self._indexes()
        await self._bases()

    async def _documents(self) -> None:
        async with self._db.read() as session:
            query = select(KnowledgeDocument).where(KnowledgeDocument.deleting).limit(AT_ONCE)
            gone = (await session.scalars(query)).all()
        for document in gone:
            async with self._db.read() as session:
                of_base = select(KnowledgeIndex.id).where(KnowledgeIndex.base_id == document.base_id)
                indexes = (await session.scalars(of_base)).all()
            for index in indexes:
                await self._vectors.forget(collection_of(index), document.id)
            await asyncio.to_thread(self._files.remove, f"documents/{document.id}")
            async with self._db.write() as session:
                base = await session.get(KnowledgeBase, document.base_id, with_for_update=True)
                await session.execute(delete(KnowledgeDocument).where(KnowledgeDocument.id == document.id))
                if base is not None and not base.deleting:
                    await swap_if_complete(session, base)  # it may have been the last that was waited for
        for base_id in {document.base_id for document in gone}:
            await self._unused(base_id)

    async def _indexes(self) -> None:
        async with self._db.read() as session:
            old = (await session.scalars(select(KnowledgeIndex).where(KnowledgeIndex.state == "old"))).all()
        for index in old:
            await self._vectors.drop(collection_of(index.id))
            async with self._db.write() as session:
                await session.execute(delete(KnowledgeIndex).where(KnowledgeIndex.id == index.id))
            await self._unused(index.base_id)

    async def _bases(self) -> None:
        async with self._db.read() as session:
            gone = (await session.scalars(select(KnowledgeBase).where(KnowledgeBase.deleting))).all()
        for base in gone:
            async with self._db.read() as session:
                of_base = KnowledgeDocument.base_id == base.id
                documents = (await session.scalars(select(KnowledgeDocument.id).where(of_base))).all()
                indexes = (
                    await session.scalars(select(KnowledgeIndex.id).where(KnowledgeIndex.base_id == base.id))
                ).all()
            for index in indexes:
                await self._vectors.drop(collection_of(index))
            for document in documents:
                await asyncio.to_thread(self._files.remove, f"documents/{document}")
            async with self._db.write() as session:
                await session.execute(delete(KnowledgeBase).where(KnowledgeBase.id == base.id))

    async def _unused(self, base_id: str) -> None:
        """Vectors of texts that no chunk of the base has: a vector tells much of its text."""
        in_use = (
            select(KnowledgeChunk.digest)
            .join(KnowledgeIndex, KnowledgeIndex.id == KnowledgeChunk.index_id)
            .where(KnowledgeIndex.base_id == base_id)
        )
        async with self._db.write() as session:
            await session.get(KnowledgeBase, base_id, with_for_update=True)  # while no document comes to be found
            mine = delete(KnowledgeVector).where(KnowledgeVector.base_id == base_id)
            await session.execute(mine.where(KnowledgeVector.sha256.not_in(in_use)))
