"""A new key-encryption key for what is sealed row by row: bodies of requests, and chat sessions.

Only the data key of each row is wrapped anew; what it seals stays as it is. Some rows at a time: killed half-way, the
rest is done by the next run.
"""

from __future__ import annotations

from sqlalchemy import CursorResult, select, update

from control.db import Database
from control.models import ChatSession, RequestBody
from control.security import Sealed, Vault

BATCH = 500
"""Rows of one transaction."""


async def rewrap(db: Database, vault: Vault, table: type[RequestBody] | type[ChatSession]) -> tuple[int, int]:
    """Wrap every data key under the present key-encryption key; (how many, how many do not open with any)."""
    count, lost, last = 0, 0, ""
    while True:
        async with db.write() as session:
            query = select(table.id, table.wrapped_key, table.kek_id)
            query = query.where(table.kek_id.not_in(["", vault.kek_id]), table.id > last)
            rows = (await session.execute(query.order_by(table.id).limit(BATCH))).all()
            for identity, wrapped_key, kek_id in rows:
                last = identity
                try:
                    sealed = vault.rewrap(Sealed("", wrapped_key, kek_id), identity)
                except ValueError:
                    lost += 1
                    continue
                # whoever has written the row meanwhile has sealed it under another data key
                change = update(table).where(table.id == identity, table.wrapped_key == wrapped_key)
                done = await session.execute(change.values(wrapped_key=sealed.wrapped_key, kek_id=sealed.kek_id))
                assert isinstance(done, CursorResult)
                count += done.rowcount
        if len(rows) < BATCH:
            return count, lost
