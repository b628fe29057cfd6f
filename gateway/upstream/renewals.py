"""Fetches the credentials that expire, and fetches them again in time: no request ever waits for one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import TYPE_CHECKING

from gateway.providers.auth import Renewal
from gateway.runtime import Runtime

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger("gateway.credentials")

EARLY = 0.75
"""Share of a credential's life after which the next one is fetched."""
LEAST, MOST = 1.0, 60.0
"""Seconds between two tries: the first after a failure, doubling up to the last."""
ANSWER_BYTES = 262_144


class Renewals:
    """One worker's. `failures` counts the tries that brought nothing, by endpoint."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[Renewal, asyncio.Task[None]]] = {}
        self._first: dict[str, asyncio.Event] = {}
        """Endpoint -> set once its first credential has come."""
        self._session: aiohttp.ClientSession | None = None
        self.failures: dict[str, int] = {}

    def apply(self, runtime: Runtime) -> None:
        """A new snapshot: what is the same keeps what was fetched for it, what went is fetched no more."""
        wanted = {name: e.auth.renewal for name, e in runtime.endpoints.items() if e.auth and e.auth.renewal}
        for name, (old, task) in tuple(self._tasks.items()):
            fresh = wanted.get(name)
            if fresh is not None and fresh.identity == old.identity:
                fresh.adopt(old)
            if fresh is not old:
                task.cancel()
                del self._tasks[name]
        for name, renewal in wanted.items():
            if name not in self._tasks:
                self._first[name] = asyncio.Event()
                self._tasks[name] = (renewal, asyncio.create_task(self._keep(name, renewal)))

    async def ready(self, patience: float) -> None:
        """Wait until everything was fetched once, but no longer than so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for event in tuple(self._first.values()):
                    await event.wait()

    async def close(self) -> None:
        """Stop."""
        for _, task in self._tasks.values():
            task.cancel()
        if self._session is not None:
            await self._session.close()

    async def _keep(self, name: str, renewal: Renewal) -> None:
        pause = LEAST
        while True:
            life = renewal.expires_at - time.time()
            if renewal.fetched is not None and life > 0:
                await asyncio.sleep(life * EARLY)
            try:
                await self._fetch(renewal)
                pause = LEAST
                self._first[name].set()
                log.info("credential.renewed", extra={"data": {"endpoint": name}})
            except (OSError, ValueError, TimeoutError) as exc:
                self.failures[name] = self.failures.get(name, 0) + 1
                log.error("credential.not_renewed", extra={"data": {"endpoint": name, "error": _told(exc)}})
                await asyncio.sleep(pause * (0.5 + random.random()))
                pause = min(pause * 2, MOST)

    async def _fetch(self, renewal: Renewal) -> None:
        import aiohttp  # noqa: PLC0415  (a gateway without such endpoints never loads it)

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10), trust_env=True)
        now = time.time()
        ask = renewal.ask(now)
        try:
            async with self._session.post(ask.url, headers=ask.headers, data=ask.body, allow_redirects=False) as answer:
                body = await answer.content.read(ANSWER_BYTES)
                if answer.status != 200:
                    raise ValueError(f"{answer.url.host} answers with status {answer.status}")
        except aiohttp.ClientError as exc:
            raise OSError(f"{type(exc).__name__} at {ask.url.split('/')[2]}") from exc
        renewal.take(body, now)


def _told(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
