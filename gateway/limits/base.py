"""What limits a request: reserve before, settle after, so that no crowd of requests passes a spent limit."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from gateway.runtime import KeyRecord, Route, Runtime


class Reservation(Protocol):
    """Quota that one request holds until it is settled."""

    def header_lines(self) -> bytes:
        """OpenAI's x-ratelimit-* header lines for the tightest rates that apply; empty if none does."""
        ...

    def settle(self, tokens: int, cost: int) -> None:
        """Replace the estimates by what was used: tokens, and nano-units of money. Exactly once; never awaits."""
        ...


class Short(Exception):
    """What this worker holds of a shared limit does not suffice: more is being asked for."""

    def __init__(self, granted: Coroutine[Any, Any, Reservation]) -> None:
        super().__init__()
        self.granted = granted
        """Milliseconds later: the reservation, or what `reserve` would have raised. Await it exactly once."""


class Limiter(Protocol):
    """Counts requests, tokens, concurrency and money for a request's key, its team and its route."""

    def apply(self, runtime: Runtime) -> None:
        """Take over the limits of a new configuration; what was counted so far stays."""
        ...

    def reserve(self, key: KeyRecord, route: Route, tokens: int, least: int, cost: int) -> Reservation:
        """Take quota from all scopes, or from none and raise GatewayError(policy_rate | policy_tokens |
        policy_concurrency | policy_budget) that says which limit, its size, what is left and when to come back.

        A limiter whose counters are elsewhere raises Short when it must ask for them first.
        `tokens` and `cost` are estimates; `least` tokens are certain, and more than a whole limit is never granted.
        """
        ...
