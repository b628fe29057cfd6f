"""Versions of the index of a base: built beside the live one, held back for comparison, and the moment of the swap."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import func, select, update as change
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import Problem
from control.kit.audit import note
from control.kit.ownership import find_to_change
from control.kit.permissions import Person
from control.models import KnowledgeBase, KnowledgeDocument, KnowledgeEntry, KnowledgeIndex
from control.models.base import new_id, now

log = logging.getLogger("tunegate.control.knowledge")

OPEN = ("waiting", "parsing", "embedding")
"""States of an entry that is on its way."""


async def newest_of(session: AsyncSession, base: KnowledgeBase) -> KnowledgeIndex:
    """The index that is being built, or else the live one."""
    query = select(KnowledgeIndex).where(KnowledgeIndex.base_id == base.id, KnowledgeIndex.state != "old")
    found: KnowledgeIndex | None = await session.scalar(query.order_by(KnowledgeIndex.number.desc()).limit(1))
    assert found is not None, "a base has an index from its first moment"
    return found


async def index_of(session: AsyncSession, base: KnowledgeBase, number: int | None = None) -> KnowledgeIndex:
    """The live index of a base, or the one of this number.

    Raises:
        Problem: 409 `index_gone` for one that another has replaced, or that there never was.
    """
    which = KnowledgeIndex.state == "live" if number is None else KnowledgeIndex.number == number
    query = select(KnowledgeIndex).where(KnowledgeIndex.base_id == base.id, KnowledgeIndex.state != "old", which)
    found: KnowledgeIndex | None = await session.scalar(query)
    if found is None:
        raise Problem(409, "index_gone", f"there is no version {number} of the index of {base.name!r} any more")
    return found


def made(base: KnowledgeBase, person: Person, embedding: dict[str, Any], chunking: dict[str, Any]) -> KnowledgeIndex:
    """The next index of a base, which is empty still."""
    return KnowledgeIndex(
        id=new_id(), base_id=base.id, number=base.latest, state="building", embedding=embedding, chunking=chunking,
        dimension=0, created_at=now(), created_by=person.username,
    )  # fmt: skip


async def rebuilt(
    session: AsyncSession,
    person: Person,
    base: KnowledgeBase,
    embedding: dict[str, Any],
    chunking: dict[str, Any],
    *,
    hold: bool,
) -> KnowledgeIndex:
    """A new index of all documents, beside the live one."""
    building = (KnowledgeIndex.base_id == base.id, KnowledgeIndex.state == "building")
    await session.execute(change(KnowledgeIndex).where(*building).values(state="old"))
    base.latest += 1
    index = made(base, person, embedding, chunking)
    index.held = hold
    session.add(index)
    await session.flush()
    documents = select(KnowledgeDocument.id).where(KnowledgeDocument.base_id == base.id, ~KnowledgeDocument.deleting)
    for document in await session.scalars(documents):
        session.add(
            KnowledgeEntry(index_id=index.id, document_id=document, state="waiting", not_before=index.created_at)
        )
    return index


async def promote(session: AsyncSession, person: Person, name: str, number: int) -> KnowledgeBase:
    """Hold an index back no longer: it takes over now, or once it is complete."""
    base = await find_to_change(session, person, KnowledgeBase, name)
    index = await index_of(session, base, number)
    if index.state == "building":
        index.held = False
        note(session, person.actor, "promote", "knowledge_base", name, after={"index": number})
        await swap_if_complete(session, base)
    await session.flush()
    return base


async def discard(session: AsyncSession, person: Person, name: str, number: int) -> KnowledgeBase:
    """Give up an index that is being built, or is held back.

    Raises:
        Problem: 409 `in_use` for the one that answers.
    """
    base = await find_to_change(session, person, KnowledgeBase, name)
    index = await index_of(session, base, number)
    if index.state == "live":
        raise Problem(409, "in_use", f"version {number} of the index of {name!r} is the one that answers")
    index.state = "old"
    note(session, person.actor, "discard", "knowledge_base", name, after={"index": number})
    await session.flush()
    return base


async def swap_if_complete(session: AsyncSession, base: KnowledgeBase) -> None:
    """Let the index that is being built answer, once it is complete and nobody holds it back. The base is locked."""
    new, live = await _both(session, base)
    if new is not None and not new.held and await _complete(session, new, live):
        live.state, new.state, new.live_at = "old", "live", now()
        await session.flush()
        await replace(session, base)
        log.info("knowledge base %s answers from index %d now", base.name, new.number)


async def replace(session: AsyncSession, base: KnowledgeBase) -> None:
    """Documents go whose name a later one has that is found in the live index."""
    found = (
        select(KnowledgeDocument.name, func.max(KnowledgeDocument.id))
        .join(KnowledgeEntry, KnowledgeEntry.document_id == KnowledgeDocument.id)
        .join(KnowledgeIndex, KnowledgeIndex.id == KnowledgeEntry.index_id)
        .where(KnowledgeIndex.base_id == base.id, KnowledgeIndex.state == "live", KnowledgeEntry.state == "ready")
        .where(~KnowledgeDocument.deleting, KnowledgeDocument.name.in_(_repeated(base)))
        .group_by(KnowledgeDocument.name)
    )
    for name, newest in (await session.execute(found)).all():
        older = (KnowledgeDocument.base_id == base.id, KnowledgeDocument.name == name, KnowledgeDocument.id < newest)
        await session.execute(change(KnowledgeDocument).where(*older).values(deleting=True))


def _repeated(base: KnowledgeBase) -> Any:
    """Query of the names that several documents of a base have."""
    there = (KnowledgeDocument.base_id == base.id, ~KnowledgeDocument.deleting)
    return select(KnowledgeDocument.name).where(*there).group_by(KnowledgeDocument.name).having(func.count() > 1)


async def on_trial(session: AsyncSession, base: KnowledgeBase) -> KnowledgeIndex:
    """The index that is held back, if it is complete; else the live one."""
    new, live = await _both(session, base)
    return new if new is not None and new.held and await _complete(session, new, live) else live


async def _both(session: AsyncSession, base: KnowledgeBase) -> tuple[KnowledgeIndex | None, KnowledgeIndex]:
    """(the index that is being built, the live one) of a base."""
    found = await session.scalars(
        select(KnowledgeIndex).where(KnowledgeIndex.base_id == base.id, KnowledgeIndex.state != "old")
    )
    by_state = {index.state: index for index in found}
    return by_state.get("building"), by_state["live"]


async def _complete(session: AsyncSession, new: KnowledgeIndex, live: KnowledgeIndex) -> bool:
    """Whether an index holds every document that the live one holds, and nothing waits for it."""

    def having(index: KnowledgeIndex, *states: str) -> Any:
        return (
            select(KnowledgeEntry.document_id)
            .join(KnowledgeDocument, KnowledgeDocument.id == KnowledgeEntry.document_id)
            .where(KnowledgeEntry.index_id == index.id, KnowledgeEntry.state.in_(states), ~KnowledgeDocument.deleting)
        )

    if (await session.scalars(having(new, *OPEN).limit(1))).first() is not None:
        return False
    return not set(await session.scalars(having(live, "ready"))) - set(await session.scalars(having(new, "ready")))
