"""How each target is doing: circuit breaker, latency average, requests under way.

Kept by target id, outside the snapshot, so that a configuration change forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.contract.snapshot import Breaker

State = Literal["closed", "half_open", "open"]
ALPHA = 0.2
"""Weight of the newest sample in the latency average."""
STALE = 30.0
"""Seconds after which a latency sample says nothing any more, so that a once slow target is tried again."""


@dataclass(slots=True)
class TargetHealth:
    """State of one target. Times are `time.monotonic()` seconds."""

    failures: int = 0
    """Consecutive ones."""
    error: str = ""
    """Code of the last one, from `gateway.errors`."""
    cooldown: float = 0.0
    open_until: float = 0.0
    """0 while the breaker is closed."""
    probing: bool = False
    """Half open: one request is finding out."""
    in_flight: int = 0
    latency: float | None = None
    """Average seconds to the first content."""
    sampled_at: float = 0.0
    opened: int = 0
    """How often the breaker opened, for the metric."""
    good: int = 0
    """Whole replies since the start."""
    bad: int = 0
    """Attempts since the start that were the target's fault."""

    def available(self, now: float) -> bool:
        """Whether a request may be sent: closed, or open long enough and nobody probing."""
        return not self.open_until or (now >= self.open_until and not self.probing)

    def begin(self, now: float) -> bool:
        """A request is being sent; True if it is the probe of a half-open breaker."""
        self.in_flight += 1
        if self.open_until and now >= self.open_until:
            self.probing = True
            return True
        return False

    def responded(self, now: float, latency: float) -> None:
        """First content arrived after `latency` seconds: let others in again, take the sample."""
        self.open_until, self.probing = 0.0, False
        fresh = self.latency is not None and now - self.sampled_at < STALE
        self.latency = latency if not fresh else (1 - ALPHA) * (self.latency or 0.0) + ALPHA * latency
        self.sampled_at = now

    def succeeded(self) -> None:
        """The whole reply came: forget earlier failures."""
        self.good += 1
        self.failures, self.cooldown = 0, 0.0

    def failed(self, now: float, breaker: Breaker, error: str) -> None:
        """The target is to blame: count it, and open (or reopen, for twice as long) the breaker."""
        self.failures += 1
        self.error = error
        self.bad += 1
        if now >= self.open_until and self.failures >= breaker.failures:
            self.cooldown = min(self.cooldown * 2 or breaker.cooldown, max(breaker.max_cooldown, breaker.cooldown))
            self.open_until = now + self.cooldown
            self.opened += 1

    def rest(self, until: float) -> None:
        """Others have found the target to be ill: send it nothing before then, unless it is being tried just now."""
        if until > self.open_until and not self.probing:
            self.opened += not self.open_until
            self.open_until = until

    def done(self, probe: bool) -> None:
        """The request is over, however it ended; after a probe without a verdict another one may probe."""
        self.in_flight -= 1
        if probe:
            self.probing = False

    def state(self, now: float) -> State:
        """`closed`, `open` or `half_open`."""
        if not self.open_until:
            return "closed"
        return "open" if now < self.open_until else "half_open"


class HealthBook(dict[str, TargetHealth]):
    """All targets' health, by target id; made on first use."""

    def __missing__(self, target_id: str) -> TargetHealth:
        """A target that nobody asked yet."""
        health = self[target_id] = TargetHealth()
        return health

    def keep(self, target_ids: set[str]) -> None:
        """Forget targets that no snapshot names any more and no request uses."""
        for target_id in [t for t, health in self.items() if t not in target_ids and not health.in_flight]:
            del self[target_id]
