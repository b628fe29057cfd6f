"""Answers in the Redis of the limits, for all workers of all gateways that share it. Slow or silent, it has nothing:
a request waits `[limits] wait` seconds at most, and after a failure Redis is left alone for a while.

It has a connection and a circuit breaker of its own, so that large answers never make limits late.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from gateway.cache.entry import Entry, Sealed
from gateway.limits.link import CALL, COOLDOWN, FAILURES, LATE, LONGEST_COOLDOWN, connected
from gateway.settings import LimitsTable

MOST_CALLS = 64
"""Under way at a time; what comes on top is left out."""


class SharedAnswers:
    """One worker's way to them. `outcomes` counts calls by how they ended."""

    def __init__(self, table: LimitsTable) -> None:
        self._client = connected(table)
        self._root = f"{{{table.prefix}}}:answer:"
        self._wait = table.wait
        self._calls: set[asyncio.Task[None]] = set()
        self._lates = 0
        self._cooldown = 0.0
        self._open_until = 0.0
        """Monotonic time."""
        self.outcomes: Counter[tuple[str]] = Counter()

    async def get(self, digest: bytes) -> Entry | None:
        """The answer of an equal request, if Redis has it and tells it in time. Not only for tasks."""
        if not self._may_ask():
            return None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Entry | None] = loop.create_future()
        self._begin(self._fetch(Sealed.of(digest), answer))
        timer = loop.call_later(self._wait, self._late, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def put(self, digest: bytes, entry: Entry, seconds: float) -> None:
        """Keep an answer for so long, in its own time."""
        if self._may_ask():
            self._begin(self._store(Sealed.of(digest), entry, seconds))

    async def close(self) -> None:
        """Stop what is under way."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._client.aclose()

    def _may_ask(self) -> bool:
        free = time.monotonic() >= self._open_until and len(self._calls) < MOST_CALLS
        if not free:
            self.outcomes[("left_out",)] += 1
        return free

    def _begin(self, call: Any) -> None:
        task = asyncio.get_running_loop().create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _fetch(self, sealed: Sealed, answer: asyncio.Future[Entry | None]) -> None:
        entry = None
        try:
            async with asyncio.timeout(CALL):
                data: Any = await self._client.get(self._root + sealed.name)
            entry = sealed.open(data) if data is not None else None
            self._answered("absent" if data is None else "found" if entry is not None else "unreadable")
        except FAILURES:
            self._failed()
        finally:
            if not answer.done():
                answer.set_result(entry)

    async def _store(self, sealed: Sealed, entry: Entry, seconds: float) -> None:
        try:
            async with asyncio.timeout(CALL):
                await self._client.set(self._root + sealed.name, sealed.seal(entry), px=max(1, int(seconds * 1000)))
            self._answered("stored")
        except FAILURES:
            self._failed()

    def _answered(self, outcome: str) -> None:
        self.outcomes[(outcome,)] += 1
        self._lates, self._cooldown = 0, 0.0

    def _late(self, answer: asyncio.Future[Entry | None]) -> None:
        """Its time is over: the model is asked."""
        if answer.done():
            return
        answer.set_result(None)
        self.outcomes[("late",)] += 1
        self._lates += 1
        if self._lates >= LATE:
            self._rest()

    def _failed(self) -> None:
        self.outcomes[("failed",)] += 1
        self._rest()

    def _rest(self) -> None:
        self._lates = 0
        self._cooldown = min(self._cooldown * 2 or COOLDOWN, LONGEST_COOLDOWN)
        self._open_until = time.monotonic() + self._cooldown
