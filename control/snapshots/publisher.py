"""Holds the snapshot that gateways ask for, and wakes them when it changes.

The database's `config` counter says which version there is. A commit in this process makes the publisher look at
once; a commit in another control process is seen by the poll, at most `interval` seconds later. When a price of the
book takes effect, the first publisher to notice makes a new version.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from sqlalchemy import select

from control.db import Database
from control.models import Counter
from control.models.base import now
from control.security import Vault
from control.snapshots.book import take_effect
from control.snapshots.render import Rendered, Renderer

log = logging.getLogger("tunegate.control.snapshots")


class Publisher:
    """One rendered snapshot, replaced as a whole."""

    def __init__(self, db: Database, vault: Vault, interval: float = 0.3) -> None:
        self._db = db
        self._renderer = Renderer(vault)
        self._interval = interval
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._current: Rendered | None = None
        self._failed = False
        self._released = False
        db.on_change = self._wake.set

    async def run(self) -> None:
        """Keep the snapshot fresh until cancelled. A database that is down leaves the last one in place."""
        while True:
            try:
                await self.refresh()
                self._failed = False
            except Exception as exc:  # noqa: BLE001 - whatever it is, gateways keep the last good snapshot
                if not self._failed:
                    log.error("the snapshot cannot be rendered, the last one stays: %s: %s", type(exc).__name__, exc)
                self._failed = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience()):
                    await self._wake.wait()
            self._wake.clear()

    def _patience(self) -> float:
        """Seconds until there may be something to do."""
        due = self._current.next_price if self._current is not None and not self._failed else None
        return self._interval if due is None else min(self._interval, max(0.0, (due - now()).total_seconds()))

    async def refresh(self) -> None:
        """Render anew if the database has another version than we hold; a price whose time has come makes one."""
        if self._current is not None and self._current.next_price is not None and self._current.next_price <= now():
            async with self._db.write() as session:
                await take_effect(session, now())
        async with self._db.read() as session:
            version = await session.scalar(select(Counter.value).where(Counter.name == "config"))
            if version is None or (self._current is not None and self._current.number == version):
                return
            rendered = await self._renderer.render(session, version)
        async with self._changed:
            self._current = rendered
            self._changed.notify_all()

    async def get(self, etag: str | None, wait: float) -> Rendered | None:
        """The snapshot, as soon as its ETag is not `etag`; None when that has not happened after `wait` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait), self._changed:
                await self._changed.wait_for(
                    lambda: self._released or (self._current is not None and self._current.etag != etag)
                )
        current = self._current
        return current if current is not None and current.etag != etag else None

    @property
    def current(self) -> Rendered | None:
        """The snapshot that gateways get now; None before the database has answered for the first time."""
        return self._current

    @property
    def failing(self) -> bool:
        """Whether the last look at the database brought no snapshot."""
        return self._failed

    async def release(self) -> None:
        """Let everybody go who waits: the process is going to end."""
        self._released = True
        async with self._changed:
            self._changed.notify_all()

    def page(self, digest: str) -> bytes | None:
        """Bytes of a key page of the current snapshot."""
        return self._current.pages.get(digest) if self._current is not None else None
