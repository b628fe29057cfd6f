"""Bases that a caller may read, for gateways: with the documents that the caller may see, and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.knowledge.access import Caller
from control.models import KnowledgeBase, KnowledgeDocument, KnowledgeEntry, KnowledgeIndex
from gateway.contract.retrieval import MOST_BASES, ReadableBase

Sums = dict[str, Counter[str]]
"""Of each base: documents by state, and `bytes`."""


async def readable(session: AsyncSession, caller: Caller, names: Sequence[str] | None) -> list[ReadableBase]:
    """Bases, the newest first; of these names, if any are given."""
    query = select(KnowledgeBase).where(~KnowledgeBase.deleting).order_by(KnowledgeBase.id.desc())
    if names is not None:
        query = query.where(KnowledgeBase.name.in_(names))
    bases = [base for base in await session.scalars(query) if caller.may_read(base)][:MOST_BASES]
    sums = await _sums(session, caller, bases)
    return [
        ReadableBase(
            name=base.name, description=base.description, created_at=int(base.created_at.timestamp()),
            documents=sums[base.id].total() - sums[base.id]["bytes"], ready=sums[base.id]["ready"],
            failed=sums[base.id]["failed"], bytes=sums[base.id]["bytes"],
        )
        for base in bases
    ]  # fmt: skip


async def _sums(session: AsyncSession, caller: Caller, bases: Sequence[KnowledgeBase]) -> Sums:
    sums: Sums = {base.id: Counter() for base in bases}
    of_live = (
        select(KnowledgeDocument)
        .join(KnowledgeEntry, KnowledgeEntry.document_id == KnowledgeDocument.id)
        .join(KnowledgeIndex, KnowledgeIndex.id == KnowledgeEntry.index_id)
        .where(KnowledgeDocument.base_id.in_(list(sums)), ~KnowledgeDocument.deleting, KnowledgeIndex.state == "live")
    )
    document, state = KnowledgeDocument, KnowledgeEntry.state
    counted = of_live.with_only_columns(document.base_id, state, func.count(), func.sum(document.size))
    for base, how, many, size in await session.execute(
        counted.where(document.readers.is_(None)).group_by(document.base_id, state)
    ):
        sums[base] += Counter({how: many, "bytes": int(size)})
    by_id = {base.id: base for base in bases}
    own = of_live.with_only_columns(document.base_id, state, document.size, document.readers)
    for base, how, size, readers in await session.execute(own.where(document.readers.is_not(None))):
        if caller.may_read_document(by_id[base], readers):
            sums[base] += Counter({how: 1, "bytes": size})
    return sums
