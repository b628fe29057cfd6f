"""Rates refill steadily, budget windows follow the calendar, and no crowd of requests passes a spent budget."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from gateway.errors import GatewayError
from gateway.limits import gate as gates
from gateway.limits.gate import Gate
from gateway.limits.memory import Held, MemoryLimiter
from gateway.runtime import BudgetWindow, Scope
from tests.fakes.runtime import DIGEST, compiled, route

UTC = ZoneInfo("UTC")
TOTAL = BudgetWindow(1000, "total", UTC)


def limited(share: float = 1.0, **limits: object) -> tuple[Gate, float]:
    """A gate, and the monotonic time at which it is full."""
    gate = Gate(Scope("key", "k", **limits), share, {})  # type: ignore[arg-type]
    return gate, gate._updated


def taken(gate: Gate, now: float, tokens: int = 0, cost: int = 0, certain: int = 0) -> Held | None:
    """A reservation, or None if the gate refuses."""
    try:
        gate.check(tokens, certain, cost, now, gates.time.time())
    except GatewayError:
        return None
    return Held((gate,), tokens, cost)


def admitted(gate: Gate, now: float, tokens: int = 0, cost: int = 0, certain: int = 0) -> bool:
    return taken(gate, now, tokens, cost, certain) is not None


def refusal(gate: Gate, now: float, tokens: int = 0, cost: int = 0, certain: int = 0) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        gate.check(tokens, certain, cost, now, gates.time.time())
    return caught.value


# --- rates


@given(rpm=st.integers(1, 600), waits=st.lists(st.floats(0, 90), max_size=40))
def test_in_no_minute_more_requests_pass_than_the_bucket_and_its_refill_allow(rpm, waits):
    gate, now = limited(rpm=rpm)
    began, passed = now, 0
    for wait in waits:
        now += wait
        passed += admitted(gate, now)
        assert passed <= rpm + (now - began) * rpm / 60.0 + 1e-6


def test_a_full_minute_fills_the_bucket_and_no_more():
    gate, now = limited(rpm=3)
    assert [admitted(gate, now) for _ in range(4)] == [True, True, True, False]
    assert [admitted(gate, now + 20.001) for _ in range(2)] == [True, False]
    assert [admitted(gate, now + 10_000) for _ in range(4)] == [True, True, True, False]


def test_a_refusal_says_when_to_come_back_and_then_it_works():
    gate, now = limited(rpm=2)
    assert admitted(gate, now)
    assert admitted(gate, now)
    error = refusal(gate, now)
    seconds = int(dict(error.headers)[b"retry-after"])
    assert error.code == "policy_rate"
    assert admitted(gate, now + seconds)


@given(tokens=st.integers(1, 5000), used=st.integers(0, 5000))
def test_tokens_are_reserved_and_what_was_not_used_is_given_back(tokens, used):
    gate, now = limited(tpm=10_000)
    held = taken(gate, now, tokens)
    assert held is not None
    held.settle(used, 0)
    assert gate.tokens == 10_000 - used
    assert gate.running == 0


def test_a_guess_larger_than_the_whole_limit_passes_alone_and_the_debt_is_waited_for():
    gate, now = limited(tpm=100)
    assert admitted(gate, now, 500, certain=90)
    assert refusal(gate, now, 1).code == "policy_tokens"
    assert not admitted(gate, now + 239.0, 1), "4 minutes of refill pay the debt"
    assert admitted(gate, now + 241.0, 1)


def test_a_request_that_certainly_needs_more_than_the_whole_limit_is_never_granted():
    gate, now = limited(tpm=100)
    assert refusal(gate, now, 101, certain=101).code == "policy_tokens"
    assert admitted(gate, now, 100, certain=100)


def test_concurrency_counts_requests_that_run():
    gate, now = limited(concurrency=2)
    first, second, third = (taken(gate, now) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is None
    assert refusal(gate, now).code == "policy_concurrency"
    first.settle(0, 0)
    assert admitted(gate, now)


def test_a_limit_that_moves_keeps_what_was_used():
    gate, now = limited(rpm=10)
    for _ in range(8):
        assert admitted(gate, now)
    gate.configure(Scope("key", "k", rpm=5), {})
    assert not admitted(gate, now), "8 of 5 are used"
    gate.configure(Scope("key", "k", rpm=20), {})
    assert sum(admitted(gate, now) for _ in range(20)) == 12


@given(workers=st.integers(1, 16), rpm=st.integers(16, 1000), amount=st.integers(16, 10**9))
def test_the_shares_of_all_workers_are_together_no_more_than_the_limit(workers, rpm, amount):
    scope = Scope("key", "k", rpm=rpm, concurrency=rpm, budgets=(BudgetWindow(amount, "total", UTC),))
    shares = [Gate(scope, 1.0 / workers, {}) for _ in range(workers)]
    assert sum(gate.rpm for gate in shares) <= rpm + 1e-6
    assert sum(gate.concurrency for gate in shares) <= rpm
    assert sum(gate.purses[0].amount for gate in shares) <= amount


# --- budgets

STEPS = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 100), st.booleans()), min_size=1, max_size=80)
"""(estimated cost, per cent of it that is really spent, whether the oldest running request ends before)."""


@given(steps=STEPS)
def test_any_crowd_of_reservations_leaves_the_budget_unpassed_but_for_one_lone_request(steps):
    gate, now = limited(budgets=(TOTAL,))
    (purse,) = gate.purses
    running: list[tuple[Held, int]] = []
    largest = 0
    for estimate, per_cent, ends in steps:
        if ends and running:
            held, cost = running.pop(0)
            held.settle(0, cost)
        alone, left = not running, purse.amount - purse.spent
        if new := taken(gate, now, 0, estimate):
            assert left > 0, "a spent budget lets nobody in"
            assert alone or purse.spent + purse.reserved <= purse.amount
            running.append((new, estimate * per_cent // 100))
            largest = max(largest, estimate)
    for held, cost in running:
        held.settle(0, cost)
    assert purse.reserved == 0
    assert purse.spent < purse.amount + largest


def test_a_hundred_at_once_get_what_is_left_and_no_more():
    runtime = compiled(
        route=[route("m")],
        key=[{"name": "k", "sha256": DIGEST, "budget": [{"amount": "0.000001", "window": "total"}]}],
    )
    limiter = MemoryLimiter()
    limiter.apply(runtime)
    key, target = next(iter(runtime.keys.values())), runtime.routes["m"]
    held = []
    for _ in range(100):
        with contextlib.suppress(GatewayError):
            held.append(limiter.reserve(key, target, 0, 0, 300))
    assert len(held) == 3, "1000 nano-units hold three of 300"
    for reservation in held:
        reservation.settle(0, 300)
    assert limiter.reserve(key, target, 0, 0, 300), "alone, a request may pass on the last 100"
    with pytest.raises(GatewayError, match="is spent"):
        limiter.reserve(key, target, 0, 0, 1)


def test_a_refused_request_takes_nothing_from_any_scope():
    runtime = compiled(
        route=[route("m", limits={"concurrency": 1})],
        team=[{"name": "t", "limits": {"rpm": 10}}],
        key=[{"name": "k", "sha256": DIGEST, "team": "t", "limits": {"rpm": 10}}],
    )
    limiter = MemoryLimiter()
    limiter.apply(runtime)
    key, target = next(iter(runtime.keys.values())), runtime.routes["m"]
    held = limiter.reserve(key, target, 0, 0, 0)
    for _ in range(20):
        with pytest.raises(GatewayError, match="concurrent"):
            limiter.reserve(key, target, 0, 0, 0)
    held.settle(0, 0)
    assert limiter.reserve(key, target, 0, 0, 0), "20 refusals cost neither key nor team anything"


def test_a_reservation_cannot_be_settled_twice():
    runtime = compiled(route=[route("m")])
    limiter = MemoryLimiter()
    limiter.apply(runtime)
    held = limiter.reserve(next(iter(runtime.keys.values())), runtime.routes["m"], 0, 0, 0)
    held.settle(0, 0)
    with pytest.raises(RuntimeError):
        held.settle(0, 0)


def test_a_new_window_starts_with_the_whole_amount(monkeypatch):
    clock = datetime(2026, 5, 31, 23, 59, tzinfo=UTC).timestamp()
    monkeypatch.setattr(gates.time, "time", lambda: clock)
    gate, now = limited(budgets=(BudgetWindow(100, "month", UTC),))
    held = taken(gate, now, 0, 100)
    assert held is not None
    held.settle(0, 100)
    assert refusal(gate, now, 0, 1).code == "policy_budget"
    clock += 61.0
    assert admitted(gate, now, 0, 100)


# --- calendar windows

ZONES = ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana",
         "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Auckland"]  # fmt: skip
MOMENTS = st.integers(946_684_800_000, 2_840_140_800_000).map(lambda ms: ms / 1000.0)
"""Of the years 2000 to 2060, in milliseconds: datetime knows nothing smaller than a microsecond."""


@given(now=MOMENTS, zone=st.sampled_from(ZONES), window=st.sampled_from(["day", "week", "month"]))
def test_windows_hold_their_moment_and_follow_each_other_without_gap_or_overlap(now, zone, window):
    budget = BudgetWindow(1, window, ZoneInfo(zone))
    start, end = budget.bounds(now)
    assert start <= now < end
    assert budget.bounds(start) == (start, end)
    assert budget.bounds(end)[0] == end
    assert budget.bounds(start - 0.001)[1] == start
    hours = (end - start) / 3600
    low, high = {"day": (22, 26), "week": (166, 170), "month": (671, 745)}[window]
    assert low <= hours <= high


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-03-28", 24), ("2026-10-26", 24)]
)
def test_a_day_on_which_the_clocks_change_has_its_true_length(day, hours):
    berlin = ZoneInfo("Europe/Berlin")
    noon = datetime.fromisoformat(day).replace(hour=12, tzinfo=berlin).timestamp()
    start, end = BudgetWindow(1, "day", berlin).bounds(noon)
    assert (end - start) / 3600 == hours
    assert datetime.fromtimestamp(start, berlin).isoformat().startswith(f"{day}T00:00:00")


def test_every_hour_of_the_long_day_is_in_the_same_window():
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 10, 25, tzinfo=berlin).timestamp()
    budget = BudgetWindow(1, "day", berlin)
    windows = [budget.bounds(start + hour * 3600) for hour in range(26)]
    assert len(set(windows[:25])) == 1
    assert windows[25][0] == windows[0][1]


def test_weeks_begin_on_monday_and_months_on_their_first():
    for day, following in pairwise(datetime(2026, 1, 1, 15, tzinfo=UTC) + timedelta(days=n) for n in range(400)):
        week, month = (BudgetWindow(1, window, UTC) for window in ("week", "month"))
        moved = following.weekday() == 0
        assert (week.bounds(day.timestamp()) != week.bounds(following.timestamp())) is moved
        moved = following.day == 1
        assert (month.bounds(day.timestamp()) != month.bounds(following.timestamp())) is moved
