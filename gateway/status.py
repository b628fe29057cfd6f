"""Tells control how this worker is doing: every few seconds, best effort, and never on the way of a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from importlib import metadata
from itertools import islice

from gateway.contract.internal import STATUS_INTERVAL, TARGETS_PER_STATUS, GatewayStatus, TargetStatus
from gateway.internal import Control, ControlError, Line
from gateway.routing.health import STALE, HealthBook, TargetHealth
from gateway.runtime import Runtime, Target
from gateway.snapshot.holder import Holder

MOST_BYTES = 4096
"""Of control's answer, which is empty."""


class StatusReport:
    """Sends `GatewayStatus` for one worker. A report that fails is not repeated: the next one tells more."""

    def __init__(self, control: Control, name: str, holder: Holder, health: HealthBook) -> None:
        self._control = control
        self._name = name
        self._holder = holder
        self._health = health
        self._started = time.time()
        self._told: dict[str, tuple[int, int]] = {}
        """Target id -> (good, bad) in the last report that control took."""
        self.line = Line("status")

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self.send()
            await asyncio.sleep(STATUS_INTERVAL)

    async def send(self) -> None:
        """Report once; a failure is counted and changes nothing."""
        counts = {target_id: (state.good, state.bad) for target_id, state in self._health.items()}
        body = self.status().model_dump_json().encode()
        headers = {"content-type": "application/json"}
        try:
            await self._control.call(
                "POST", "/status", most=MOST_BYTES, silent=3.0, total=5.0, headers=headers, body=body
            )
        except ControlError as exc:
            self.line.failed(exc)
            return
        self.line.worked()
        self._told = counts

    def status(self) -> GatewayStatus:
        """As it is now."""
        held = self._holder.current if self._holder.held else None
        now = time.monotonic()
        used = ((target, state) for target in _targets(held) if (state := self._health.get(target.id)) is not None)
        return GatewayStatus(
            gateway=self._name,
            version=metadata.version("tunegate"),
            snapshot=held.version if held else None,
            started=self._started,
            targets=tuple(self._told_of(target, state, now) for target, state in islice(used, TARGETS_PER_STATUS)),
        )

    def _told_of(self, target: Target, state: TargetHealth, now: float) -> TargetStatus:
        good, bad = self._told.get(target.id, (0, 0))
        fresh = state.latency is not None and now - state.sampled_at < STALE
        breaker = state.state(now)
        return TargetStatus(
            id=target.id,
            endpoint=target.endpoint.name,
            model=target.model,
            breaker=breaker,
            error=state.error if breaker != "closed" else "",
            in_flight=state.in_flight,
            first_content_ms=(state.latency or 0.0) * 1000.0 if fresh else None,
            successes=max(0, state.good - good),  # a target that was forgotten meanwhile counts from 0 again
            failures=max(0, state.bad - bad),
        )


def _targets(runtime: Runtime | None) -> Iterator[Target]:
    """Each target of the configuration once; shadows are no part of any route's health."""
    seen = set[str]()
    for route in (*runtime.routes.values(), *runtime.wildcards) if runtime is not None else ():
        for tier in route.tiers:
            for target in tier:
                if target.id not in seen:
                    seen.add(target.id)
                    yield target
