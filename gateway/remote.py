"""What a gateway that runs from control has instead of a file and a ledger of its own: it is loaded only then."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any

from gateway.copies.deliver import HttpBodies
from gateway.internal import Control
from gateway.limits.memory import MemoryLimiter
from gateway.limits.spend import SpendPoll
from gateway.retrieval.http import ControlRetriever
from gateway.routing.health import HealthBook
from gateway.settings import Settings
from gateway.snapshot.cache import Cache
from gateway.snapshot.holder import Holder
from gateway.snapshot.http import Follower
from gateway.snapshot.secrets import secret
from gateway.status import StatusReport
from gateway.telemetry.metrics import Gauge
from gateway.usage.http import HttpSink

SEARCHES = 64
"""Searches of knowledge bases under way at a time, over connections of their own: nothing else waits for them."""
AT_START = 2.0
"""Seconds that control gets to answer before a gateway begins without it."""


class Remote:
    """The configuration, the budgets' spend and the usage of one worker, all by one client."""

    def __init__(
        self, settings: Settings, slot: str, holder: Holder, limiter: MemoryLimiter, health: HealthBook
    ) -> None:
        table = settings.control
        assert table.url is not None
        assert table.token is not None
        token = secret(table.token)
        self._control = Control(table.url, token, table.ca_file)
        self._knowledge = Control(table.url, token, table.ca_file, SEARCHES)
        self.retriever = ControlRetriever(self._knowledge)
        cache = Cache(settings.gateway.data_dir / "snapshot" / slot, token)
        self._holder = holder
        name = f"{socket.gethostname()}/{slot}"
        self.sink = HttpSink(self._control, name)
        self.bodies = HttpBodies(self._control, name)
        self.follower = Follower(self._control, cache, holder, token)
        self.spend = SpendPoll(self._control, limiter)
        self.status = StatusReport(self._control, name, holder, health)
        holder.before_swap.append(limiter.prepare)

    def open(self) -> None:
        """Call it on the event loop, before anything else."""
        self._control.open()
        self._knowledge.open()

    async def start(self) -> None:
        """Get a configuration, from control or else from disk."""
        await self.follower.start(AT_START)

    async def learn_spend(self) -> None:
        """Before the first request: what the budgets have left, if control answers."""
        if not self._holder.held:
            return
        self.spend.applied()
        if self.follower.line.answered:
            with contextlib.suppress(TimeoutError):  # the poll goes on trying, and says so
                async with asyncio.timeout(AT_START):
                    await self.spend.ask()

    def standing(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs as long as the gateway does."""
        return self.follower.run(), self.spend.run(), self.status.run()

    async def close(self) -> None:
        """Close the connections to control."""
        await self._control.close()
        await self._knowledge.close()

    def gauges(self) -> dict[str, Gauge]:
        """Metric name -> where it is read."""
        lines = (
            self.follower.line,
            self.spend.line,
            self.sink.line,
            self.bodies.line,
            self.status.line,
            self.retriever.line,
        )
        return {
            "tunegate_control_failures": lambda: [((line.name,), float(line.failures)) for line in lines],
            "tunegate_control_answers": lambda: [
                ((line.name,), float(line.answered)) for line in lines if line.answered is not None
            ],
            "tunegate_usage_quarantined": lambda: [((), float(self.sink.quarantined))],
        }
