"""What limits a request: reserve before, settle after, so that no crowd of requests passes a spent limit."""

from __future__ import annotations

from typing import Protocol

from gateway.errors import Header
from gateway.runtime import Scope


class Reservation(Protocol):
    """Quota that one request holds until it is settled."""

    headers: tuple[Header, ...]
    """OpenAI's x-ratelimit-* headers for the tightest rate that applies."""

    def settle(self, tokens: int, cost: int) -> None:
        """Replace the estimates by what was used: tokens, and nano-units of money. Exactly once; never awaits."""
        ...


class Limiter(Protocol):
    """Counts requests, tokens, concurrency and money for every scope of a request."""

    def reserve(self, scopes: tuple[Scope, ...], tokens: int, cost: int) -> Reservation:
        """Take quota from all scopes, or from none and raise GatewayError(policy_rate | policy_tokens |
        policy_concurrency | policy_budget) that says which limit, its size, what is left and when to come back.
        """
        ...
