"""Bodies of requests: stored sealed, opened one request at a time, deleted when their days are over or by an order.

They come redacted from the gateways and are best effort: nothing else depends on one being there.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.errors import Problem
from control.kit.periodic import every
from control.models import RequestBody, UsageRow
from control.models.base import now
from control.security import Sealed, Vault
from gateway.contract.internal import Bodies, BodyAck, BodyBatch

log = logging.getLogger("tunegate.control.bodies")

BATCH = 500
"""Rows of one transaction that deletes."""
SWEEP = 60.0
"""Seconds between looks for what is over."""
TOMBSTONE = timedelta(days=1)
"""How long an erased request that has no bodies yet refuses them."""


async def store(session: AsyncSession, vault: Vault, batch: BodyBatch) -> BodyAck:
    """Store what is new of a batch."""
    entries = {entry.id: entry for entry in batch.entries}
    known = set(await session.scalars(select(RequestBody.id).where(RequestBody.id.in_(list(entries)))))
    fresh = [entry for entry in entries.values() if entry.id not in known]
    session.add_all(await asyncio.to_thread(lambda: [_row(vault, batch.gateway, entry) for entry in fresh]))
    await _flush(session)
    return BodyAck(stored=len(fresh), duplicates=len(batch.entries) - len(fresh))


async def _flush(session: AsyncSession) -> None:
    try:
        await session.flush()
    except IntegrityError as exc:
        raise Problem(503, "busy", "somebody else is writing these entries: try again", retry_after=1) from exc


def _row(vault: Vault, gateway: str, entry: Bodies) -> RequestBody:
    moment = min(datetime.fromtimestamp(entry.ts, UTC), now())
    sealed = vault.seal(json.dumps([entry.request, entry.response], ensure_ascii=False), entry.id)
    return RequestBody(
        id=entry.id, gateway=gateway, created_at=moment, expires_at=moment + timedelta(days=entry.keep_days),
        sealed=sealed.sealed, wrapped_key=sealed.wrapped_key, kek_id=sealed.kek_id, request_cut=entry.request_cut,
        response_cut=entry.response_cut, redacted=dict(entry.redacted), erased_at=None,
    )  # fmt: skip


async def states(session: AsyncSession, ids: Sequence[str]) -> dict[str, tuple[datetime, bool]]:
    """(kept until when, whether they were erased) of the requests whose bodies are not over; reads no body."""
    query = select(RequestBody.id, RequestBody.expires_at, RequestBody.erased_at)
    found = await session.execute(query.where(RequestBody.id.in_(ids), RequestBody.expires_at > now()))
    return {identity: (expires_at, erased_at is not None) for identity, expires_at, erased_at in found}


async def find(session: AsyncSession, ids: Sequence[str]) -> dict[str, RequestBody]:
    """Bodies that are still to be kept, by the request's id."""
    query = select(RequestBody).where(RequestBody.id.in_(ids), RequestBody.expires_at > now())
    return {row.id: row for row in await session.scalars(query.where(RequestBody.erased_at.is_(None)))}


def opened(vault: Vault, row: RequestBody) -> tuple[str | None, str | None]:
    """(request, response) in clear."""
    try:
        text = vault.open(Sealed(row.sealed, row.wrapped_key, row.kek_id), row.id)
    except ValueError as exc:
        detail = f"the bodies of {row.id} do not open with this key-encryption key"
        raise Problem(409, "bodies_unreadable", detail) from exc
    request, response = json.loads(text)
    return request, response


async def erase(session: AsyncSession, rows: Sequence[UsageRow]) -> None:
    """Forget the bodies of these requests for good, also those that have not arrived yet."""
    query = select(RequestBody).where(RequestBody.id.in_([row.id for row in rows]))
    held = {row.id: row for row in await session.scalars(query)}
    moment = now()
    for row in rows:
        body = held.get(row.id)
        if body is None:
            body = RequestBody(id=row.id, gateway=row.gateway, created_at=row.ts, expires_at=moment + TOMBSTONE)
            session.add(body)
        body.sealed = body.wrapped_key = body.kek_id = ""
        body.request_cut = body.response_cut = False
        body.redacted = {}
        body.erased_at = body.erased_at or moment
    await _flush(session)


async def sweep(db: Database) -> int:
    """Delete every row whose days are over, some at a time; how many."""
    total = 0
    while True:
        async with db.write() as session:
            query = select(RequestBody.id).where(RequestBody.expires_at <= now()).limit(BATCH)
            ids = (await session.scalars(query)).all()
            if ids:
                await session.execute(delete(RequestBody).where(RequestBody.id.in_(ids)))
        total += len(ids)
        if len(ids) < BATCH:
            break
    if total:
        log.info("deleted the bodies of %d requests: their days are over", total)
    return total


async def keep_sweeping(db: Database) -> None:
    """Sweep every minute until cancelled."""
    await every(SWEEP, partial(sweep, db), "bodies cannot be deleted now")
