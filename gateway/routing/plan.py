"""The order of a request's attempts: which target next, after what pause, and when to give up.

Targets of the route are tried by its strategy, each at most once a round; between rounds there is a pause. When the
route has no attempt left, its fallback route takes over with attempts of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from gateway.errors import UpstreamFailure
from gateway.routing.balancer import choose
from gateway.routing.health import HealthBook
from gateway.routing.retry import pause
from gateway.runtime import Route, Runtime, Target

_NONE: frozenset[str] = frozenset()
"""No target."""


class Plan:
    """One request's. After `next`, `route` and `pause` say what the target belongs to and how long to wait first."""

    __slots__ = ("_attempts", "_failure", "_health", "_runtime", "_spent", "_sticky", "_tried", "pause", "route")

    def __init__(self, runtime: Runtime, route: Route, health: HealthBook, sticky: Callable[[Route], str]) -> None:
        """`sticky` says what keeps the caller on one target of a route, or nothing."""
        self._runtime = runtime
        self._health = health
        self._sticky = sticky
        self._attempts = 0
        self._failure: UpstreamFailure | None = None
        self._tried = _NONE
        self._spent = _NONE
        """Targets that ask for more patience than the route has."""
        self.route = route
        self.pause = 0.0

    def next(self) -> Target:
        """The target to try now. Raises the last UpstreamFailure when there is nothing left to try."""
        self.pause = 0.0
        sole = self.route.sole
        if not self._attempts and sole is not None and not self._health[sole.id].open_until and not self._tried:
            self._attempts = 1  # the ordinary case: one target, and it is well
            return sole
        while True:
            target = self._of_route()
            if target is not None:
                self._attempts += 1
                return target
            fallback = self._runtime.routes.get(self.route.fallback) if self.route.fallback else None
            if fallback is None:
                raise self._failure or _nobody(self.route, self._health, time.monotonic())
            self.route, self._attempts, self.pause = fallback, 0, 0.0
            self._tried = self._spent = _NONE

    def failed(self, target: Target, failure: UpstreamFailure) -> None:
        """Note how the last attempt ended. Raises it if no other attempt could end better."""
        if not failure.retriable:
            raise failure
        self._failure = failure
        self._tried |= {target.id}
        if failure.retry_after is not None and failure.retry_after > self.route.retry.max_retry_after:
            self._spent |= {target.id}

    def _of_route(self) -> Target | None:
        retry = self.route.retry
        if self._attempts >= retry.max_attempts:
            return None
        now = time.monotonic()
        sticky = self._sticky(self.route) if self.route.strategy == "sticky" else ""
        target = choose(self.route, self._health, self._tried | self._spent, now, sticky)
        if target is None and self._tried:
            target = choose(self.route, self._health, self._spent, now, sticky)
            if target is not None:
                asked = self._failure.retry_after if self._failure is not None else None
                self.pause = pause(retry, self._attempts, asked) or 0.0
                self._tried = _NONE
        return target


def _nobody(route: Route, health: HealthBook, now: float) -> UpstreamFailure:
    """All rest; the first of them may be tried again when its breaker is half open."""
    ends = [health[target.id].open_until for tier in route.tiers for target in tier if target.weight]
    wait = max(1, math.ceil(min(ends, default=now) - now))
    text = f"Every target of the model {route.name!r} is resting after repeated failures. Try again in {wait} s."
    headers = ((b"retry-after", b"%d" % wait),)
    return UpstreamFailure("provider_unreachable", text, blames_target=False, status=503, headers=headers)
