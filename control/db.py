"""The database: one engine, and two ways in. `read` never writes; `write` is one transaction, committed as a whole.

At the end of `write`, and in the same transaction, changed rows that gateways serve make a new snapshot version, and
the audit entries of the work are chained to the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, event, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, UOWTransaction

from control.kit import sqlite
from control.kit.audit import PENDING, chain
from control.models import Counter
from control.models.base import Published

sqlite.install()

_CHANGED = "configuration changed"
_WRITES = "tunegate_writes"


class Database:
    """Sessions of one engine."""

    def __init__(self, url: str, pool_size: int = 10) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        options: dict[str, Any] = {"pool_pre_ping": not self.is_sqlite}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": 10.0}  # seconds that a writer waits for another
        else:
            options |= {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 5.0, "pool_recycle": 1800}
            options["isolation_level"] = "READ COMMITTED"
        self.engine = create_async_engine(url, **options)
        if self.is_sqlite:
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False, autoflush=True)
        self.on_change: Callable[[], None] = lambda: None
        """Called after a commit that made a new snapshot version."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session whose work is thrown away."""
        async with self._sessions() as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed at the end, or rolled back when it raises."""
        async with self._sessions() as session:
            await session.connection(execution_options={_WRITES: True})
            event.listen(session.sync_session, "before_flush", _note_published)
            yield session
            await session.flush()
            changed = session.info.pop(_CHANGED, False)
            if changed:
                (await lock(session, "config")).value += 1
            if entries := session.info.pop(PENDING, []):
                await chain(session, await lock(session, "audit"), entries)
            await session.commit()
        if changed:
            self.on_change()

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


async def lock(session: AsyncSession, name: str) -> Counter:
    """The counter's row, locked until the transaction ends: writers of one kind go one after another."""
    row = await session.scalar(
        select(Counter).where(Counter.name == name).with_for_update().execution_options(populate_existing=True)
    )
    if row is None:
        raise RuntimeError(f"the counter {name!r} is missing: run `tunegate migrate`")
    return row


def publish(session: AsyncSession) -> None:
    """Make a new snapshot of this transaction although none of the tables marked `Published` changes."""
    session.info[_CHANGED] = True


def _note_published(session: Session, _: UOWTransaction, __: object) -> None:
    touched = [*session.new, *session.deleted, *(row for row in session.dirty if session.is_modified(row))]
    if any(isinstance(row, Published) for row in touched):
        session.info[_CHANGED] = True


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    cursor = connection.cursor()
    waits, keeps = "busy_timeout=10000", "cache_size=-65536"  # milliseconds; KiB of pages, 2,000 by default
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", waits, keeps):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # a reader that turns writer while another writes fails at once; a writer that says so at once waits its turn
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
