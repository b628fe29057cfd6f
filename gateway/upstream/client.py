"""The only outbound inference I/O: starts calls on the pool of their endpoint, and keeps the clocks."""

from __future__ import annotations

import asyncio

from gateway.contract.snapshot import Timeouts
from gateway.providers.dummy import Dummy
from gateway.runtime import Endpoint, Runtime
from gateway.upstream.call import Sink, Source, UpstreamCall
from gateway.upstream.pool import Pool
from gateway.upstream.scripted import play

SWEEP = 0.25
"""Seconds between looks at the time-outs: their precision. One sweep costs less than one timer per request."""


class Upstreams:
    """All pools of one worker."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pools: dict[str, Pool] = {}

    def start(
        self,
        endpoint: Endpoint,
        operation: str,
        head: bytes,
        body: list[bytes],
        size: int,
        sink: Sink,
        timeouts: Timeouts,
        upload: Source | None = None,
    ) -> UpstreamCall:
        """Begin a call; its answer flows into `sink`. UpstreamFailure(tunegate_overloaded) if the queue is full."""
        pool = self._pools.get(endpoint.pool_key)
        if pool is None:
            pool = self._pools[endpoint.pool_key] = Pool(endpoint, self._loop)
        limit = endpoint.max_response_bytes
        call = UpstreamCall(head, body, size, sink, timeouts, limit, self._loop.time(), pool.forget, upload)
        if type(endpoint.provider) is Dummy:  # not isinstance: of a Protocol, that costs 3 µs
            pool.active.add(call)
            play(self._loop, call, endpoint.provider.script(operation, b"".join(body), endpoint.options))
        else:
            pool.submit(call)
        return call

    def apply(self, runtime: Runtime) -> None:
        """A new snapshot: pools of endpoints that changed or went finish their calls and close."""
        wanted = {e.pool_key: e for e in runtime.endpoints.values()}
        for key, pool in self._pools.items():
            pool.retired = key not in wanted
            if key in wanted:
                pool.endpoint = wanted[key]

    def pools(self) -> list[Pool]:
        """All pools, for the metrics."""
        return list(self._pools.values())

    async def run(self) -> None:
        """The sweep; runs until cancelled."""
        while True:
            await asyncio.sleep(SWEEP)
            now = self._loop.time()
            for key, pool in tuple(self._pools.items()):
                pool.sweep(now)
                if pool.retired and not pool.active and not pool.open_connections:
                    del self._pools[key]

    def close(self) -> None:
        """End all calls and connections."""
        for pool in self._pools.values():
            pool.close()
