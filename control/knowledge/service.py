"""Knowledge bases: made, changed, taken away, and the indexes that follow from that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Select

from control.db import lock
from control.errors import Problem, duplicate, not_found
from control.keys import service as keys
from control.kit.audit import note
from control.kit.membership import teams_of
from control.kit.ownership import find_to_change, is_theirs, owner_of, visible_to
from control.kit.pages import contains
from control.kit.permissions import Person
from control.knowledge import access, indexes, schemas
from control.models import KnowledgeBase, KnowledgeDocument, KnowledgeEntry, KnowledgeIndex, Route
from control.models.base import now

LITE_CHUNKS = 10_000
"""Of an index on Milvus Lite, which looks at all of them for each question (docs/bench/rag.md)."""


async def listed(session: AsyncSession, person: Person, search: str | None) -> Select[Any]:
    """Query of the bases that a person sees: those that they manage, and those that they read."""
    caller = await access.of_person(session, person)
    mine = visible_to(KnowledgeBase, person, await teams_of(session, person.id))
    bases = await session.scalars(select(KnowledgeBase).where(~KnowledgeBase.deleting))
    readable = [base.id for base in bases if base.readers and caller.may_read(base)]
    query = select(KnowledgeBase).where(~KnowledgeBase.deleting, mine | KnowledgeBase.id.in_(readable))
    if search:
        query = query.where(contains(search, [KnowledgeBase.name, KnowledgeBase.description]))
    return query.order_by(KnowledgeBase.name)


async def find(session: AsyncSession, person: Person, name: str) -> KnowledgeBase:
    """A base that the person manages or reads."""
    base = await session.scalar(select(KnowledgeBase).where(KnowledgeBase.name == name))
    if base is None or not (await access.of_person(session, person)).may_read(base):
        raise not_found("knowledge base", name)
    return base


async def find_managed(session: AsyncSession, person: Person, name: str) -> KnowledgeBase:
    """A base that is the person's, with all that is in it; others may search in it, and see no more of it."""
    base = await find(session, person, name)
    if not person.may("knowledge:read") and not await is_theirs(session, person, base):
        raise Problem(403, "forbidden", f"you may search in {name!r}, but not see its documents")
    return base


async def create(
    session: AsyncSession, person: Person, body: schemas.KnowledgeBaseCreate, models: Sequence[str]
) -> KnowledgeBase:
    """A new base with its first index, which is live at once: there is nothing to be put into it."""
    if await session.scalar(select(KnowledgeBase.id).where(KnowledgeBase.name == body.name)):
        raise duplicate("knowledge base", body.name)
    await _check(session, person, body.embedding, models)
    await check_rerank(session, person, body.retrieval)
    kind, owner = await owner_of(session, person, body.team, KnowledgeBase)
    base = KnowledgeBase(
        name=body.name, description=body.description, owner_kind=kind, owner=owner,
        readers=_written(body.readers), retrieval=body.retrieval.model_dump(mode="json"),
    )  # fmt: skip
    session.add(base)
    await session.flush()
    index = indexes.made(base, person, body.embedding.model_dump(mode="json"), body.chunking.model_dump(mode="json"))
    index.state, index.live_at = "live", index.created_at
    session.add(index)
    await session.flush()
    note(session, person.actor, "create", "knowledge_base", base.name, after=facts(base, index))
    return base


async def update(
    session: AsyncSession, person: Person, name: str, body: schemas.KnowledgeBaseUpdate, models: Sequence[str]
) -> KnowledgeBase:
    """Change a base. Another embedding or chunking begins a new index, which replaces any that is being built."""
    base = await find_to_change(session, person, KnowledgeBase, name, row_version=body.row_version)
    newest = await indexes.newest_of(session, base)
    before = facts(base, newest)
    if body.description is not None:
        base.description = body.description
    if body.readers is not None:
        base.readers = _written(body.readers)
    if body.retrieval is not None:
        await check_rerank(session, person, body.retrieval, base)
        base.retrieval = body.retrieval.model_dump(mode="json")
    embedding = newest.embedding if body.embedding is None else body.embedding.model_dump(mode="json")
    chunking = newest.chunking if body.chunking is None else body.chunking.model_dump(mode="json")
    if (embedding, chunking) != (newest.embedding, newest.chunking):
        if body.embedding is not None:
            await _check(session, person, body.embedding, models)
        newest = await indexes.rebuilt(session, person, base, embedding, chunking, hold=body.hold)
    after = facts(base, newest)
    if after != before:
        base.row_version += 1
        base.updated_at = now()
        note(session, person.actor, "update", "knowledge_base", name, before, after)
    await session.flush()
    return base


async def remove(session: AsyncSession, person: Person, name: str) -> None:
    """Forget a base: nobody finds it from now on, its name is free, and the rest is taken away by and by.

    Raises:
        Problem: 409 `in_use` while routes answer with it.
    """
    await lock(session, "config")  # no route comes to need it meanwhile
    base = await find_to_change(session, person, KnowledgeBase, name)
    routes = await session.execute(select(Route.name, Route.spec).order_by(Route.name))
    if needing := [route for route, spec in routes if name in (spec.get("knowledge") or {}).get("bases", ())]:
        raise Problem(409, "in_use", f"these routes answer with {name!r}: {', '.join(needing[:20])}")
    note(
        session,
        person.actor,
        "delete",
        "knowledge_base",
        name,
        before=facts(base, await indexes.newest_of(session, base)),
    )
    base.deleting, base.name, base.row_version = True, f"({base.id})", base.row_version + 1
    await session.flush()


async def rebuild(session: AsyncSession, person: Person, name: str, *, hold: bool) -> KnowledgeBase:
    """Fill a new index, cut and embedded as the newest one is: after Milvus has lost what it had."""
    base = await find_to_change(session, person, KnowledgeBase, name)
    newest = await indexes.newest_of(session, base)
    await indexes.rebuilt(session, person, base, newest.embedding, newest.chunking, hold=hold)
    note(session, person.actor, "rebuild", "knowledge_base", name, after={"index": base.latest})
    await session.flush()
    return base


def documents_changed(base: KnowledgeBase) -> None:
    """What may be found in a base is another thing from this transaction on. The base is locked."""
    base.revision, base.changed_at = base.revision + 1, now()


async def shown(
    session: AsyncSession, person: Person, bases: Sequence[KnowledgeBase], *, lite: bool
) -> list[schemas.KnowledgeBase]:
    """Bases with their indexes. `lite`: it is Milvus Lite that finds chunks."""
    indexes: dict[str, list[schemas.KnowledgeIndex]] = {base.id: [] for base in bases}

    def counted(condition: ColumnElement[bool], what: Any = 1) -> Any:
        return func.sum(case((condition, what), else_=0))

    of_index = and_(KnowledgeEntry.index_id == KnowledgeIndex.id, ~KnowledgeDocument.deleting)
    is_ready = and_(of_index, KnowledgeEntry.state == "ready")
    query = (
        select(
            KnowledgeIndex, counted(of_index), counted(is_ready),
            counted(and_(of_index, KnowledgeEntry.state == "failed")), counted(is_ready, KnowledgeEntry.total),
        )
        .outerjoin(KnowledgeEntry, KnowledgeEntry.index_id == KnowledgeIndex.id)
        .outerjoin(KnowledgeDocument, KnowledgeDocument.id == KnowledgeEntry.document_id)
        .where(KnowledgeIndex.base_id.in_(list(indexes)), KnowledgeIndex.state != "old")
        .group_by(KnowledgeIndex.id)
        .order_by(KnowledgeIndex.number.desc())
    )  # fmt: skip
    for index, documents, ready, failed, chunks in await session.execute(query):
        row = {name: getattr(index, name) for name in ("number", "state", "held", "embedding", "chunking", "dimension")}
        row |= {"documents": documents, "ready": ready, "failed": failed}
        row |= {"chunks": chunks, "crowded": lite and chunks > LITE_CHUNKS}
        row |= {"created_at": index.created_at, "live_at": index.live_at}
        indexes[index.base_id].append(schemas.KnowledgeIndex.model_validate(row))
    return [
        schemas.KnowledgeBase.model_validate(
            {
                name: getattr(base, name)
                for name in (
                    "name", "description", "owner_kind", "owner", "readers", "retrieval", "created_at", "updated_at",
                    "row_version",
                )
            }
            | {"mine": await is_theirs(session, person, base), "indexes": indexes[base.id]}
        )
        for base in bases
    ]  # fmt: skip


def facts(base: KnowledgeBase, index: KnowledgeIndex) -> dict[str, Any]:
    """For the audit log."""
    return {
        "owner": f"{base.owner_kind} {base.owner}", "description": base.description, "readers": base.readers,
        "retrieval": base.retrieval, "index": index.number, "embedding": index.embedding, "chunking": index.chunking,
    }  # fmt: skip


async def check_rerank(
    session: AsyncSession, person: Person, retrieval: schemas.Retrieval, base: KnowledgeBase | None = None
) -> None:
    """Whoever could not use a key does not make it pay for a rerank model, unless the base has it do so already.

    Raises:
        Problem: 422 `unknown_key`.
    """
    known = schemas.Retrieval.model_validate(base.retrieval).rerank if base is not None else None
    if retrieval.rerank is not None and (known is None or known.key != retrieval.rerank.key):
        await check_key(session, person, retrieval.rerank.key)


async def check_key(session: AsyncSession, person: Person, name: str) -> None:
    """Whoever could not use a key does not make it pay. Raises Problem 422 `unknown_key`."""
    try:
        await keys.find_to_change(session, person, name)
    except Problem as exc:
        raise Problem(422, "unknown_key", exc.detail) if exc.status == 404 else exc from exc


async def _check(session: AsyncSession, person: Person, embedding: schemas.Embedding, models: Sequence[str]) -> None:
    if isinstance(embedding, schemas.RouteEmbedding):
        await check_key(session, person, embedding.key)  # whoever could not use it does not make it pay
    elif embedding.model not in models:
        raise Problem(
            422, "unknown_model", f"there is no model {embedding.model!r} here: {', '.join(models) or 'none'}"
        )


def _written(readers: Sequence[schemas.Reader]) -> list[dict[str, str]]:
    return [reader.model_dump() for reader in readers]
