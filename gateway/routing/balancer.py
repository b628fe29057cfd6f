"""Which target of a route gets the next attempt.

Tiers in order; inside a tier the route's strategy; never one whose breaker is open or that was tried in this round.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from hashlib import blake2b

from gateway.routing.health import STALE, HealthBook
from gateway.runtime import Route, Target

Random = Callable[[], float]


def choose(
    route: Route,
    health: HealthBook,
    tried: set[str],
    now: float,
    sticky: str = "",
    roll: Random = random.random,
) -> Target | None:
    """The target to try next, or None when no tier has one left.

    `tried` holds target ids, `now` is monotonic seconds, `sticky` is what the route's `sticky_by` names.
    """
    for tier in route.tiers:
        if len(tier) == 1 and not tried:
            only = tier[0]
            if only.weight and health.of(only.id).available(now):
                return only
            continue
        candidates = [t for t in tier if t.weight and t.id not in tried and health.of(t.id).available(now)]
        if candidates:
            return _pick(route.strategy, candidates, health, now, sticky, roll)
    return None


def _pick(
    strategy: str, candidates: Sequence[Target], health: HealthBook, now: float, sticky: str, roll: Random
) -> Target:
    if len(candidates) == 1:
        return candidates[0]
    if strategy == "least_busy":
        return min(candidates, key=lambda t: (health.of(t.id).in_flight / t.weight, roll()))
    if strategy == "least_latency":
        return min(candidates, key=lambda t: (_latency(t, health, now), health.of(t.id).in_flight, roll()))
    if strategy == "sticky" and sticky:
        return max(candidates, key=lambda t: _rendezvous(t, sticky))
    return _weighted(candidates, roll())


def _weighted(candidates: Sequence[Target], roll: float) -> Target:
    mark = roll * sum(t.weight for t in candidates)
    for target in candidates:
        mark -= target.weight
        if mark < 0:
            return target
    return candidates[-1]


def _latency(target: Target, health: HealthBook, now: float) -> float:
    """Unknown or stale counts as fastest, so that every target gets measured."""
    state = health.of(target.id)
    return state.latency if state.latency is not None and now - state.sampled_at < STALE else 0.0


def _rendezvous(target: Target, sticky: str) -> float:
    """Weighted rendezvous hashing: the same choice in every worker, and it moves only if its target is gone."""
    digest = blake2b(f"{target.id}\0{sticky}".encode(), digest_size=8).digest()
    unit = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return -target.weight / math.log(unit)
