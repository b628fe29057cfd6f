"""Moves settled events from the spool to a sink: in batches, in order, until the sink has them."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from gateway.usage.sink import MAX_BATCH_BYTES
from gateway.usage.spool import Spool

log = logging.getLogger("gateway.shipper")


class Sink(Protocol):
    """Takes batches of usage events; a repeated event must count once."""

    async def deliver(self, payloads: list[bytes]) -> None:
        """Store a batch durably (JSON objects, one an event), or raise OSError. It does not block the loop."""
        ...


class Shipper:
    """The delivery loop of one worker."""

    def __init__(self, spool: Spool, sink: Sink, interval: float, patience: float = 30.0) -> None:
        self._spool = spool
        self._sink = sink
        self._interval = interval
        self._patience = patience
        self._running = False
        self.failures = 0
        """Deliveries that failed in a row; 0 while the sink works."""
        self.shipped = 0

    async def run(self) -> None:
        """Deliver every `interval` seconds, with exponential patience (up to `patience` s) while the sink fails."""
        while True:
            await asyncio.sleep(min(self._interval * 2**self.failures, self._patience))
            await self.flush()

    async def flush(self) -> bool:
        """Deliver all that is settled now; False if the sink refused (the events stay in the spool)."""
        while True:
            payloads, marks = self._spool.deliverable(MAX_BATCH_BYTES)
            if payloads:
                try:
                    await self._sink.deliver(payloads)
                except OSError as exc:
                    if not self.failures:  # said once: an outage may be long
                        log.warning("usage.delivery_failed", extra={"data": {"error": str(exc)}})
                    self.failures = min(self.failures + 1, 12)
                    return False
                if self.failures:
                    log.warning("usage.delivery_works_again", extra={"data": {"tries": self.failures}})
                self.failures = 0
                self.shipped += len(payloads)
            if marks:
                self._spool.delivered(marks)
            # a batch that was not full held everything; to go round for what came meanwhile would fsync all the time
            if sum(map(len, payloads)) < MAX_BATCH_BYTES:
                return True
