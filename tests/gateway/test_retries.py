"""Attempts, fallback and the circuit breaker."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest

from tests.fakes import scripts
from tests.fakes.gateway import Gateway, endpoint, new_id, route
from tests.fakes.upstream import Reset, Upstream, Wait

NEVER = threading.Event()
FAST = {"max_attempts": 4, "backoff": 0.01, "max_retry_after": 1.0}


def tier(model: str, priority: int, place: str = "up", **more: object) -> dict[str, object]:
    return {"endpoint": place, "model": model, "priority": priority, **more}


@pytest.fixture(scope="module")
def second():
    with Upstream() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(start, upstream, second) -> Gateway:
    times = {"first_byte": 0.5, "idle": 0.5, "connect": 0.5}
    config = {
        "endpoint": [
            endpoint(upstream.url, timeouts=times),
            endpoint(second.url, "second", timeouts=times),
            endpoint("http://127.0.0.1:9/v1", "nobody", timeouts=times),
        ],
        "route": [
            route("again/*", retry=FAST),
            route("dated/*", retry={"max_attempts": 2, "backoff": 0.01, "max_retry_after": 3.0}),
            route("once/*", retry={**FAST, "max_attempts": 1}),
            route("patient/*", retry={"max_attempts": 3, "backoff": 0.3, "max_backoff": 0.4}),
            route("tiers", tier("t1", 0), tier("t2", 1, "second"), retry=FAST),
            route("dead-first", tier("x", 0, "nobody"), tier("t3", 1), retry=FAST),
            route("to-other", tier("f1", 0), retry={**FAST, "max_attempts": 2}, fallback="other"),
            route("other", tier("f2", 0, "second"), retry=FAST),
            route(
                "spread",
                tier("s1", 0, weight=3),
                tier("s2", 0, weight=1),
                tier("s0", 0, weight=0),
                retry=FAST,
            ),
            route("sticky", tier("k1", 0), tier("k2", 0), strategy="sticky", sticky_by="user"),
            route("to-sticky", tier("gone", 0, "nobody"), retry={**FAST, "max_attempts": 1}, fallback="sticky"),
            route("rests", tier("r1", 0), tier("r0", 0, weight=0), breaker={"failures": 3, "cooldown": 30.0}),
            route("session", tier("k1", 0), tier("k2", 0), strategy="sticky", sticky_by="session"),
            route("quick", tier("q-slow", 0), tier("q-fast", 0), strategy="least_latency"),
            route("busy", tier("b1", 0), tier("b2", 0), strategy="least_busy"),
            *(
                route(
                    f"breaks{n}",
                    tier(f"b-{n}", 0),
                    breaker={"failures": 3, "cooldown": 0.5, "max_cooldown": 1.0},
                )
                for n in range(4)
            ),
            route(
                "avoids",
                tier("av1", 0),
                tier("av2", 1),
                retry=FAST,
                breaker={"failures": 2, "cooldown": 30.0},
            ),
        ],
    }
    return start(config)


RETRIED = {
    "500": scripts.error(500),
    "502": scripts.error(502),
    "503": scripts.error(503),
    "429": scripts.error(429),
    "reset": [Reset()],
    "time-out": [Wait(NEVER, 1)],
    "empty stream": scripts.stream([]),
    "408": scripts.error(408),
}
FINAL = {"400": 400, "404": 404, "413": 413, "422": 422}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", RETRIED.values(), ids=RETRIED.keys())
def test_a_passing_fault_is_tried_again(gateway, upstream, scripted, script, stream):
    name = scripted(script, script, scripts.chat())
    reply = gateway.chat(f"again/{name}", stream=stream)
    assert reply.status == 200
    # A reset of a kept-alive connection is excused once, without being counted.
    assert reply.header("x-tunegate-attempts") in (("2", "3") if script == [Reset()] else ("3",))
    assert len(upstream.of(name)) == 3


@pytest.mark.parametrize("status", FINAL.values())
def test_the_callers_own_mistake_is_not_tried_again(gateway, upstream, scripted, status):
    name = scripted(scripts.error(status))
    assert gateway.chat(f"again/{name}").status == status
    assert len(upstream.of(name)) == 1


def test_attempts_end(gateway, upstream, scripted):
    name = scripted(scripts.error(503))
    reply = gateway.chat(f"again/{name}")
    assert (reply.status, reply.fault) == (503, "provider_5xx")
    assert len(upstream.of(name)) == 4
    assert reply.header("x-tunegate-attempts") == "4"


def test_pauses_grow_but_stay_under_their_cap(gateway, upstream, scripted):
    name = scripted(scripts.error(503))
    begin = time.monotonic()
    assert gateway.chat(f"patient/{name}").status == 503
    assert time.monotonic() - begin < 0.3 + 0.4 + 0.5
    assert len(upstream.of(name)) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_respected(gateway, upstream, scripted, status):
    name = scripted(scripts.error(status, retry_after="1"), scripts.chat())
    assert gateway.chat(f"again/{name}").status == 200
    first, then = upstream.of(name)
    assert 0.9 < then.at - first.at < 2.0


@pytest.mark.parametrize(("ahead", "least"), [(2.0, 0.95), (-60.0, 0.0)])
def test_retry_after_may_be_a_date(gateway, upstream, scripted, ahead, least):
    name = scripted(lambda seen: scripts.error(429, retry_after=formatdate(time.time() + ahead, usegmt=True)))
    assert gateway.chat(f"dated/{name}").status == 429
    first, then = upstream.of(name)
    assert least <= then.at - first.at < least + 1.5


@pytest.mark.parametrize("value", ["3600", "Fri, 31 Dec 2099 23:59:59 GMT"])
def test_a_long_retry_after_is_not_waited_for(gateway, upstream, scripted, value):
    name = scripted(scripts.error(429, retry_after=value), scripts.chat())
    begin = time.monotonic()
    reply = gateway.chat(f"again/{name}")
    assert time.monotonic() - begin < 2.5
    assert len(upstream.of(name)) == 1
    assert (reply.status, reply.fault) == (429, "provider_rate")
    assert reply.header("retry-after") == value, "the caller is told to wait"


@pytest.mark.parametrize("value", ["", "soon", "-5", "1e99", "nan", "9" * 20, "Mon, 99 Foo 0000 9:99"])
def test_an_odd_retry_after_harms_nothing(gateway, scripted, value):
    name = scripted(scripts.error(429, retry_after=value))
    begin = time.monotonic()
    assert gateway.chat(f"again/{name}").status == 429
    assert time.monotonic() - begin < 3


def test_the_last_refusal_of_a_provider_is_the_answer(gateway, scripted):
    reply = gateway.chat(f"once/{scripted(scripts.error(429, 'slow down', retry_after='7'))}")
    assert (reply.status, reply.fault) == (429, "provider_rate")
    assert reply.header("retry-after") == "7"
    assert reply.error["code"] in (None, "rate_limit_exceeded")  # the provider's own, or ours


@pytest.mark.parametrize("script", [scripts.error(500), scripts.error(401), scripts.error(429, retry_after="900")])
def test_the_next_tier_answers_when_the_first_fails(gateway, upstream, second, script):
    upstream.on("t1", script)
    second.on("t2", scripts.chat(["from the second"]))
    reply = gateway.chat("tiers")
    assert reply.status == 200
    assert "from the second" in reply.body.decode()
    assert reply.header("x-tunegate-target") == "second/t2"
    assert int(reply.header("x-tunegate-attempts") or 0) >= 2


def test_the_first_tier_is_used_while_it_works(gateway, upstream, second):
    upstream.on("t1", scripts.chat())
    before = len(second.of("t2"))
    for _ in range(5):
        assert gateway.chat("tiers").header("x-tunegate-target") == "up/t1"
    assert len(second.of("t2")) == before


def test_an_unreachable_target_falls_back(gateway):
    reply = gateway.chat("dead-first", stream=True)
    assert (reply.status, reply.header("x-tunegate-target")) == (200, "up/t3")


def test_another_route_answers_when_every_target_failed(gateway, upstream, second):
    upstream.on("f1", scripts.error(500))
    second.on("f2", scripts.chat(["rescued"]))
    rid = new_id()
    reply = gateway.chat("to-other", rid=rid)
    assert (reply.status, reply.header("x-tunegate-target")) == (200, "second/f2")
    row = gateway.row(rid)
    assert (row["endpoint"], row["upstream_model"], row["model"]) == ("second", "f2", "to-other")


def test_a_fallback_that_fails_too_ends(gateway, upstream, second):
    upstream.on("f1", scripts.error(500))
    second.on("f2", scripts.error(503))
    reply = gateway.chat("to-other")
    assert reply.status in (500, 503)
    assert len(upstream.of("f1")) + len(second.of("f2")) < 20


def test_weights_share_the_load(gateway, upstream):
    for _ in range(80):
        assert gateway.chat("spread").status == 200
    heavy, light = len(upstream.of("s1")), len(upstream.of("s2"))
    assert heavy + light == 80
    assert upstream.of("s0") == []
    assert 45 <= heavy <= 75


def test_a_sticky_user_stays(gateway):
    places = {
        user: {gateway.chat("sticky", user=user).header("x-tunegate-target") for _ in range(4)}
        for user in (f"user-{i}" for i in range(8))
    }
    assert all(len(p) == 1 for p in places.values()), places
    assert len(set.union(*places.values())) == 2, "all users on one target"


def test_a_sticky_user_stays_on_a_fallback_too(gateway):
    for user in (f"user-{i}" for i in range(4)):
        direct = gateway.chat("sticky", user=user).header("x-tunegate-target")
        assert {gateway.chat("to-sticky", user=user).header("x-tunegate-target") for _ in range(4)} == {direct}


def test_a_sticky_session_stays(gateway):
    def ask(session):
        return gateway.chat("session", headers={"x_session_id": session}).header("x-tunegate-target")

    assert all(len({ask(f"s{i}") for _ in range(3)}) == 1 for i in range(4))


def test_the_quicker_target_gets_most(gateway, upstream):
    upstream.on("q-slow", scripts.chat(gap=0.08))
    for _ in range(40):
        assert gateway.chat("quick").status == 200
    assert len(upstream.of("q-fast")) > 2 * len(upstream.of("q-slow"))


def test_the_less_busy_target_is_chosen(gateway, upstream):
    go = threading.Event()
    for name in ("b1", "b2"):
        upstream.on(name, lambda seen: [Wait(go), *scripts.chat()(seen)])
    with ThreadPoolExecutor(6) as pool:
        asked = []
        for n in range(6):
            asked.append(pool.submit(gateway.chat, "busy"))
            while len(upstream.of("b1")) + len(upstream.of("b2")) < n + 1:
                time.sleep(0.005)
        assert len(upstream.of("b1")) == len(upstream.of("b2")) == 3
        go.set()
        assert all(a.result().status == 200 for a in asked)


# ---- circuit breaker ----


def fail(gateway, upstream, n: int, times: int = 3) -> None:
    upstream.on(f"b-{n}", scripts.error(500))
    for _ in range(times):
        assert gateway.chat(f"breaks{n}").status == 500


def test_the_breaker_opens_and_a_probe_closes_it(gateway, upstream):
    fail(gateway, upstream, 0)
    reply = gateway.chat("breaks0")
    assert reply.status in (502, 503)
    assert (reply.fault or "").startswith(("provider_", "tunegate_"))
    assert reply.error["message"]
    assert len(upstream.of("b-0")) == 3, "an open breaker sends nothing"
    time.sleep(0.6)
    upstream.on("b-0", scripts.chat())
    assert [gateway.chat("breaks0").status for _ in range(4)] == [200] * 4


def test_who_is_refused_since_all_rest_is_told_when_the_first_may_be_tried_again(gateway, upstream):
    upstream.on("r1", scripts.error(500))
    for _ in range(3):
        gateway.chat("rests")
    reply = gateway.chat("rests")
    assert reply.status == 503
    assert 25 <= int(reply.header("retry-after")) <= 30


def test_a_failed_probe_opens_the_breaker_again(gateway, upstream):
    fail(gateway, upstream, 1)
    time.sleep(0.6)
    assert gateway.chat("breaks1").status == 500
    count = len(upstream.of("b-1"))
    assert gateway.chat("breaks1").status in (502, 503)
    assert len(upstream.of("b-1")) == count


def test_only_one_probe_goes_out(gateway, upstream):
    fail(gateway, upstream, 2)
    upstream.on("b-2", scripts.chat(gap=0.3))
    time.sleep(0.6)
    with ThreadPoolExecutor(6) as pool:
        replies = [f.result() for f in [pool.submit(gateway.chat, "breaks2") for _ in range(6)]]
    assert len(upstream.of("b-2")) == 4
    assert sorted(r.status == 200 for r in replies) == [False] * 5 + [True]


def test_a_success_between_failures_keeps_the_breaker_closed(gateway, upstream):
    for _ in range(4):
        fail(gateway, upstream, 3, times=2)
        upstream.on("b-3", scripts.chat())
        assert gateway.chat("breaks3").status == 200


@pytest.mark.parametrize("status", [400, 404, 422])
def test_the_callers_mistakes_do_not_open_the_breaker(gateway, upstream, status):
    upstream.on("b-3", scripts.error(status))
    for _ in range(5):
        assert gateway.chat("breaks3").status == status
    upstream.on("b-3", scripts.chat())
    assert gateway.chat("breaks3").status == 200


def test_an_open_target_is_skipped_for_the_next_one(gateway, upstream):
    upstream.on("av1", scripts.error(500))
    for _ in range(6):
        assert gateway.chat("avoids").header("x-tunegate-target") == "up/av2"
    assert len(upstream.of("av1")) == 2
