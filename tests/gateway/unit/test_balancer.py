"""Which target gets the next attempt: tiers first, then the route's strategy, never one that rests or was tried."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from gateway.contract.snapshot import Breaker
from gateway.routing.balancer import choose
from gateway.routing.health import HealthBook
from gateway.runtime import Route
from tests.fakes.runtime import compiled, route

NOW = 1000.0


def routed(*targets: dict[str, Any], **fields: Any) -> Route:
    return compiled(route=[route("m", *targets, **fields)]).routes["m"]


def chosen(path: Route, health: HealthBook, tried: Any = (), sticky: str = "", dice: Any = random.random) -> str | None:
    target = choose(path, health, tried, NOW, sticky, dice)
    return target.endpoint.name if target else None


def rest(health: HealthBook, name: str) -> None:
    health[f"{name}/m"].failed(NOW, Breaker(failures=1, cooldown=60), "provider_5xx")


def test_the_lowest_tier_that_has_a_target_left_is_used():
    path = routed({"endpoint": "a"}, {"endpoint": "b", "priority": 5}, {"endpoint": "c", "priority": 2})
    health = HealthBook()
    assert chosen(path, health) == "a"
    assert chosen(path, health, {"a/m"}) == "c"
    assert chosen(path, health, {"a/m", "c/m"}) == "b"
    assert chosen(path, health, {"a/m", "b/m", "c/m"}) is None


def test_a_target_that_rests_is_passed_over_and_all_resting_is_none():
    path = routed({"endpoint": "a"}, {"endpoint": "b", "priority": 1})
    health = HealthBook()
    rest(health, "a")
    assert chosen(path, health) == "b"
    rest(health, "b")
    assert chosen(path, health) is None


@pytest.mark.parametrize("strategy", ["weighted", "least_latency", "least_busy", "sticky"])
def test_weight_zero_takes_a_target_out_whatever_the_strategy(strategy):
    path = routed({"endpoint": "a", "weight": 0}, {"endpoint": "b"}, {"endpoint": "c", "weight": 0}, strategy=strategy)
    assert {chosen(path, HealthBook(), sticky=str(n)) for n in range(50)} == {"b"}


def test_weights_share_the_load():
    path = routed({"endpoint": "a", "weight": 9}, {"endpoint": "b", "weight": 1})
    dice = random.Random(7).random
    counts = Counter(chosen(path, HealthBook(), dice=dice) for _ in range(5000))
    assert 0.87 < counts["a"] / 5000 < 0.93


def test_the_largest_roll_still_finds_a_target():
    path = routed({"endpoint": "a", "weight": 3}, {"endpoint": "b", "weight": 7})
    assert chosen(path, HealthBook(), dice=lambda: 1.0 - 2**-53) == "b"
    assert chosen(path, HealthBook(), dice=lambda: 0.0) == "a"


def test_least_busy_counts_requests_under_way_by_weight():
    path = routed({"endpoint": "a", "weight": 4}, {"endpoint": "b"}, strategy="least_busy")
    health = HealthBook()
    health["a/m"].in_flight, health["b/m"].in_flight = 3, 1
    assert chosen(path, health) == "a", "three of four are less than one of one"
    health["a/m"].in_flight = 5
    assert chosen(path, health) == "b"


def test_least_latency_prefers_the_fast_and_measures_the_unknown_and_the_long_unseen():
    path = routed({"endpoint": "a"}, {"endpoint": "b"}, {"endpoint": "c"}, strategy="least_latency")
    health = HealthBook()
    health["a/m"].responded(NOW, 0.5)
    health["b/m"].responded(NOW, 0.1)
    assert chosen(path, health) == "c", "nobody has measured it"
    health["c/m"].responded(NOW, 0.3)
    assert chosen(path, health) == "b"
    health["a/m"].sampled_at = NOW - 31.0
    assert chosen(path, health) == "a", "its slow sample is too old to say anything"


def test_a_sticky_caller_stays_and_moves_only_if_its_target_is_gone():
    names = [{"endpoint": name} for name in "abcd"]
    path = routed(*names, strategy="sticky")
    health = HealthBook()
    before = {f"caller-{n}": chosen(path, health, sticky=f"caller-{n}") for n in range(400)}
    assert before == {caller: chosen(path, health, sticky=caller) for caller in before}
    assert min(Counter(before.values()).values()) > 60, "callers spread over all targets"

    rest(health, "c")
    after = {caller: chosen(path, health, sticky=caller) for caller in before}
    assert all(after[caller] == place for caller, place in before.items() if place != "c")
    assert {after[caller] for caller, place in before.items() if place == "c"} == {"a", "b", "d"}


def test_sticky_weights_are_shares_of_the_callers():
    path = routed({"endpoint": "a", "weight": 3}, {"endpoint": "b", "weight": 1}, strategy="sticky")
    counts = Counter(chosen(path, HealthBook(), sticky=f"caller-{n}") for n in range(2000))
    assert 0.70 < counts["a"] / 2000 < 0.80


def test_a_sticky_route_serves_callers_without_a_name_by_weight():
    path = routed({"endpoint": "a"}, {"endpoint": "b"}, strategy="sticky")
    assert {chosen(path, HealthBook()) for _ in range(100)} == {"a", "b"}
