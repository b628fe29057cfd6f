"""The connection of limits to Redis: calls with a time-out, and a circuit breaker, since they must never hold up a
request.

Package `redis`, the extra of the same name, is imported here alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, RedisError, ResponseError

from gateway.errors import ConfigError
from gateway.settings import LimitsTable
from gateway.snapshot.secrets import secret

log = logging.getLogger("gateway.limits")

CALL = 0.25
"""Seconds after which a call is given up; no request waits so long."""
AT_START = 2.0
"""Seconds that Redis gets to answer before a gateway begins without it."""
COOLDOWN, LONGEST_COOLDOWN = 0.1, 2.0
"""Seconds that Redis is left alone after a failure; doubled with each further one."""
LATE = 5
"""Requests in a row that waited in vain before others are spared the same."""
STEADY = 10.0
"""Seconds that it must have answered for this to begin anew."""


FAILURES = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a call may end with; the last is uvloop's, of a closed transport."""


class Lost(Exception):
    """A call without an answer: it may have been carried out, or not."""


class Script:
    """A script, and how Redis calls it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


LEASES = Script(Path(__file__).with_name("leases.lua").read_text(encoding="utf-8"))


def connected(table: LimitsTable) -> redis.Redis:
    """A client of its own connections, made when they are needed; whoever calls sets a time-out for all of a call."""
    assert table.url is not None
    secure: dict[str, Any] = {}
    if table.ca_file is not None and table.url.startswith("rediss:"):
        secure["ssl_ca_certs"] = str(table.ca_file)
    return redis.Redis.from_url(
        table.url,
        username=table.username,
        password=secret(table.password) if table.password else None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        client_name="tunegate",
        **secure,
    )


class Link:
    """Calls `leases.lua` as one worker."""

    def __init__(self, table: LimitsTable, worker: str, observe: Callable[[float], None]) -> None:
        self._client = connected(table)
        self._url = table.url
        self.root = f"{{{table.prefix}}}:"
        """Of all keys; in braces, for the sake of proxies before a cluster."""
        self._worker = worker
        self._patience = table.lease_seconds
        self._wait = table.wait
        self._observe = observe
        self._cooldown = 0.0
        self._open_until = 0.0
        self._lates, self._late_at = 0, 0.0
        self._since = time.monotonic()
        """When it was last lost or found."""
        self.outages = 1
        """How often it began that Redis was not there for a request; the first time is before it has answered."""
        self.up = False
        """Requests may wait for it."""
        self.calls: Counter[tuple[str]] = Counter()
        """By how they ended: answered, slow, failed."""

    @property
    def state(self) -> float:
        """As metrics tell it: 0 closed, 1 half open, 2 open."""
        return 0.0 if self.up else 2.0 if time.monotonic() < self._open_until else 1.0

    @property
    def pause(self) -> float:
        """Seconds until Redis may be asked again."""
        return max(0.0, self._open_until - time.monotonic())

    async def start(self) -> None:
        """See whether Redis can be used. ConfigError if it refuses us; if it is not there, that is logged."""
        try:
            async with asyncio.timeout(AT_START):
                await self._client.script_load(LEASES.text)
            await self.call([], [])
        except (AuthenticationError, NoPermissionError) as exc:
            problem = f"Redis at {self._url} refuses this gateway: {exc}. See username and password."
            raise ConfigError([(("limits",), problem)]) from exc
        except (RedisError, OSError, TimeoutError) as exc:
            self.calls[("failed",)] += 1
            self.down(f"{type(exc).__name__}: {exc}")
        except Lost:
            pass  # `call` has counted and logged it

    async def call(
        self, keys: list[str], asks: list[dict[str, Any]], *, leave: bool = False
    ) -> tuple[int, bool, list[list[bytes]]]:
        """(living workers, whether this one was unknown, answers); Lost, which is counted and opens the breaker.

        One at a time.
        """
        began = time.monotonic()
        words = [self._worker, int(self._patience * 1000), int(leave), orjson.dumps(asks)]
        living, unknown, answers = await self.evaluate(LEASES, [f"{self.root}living", *keys], words)
        took = time.monotonic() - began
        self._observe(took)
        if took > self._wait:
            self.calls[("slow",)] += 1
            if not self.up:
                self.down("slow")
        else:
            self.calls[("answered",)] += 1
            self._answered()
        return living, bool(unknown), answers

    async def evaluate(self, script: Script, keys: list[str], words: list[Any]) -> Any:
        """What a script answers; Lost, as above."""
        try:
            async with asyncio.timeout(CALL):
                try:
                    return await self._client.evalsha(script.digest, len(keys), *keys, *words)
                except NoScriptError:  # it is new there, was restarted, or flushed
                    return await self._client.eval(script.text, len(keys), *keys, *words)
        except FAILURES as exc:
            self.calls[("failed",)] += 1
            self.down(f"{type(exc).__name__}: {exc}")
            if isinstance(exc, ResponseError):  # it may be a replica by now, and another the primary
                await self._client.connection_pool.disconnect()
            raise Lost from exc

    def late(self, since: float, now: float) -> None:
        """A request has waited in vain since then. A crowd counts once; with LATE in a row the breaker opens."""
        if since < self._late_at:
            return
        self._late_at = now
        self._lates += 1
        if self._lates == 1:
            self.outages += 1
        if self._lates == LATE:
            self.down(f"no answer within {self._wait * 1000:g} ms, {LATE} times")

    def down(self, why: str) -> None:
        """Open the breaker: requests go on without Redis."""
        now = time.monotonic()
        if self.up and now - self._since > STEADY:
            self._cooldown = 0.0
        self._cooldown = min(self._cooldown * 2 or COOLDOWN, LONGEST_COOLDOWN)
        self._open_until = now + self._cooldown
        if self.up:
            self.up, self._since = False, now
            self.outages += 1
            log.error("limits.redis_lost", extra={"data": {"url": self._url, "error": why}})
        elif self._cooldown == COOLDOWN:  # at start
            log.error("limits.redis_absent", extra={"data": {"url": self._url, "error": why}})

    def _answered(self) -> None:
        self._lates = 0
        if not self.up:
            now = time.monotonic()
            data = {"url": self._url, "seconds": round(now - self._since, 3)}
            self.up, self._since = True, now
            log.info("limits.redis_answers", extra={"data": data})

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()
