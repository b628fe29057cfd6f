"""The circuit breaker of one target: it opens after consecutive failures, and one probe at a time closes it again."""

from __future__ import annotations

from hypothesis import given, strategies as st

from gateway.contract.snapshot import Breaker
from gateway.routing.health import HealthBook, TargetHealth

POLICY = Breaker(failures=3, cooldown=10.0, max_cooldown=25.0)


def failed(health: TargetHealth, now: float, times: int = 1) -> None:
    """Requests that were sent and failed."""
    for _ in range(times):
        probe = health.begin(now)
        health.failed(now, POLICY, "provider_5xx")
        health.done(probe)


def test_only_consecutive_failures_open_it():
    health = TargetHealth()
    failed(health, 0.0, 2)
    health.succeeded()
    failed(health, 1.0, 2)
    assert health.available(1.0)
    failed(health, 1.0)
    assert (health.available(1.0), health.state(1.0), health.opened) == (False, "open", 1)


def test_after_its_rest_one_probe_goes_through_and_the_others_wait_for_its_verdict():
    health = TargetHealth()
    failed(health, 0.0, 3)
    assert not health.available(9.9)
    assert health.state(10.0) == "half_open"
    assert health.available(10.0)
    assert health.begin(10.0), "this one is the probe"
    assert not health.available(10.0)
    health.responded(10.5, 0.5)
    assert health.available(10.5)
    assert health.state(10.5) == "closed"


def test_each_failed_probe_doubles_the_rest_up_to_its_maximum():
    health, now, rests = TargetHealth(), 0.0, []
    failed(health, now, 3)
    for _ in range(4):
        rests.append(health.open_until - now)
        now = health.open_until
        failed(health, now)
    assert rests == [10.0, 20.0, 25.0, 25.0]


def test_a_probe_without_a_verdict_lets_another_one_probe():
    health = TargetHealth()
    failed(health, 0.0, 3)
    probe = health.begin(10.0)
    health.done(probe)  # its client left
    assert health.available(10.0)
    assert health.begin(10.0)


def test_the_end_of_an_old_request_is_no_end_of_the_probe():
    health = TargetHealth()
    old = health.begin(0.0)
    failed(health, 0.0, 3)
    assert health.begin(10.0)
    health.done(old)
    assert not health.available(10.0)


def test_failures_of_requests_under_way_do_not_lengthen_the_rest():
    health = TargetHealth()
    probes = [health.begin(0.0) for _ in range(9)]
    for probe in probes:
        health.failed(1.0, POLICY, "provider_5xx")
        health.done(probe)
    assert (health.opened, health.open_until) == (1, 11.0)


def test_the_rest_starts_small_again_after_a_success():
    health = TargetHealth()
    failed(health, 0.0, 3)
    failed(health, 10.0)
    probe = health.begin(30.0)
    health.responded(30.1, 0.1)
    health.succeeded()
    health.done(probe)
    failed(health, 31.0, 3)
    assert health.open_until == 41.0


def test_a_latency_average_leans_to_the_newest_and_forgets_the_old():
    health = TargetHealth()
    health.responded(0.0, 1.0)
    health.responded(1.0, 2.0)
    assert health.latency is not None
    assert 1.0 < health.latency < 1.5
    health.responded(100.0, 5.0)
    assert health.latency == 5.0


@given(steps=st.lists(st.sampled_from(["begin", "done", "fail", "respond", "wait"]), max_size=60))
def test_requests_under_way_are_counted_right_whatever_happens(steps):
    health, now, running = TargetHealth(), 0.0, []
    for step in steps:
        now += 3.0 * (step == "wait")
        if step == "begin" and health.available(now):
            running.append(health.begin(now))
        elif step == "fail" and running:
            health.failed(now, POLICY, "provider_5xx")
        elif step == "respond" and running:
            health.responded(now, 0.1)
        elif step == "done" and running:
            health.done(running.pop())
        assert health.in_flight == len(running)
    for probe in running:
        health.done(probe)
    assert health.in_flight == 0
    assert health.available(now + 1000.0), "no target rests for ever"


def test_a_rest_that_others_ask_for_is_never_shorter_than_our_own_and_disturbs_no_probe():
    health = TargetHealth()
    health.rest(5.0)
    assert not health.available(4.0)
    assert (health.opened, health.state(4.0)) == (1, "open")
    health.rest(3.0)
    assert not health.available(4.0)
    probe = health.begin(6.0)
    health.rest(20.0)
    assert health.state(6.0) == "half_open"
    health.responded(7.0, 0.1)
    health.done(probe)
    assert health.available(7.0)


def test_a_target_that_left_the_configuration_is_forgotten_when_its_last_request_has_ended():
    book = HealthBook()
    probe = book["gone"].begin(0.0)
    assert not book["idle"].in_flight
    assert not book["kept"].in_flight
    book.keep({"kept"})
    assert set(book) == {"gone", "kept"}
    book["gone"].done(probe)
    book.keep({"kept"})
    assert set(book) == {"kept"}
