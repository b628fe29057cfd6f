"""Holds the current Runtime: one reference, swapped for one that compiled without a mistake."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from gateway.errors import GatewayError
from gateway.runtime import KeyRecord, Runtime


class Holder:
    """The pinned-once reference, with what the metrics say about it."""

    def __init__(self) -> None:
        self._current: Runtime | None = None
        self.swapped_at = 0.0
        """Unix time of the last swap, seconds."""
        self.swaps = 0
        self.refusals = 0
        """Configurations that did not compile; counted by whoever reads them."""
        self.before_swap: list[Callable[[Iterable[KeyRecord]], None]] = []
        """Told of keys in pieces, shortly before the swap that brings them: what they do then is not done at once."""
        self.on_swap: list[Callable[[Runtime], None]] = []

    @property
    def held(self) -> bool:
        """Whether there is a Runtime at all: what readiness means."""
        return self._current is not None

    @property
    def current(self) -> Runtime:
        """The Runtime to pin; GatewayError(tunegate_no_snapshot) while there is none."""
        if self._current is None:
            raise GatewayError("tunegate_no_snapshot", "The gateway has no configuration yet. Try again in a moment.")
        return self._current

    def swap(self, runtime: Runtime) -> None:
        """Take over: requests that pinned the old one keep it."""
        self._current = runtime
        self.swapped_at = time.time()
        self.swaps += 1
        for callback in self.on_swap:
            callback(runtime)
