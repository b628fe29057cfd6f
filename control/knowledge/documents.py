"""Documents of a base: taken in, shown, changed, taken away. What becomes of them is the work of `ingest`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Select

from control.db import Database
from control.errors import Problem, not_found
from control.kit.audit import note
from control.kit.files import Files
from control.kit.ownership import find_to_change
from control.kit.pages import contains
from control.kit.permissions import Person
from control.knowledge import indexes, schemas, service
from control.models import KnowledgeBase, KnowledgeChunk, KnowledgeDocument, KnowledgeEntry, KnowledgeIndex
from control.models.base import new_id, now

MOST_DOCUMENTS = 100_000
"""Of one base."""


def folder(files: Files, id: str) -> Path:
    """Where the file of a document is, and what was parsed of it."""
    return files.path("documents", id)


def source(files: Files, id: str) -> Path:
    """The file as it was sent."""
    return folder(files, id) / "source"


def parsed(files: Files, id: str) -> Path:
    """What parsing has made of it."""
    return folder(files, id) / "parsed.json"


async def receive(
    db: Database,
    files: Files,
    person: Person,
    name: str,
    title: str,
    pieces: AsyncIterator[bytes],
    most: int,
    url: str = "",
) -> tuple[KnowledgeDocument, bool]:
    """Take a file in; the document, and whether it is new. The same content under the same name is the document that
    is there. Other content under a name that is there replaces it as soon as it can be found itself.

    Raises:
        Problem: 409 `name_taken` for a page whose name a document has that is not of this `url`.
    """
    async with db.read() as session:
        await find_to_change(session, person, KnowledgeBase, name)
    id = new_id()
    stored = await files.write(source(files, id), pieces, most)
    kept = False
    try:
        if not stored.size:
            raise Problem(422, "empty", "the file is empty")
        async with db.write() as session:
            base = await find_to_change(session, person, KnowledgeBase, name)
            newest = await _newest(session, base, title)
            if url and newest is not None and newest.url != url:
                said = f"there is a document {title!r} that is not of this URL: give the page another name"
                raise Problem(409, "name_taken", said)
            if newest is not None and newest.sha256 == stored.sha256:
                return newest, False
            row = KnowledgeDocument(id=id, name=title, url=url, sha256=stored.sha256, size=stored.size)
            await _add(session, person, base, row, newest)
        kept = True
    finally:
        if not kept:
            await asyncio.to_thread(files.remove, f"documents/{id}")
    return row, True


async def _newest(session: AsyncSession, base: KnowledgeBase, title: str) -> KnowledgeDocument | None:
    """The newest document of this name."""
    query = select(KnowledgeDocument).where(
        KnowledgeDocument.base_id == base.id, KnowledgeDocument.name == title, ~KnowledgeDocument.deleting
    )
    newest: KnowledgeDocument | None = await session.scalar(query.order_by(KnowledgeDocument.id.desc()).limit(1))
    return newest


async def _add(
    session: AsyncSession,
    person: Person,
    base: KnowledgeBase,
    row: KnowledgeDocument,
    before: KnowledgeDocument | None,
) -> None:
    """Put a new document into every index of a base; what people said of the one before it is true of it too."""
    moment = now()
    row.base_id, row.created_at, row.created_by = base.id, moment, person.username
    row.facts, row.readers = (before.facts, before.readers) if before is not None else ({}, None)
    session.add(row)
    await session.flush()
    indexes = select(KnowledgeIndex.id).where(KnowledgeIndex.base_id == base.id, KnowledgeIndex.state != "old")
    for index in await session.scalars(indexes):
        session.add(KnowledgeEntry(index_id=index, document_id=row.id, state="waiting", not_before=moment))
    after = {"document": row.name, "sha256": row.sha256} | ({"url": row.url} if row.url else {})
    note(session, person.actor, "add_document", "knowledge_base", base.name, after=after)
    await session.flush()


def listed(base: KnowledgeBase, search: str | None) -> Select[Any]:
    """Query of the documents of a base, by name."""
    query = select(KnowledgeDocument).where(KnowledgeDocument.base_id == base.id, ~KnowledgeDocument.deleting)
    if search:
        query = query.where(contains(search, [KnowledgeDocument.name]))
    return query.order_by(KnowledgeDocument.name, KnowledgeDocument.id)


async def find(session: AsyncSession, base: KnowledgeBase, id: str, *, lock: bool = False) -> KnowledgeDocument:
    """A document of a base."""
    query = select(KnowledgeDocument).where(KnowledgeDocument.id == id, KnowledgeDocument.base_id == base.id)
    row: KnowledgeDocument | None = await session.scalar(query.with_for_update() if lock else query)
    if row is None or row.deleting:
        raise not_found("document", id)
    return row


async def update(
    session: AsyncSession, person: Person, name: str, id: str, body: schemas.KnowledgeDocumentUpdate
) -> KnowledgeDocument:
    """Change who may read a document, or its metadata."""
    base = await find_to_change(session, person, KnowledgeBase, name)
    row = await find(session, base, id, lock=True)
    before = {"readers": row.readers, "facts": row.facts}
    if body.facts is not None:
        row.facts = dict(body.facts)
    if "readers" in body.model_fields_set:
        row.readers = None if body.readers is None else [reader.model_dump() for reader in body.readers]
    after = {"readers": row.readers, "facts": row.facts}
    if after != before:
        service.documents_changed(base)
        note(session, person.actor, "update_document", "knowledge_base", f"{name}/{row.name}", before, after)
    await session.flush()
    return row


async def remove(session: AsyncSession, person: Person, name: str, id: str) -> None:
    """Forget a document: nothing of it is found from now on."""
    base = await find_to_change(session, person, KnowledgeBase, name)
    row = await find(session, base, id, lock=True)
    row.deleting = True
    service.documents_changed(base)
    note(session, person.actor, "delete_document", "knowledge_base", name, before={"document": row.name})
    await session.flush()


async def retry(session: AsyncSession, person: Person, files: Files, name: str, id: str) -> KnowledgeDocument:
    """Try a document that has failed, or waits, again and at once."""
    base = await find_to_change(session, person, KnowledgeBase, name)
    row = await find(session, base, id)
    entries = select(KnowledgeEntry).where(KnowledgeEntry.document_id == id).with_for_update()
    for entry in await session.scalars(entries):
        if entry.state == "failed" or (entry.state == "waiting" and entry.code):
            entry.state, entry.code, entry.message, entry.tries, entry.not_before = "waiting", "", "", 0, now()
    await asyncio.to_thread(parsed(files, id).unlink, missing_ok=True)
    await session.flush()
    return row


async def shown(
    session: AsyncSession, base: KnowledgeBase, rows: Sequence[KnowledgeDocument]
) -> list[schemas.KnowledgeDocument]:
    """Documents with how far they are in the newest index."""
    index = await indexes.newest_of(session, base)
    query = select(KnowledgeEntry).where(
        KnowledgeEntry.index_id == index.id, KnowledgeEntry.document_id.in_([row.id for row in rows])
    )
    entries = {entry.document_id: entry for entry in await session.scalars(query)}
    of_row = ("id", "name", "url", "sha256", "size", "kind", "pages", "facts", "readers", "created_at", "created_by")
    of_entry = ("state", "done", "total", "reused", "code", "message")
    return [
        schemas.KnowledgeDocument.model_validate(
            {field: getattr(row, field) for field in of_row}
            | {field: getattr(entries[row.id], field) for field in of_entry}
        )
        for row in rows
    ]


def chunks_of(index: KnowledgeIndex, document: KnowledgeDocument) -> Select[Any]:
    """Query of the chunks of a document, in order."""
    mine = (KnowledgeChunk.index_id == index.id, KnowledgeChunk.document_id == document.id)
    return select(KnowledgeChunk).where(*mine).order_by(KnowledgeChunk.number)


async def blocks_of(files: Files, document: KnowledgeDocument) -> list[dict[str, Any]]:
    """What parsing has found in a document.

    Raises:
        Problem: 409 `not_parsed` before that, or when it has failed.
    """
    path = parsed(files, document.id)
    try:
        content = await asyncio.to_thread(path.read_text, "utf-8")
    except FileNotFoundError:
        content = "{}"
    blocks: list[dict[str, Any]] | None = json.loads(content).get("blocks")
    if blocks is None:
        raise Problem(409, "not_parsed", f"{document.name!r} is not parsed: its state says why")
    return blocks
