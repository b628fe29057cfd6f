"""Holds the current Runtime: one reference, swapped only after a snapshot compiled without a mistake."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.contract import snapshot as wire
from gateway.errors import ConfigError, GatewayError
from gateway.runtime import Runtime
from gateway.snapshot.compile import compile_snapshot


class Holder:
    """The pinned-once reference, with what the metrics say about it."""

    def __init__(self) -> None:
        self._current: Runtime | None = None
        self.swapped_at = 0.0
        """Unix time of the last swap, seconds."""
        self.swaps = 0
        self.refusals = 0
        self.on_swap: list[Callable[[Runtime], None]] = []

    @property
    def current(self) -> Runtime:
        """The Runtime to pin; GatewayError(tunegate_no_snapshot) while there is none."""
        if self._current is None:
            raise GatewayError("tunegate_no_snapshot", "The gateway has no configuration yet. Try again in a moment.")
        return self._current

    @property
    def ready(self) -> bool:
        """Whether a snapshot is held."""
        return self._current is not None

    def swap(self, snapshot: wire.Snapshot) -> None:
        """Compile and take over; on ConfigError the last good one stays, and the refusal is counted."""
        try:
            runtime = compile_snapshot(snapshot)
        except ConfigError:
            self.refusals += 1
            raise
        self._current = runtime
        self.swapped_at = time.time()
        self.swaps += 1
        for callback in self.on_swap:
            callback(runtime)
