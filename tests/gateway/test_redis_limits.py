"""Limits in Redis: three gateways and one real Redis hold one limit together; none waits for a Redis that is ill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes import scripts
from tests.fakes.control import TOKEN, Control
from tests.fakes.gateway import Config, Gateway, digest, endpoint, eventually, key, new_id, route
from tests.fakes.redis_server import KINDS, RedisServer
from tests.fakes.upstream import Upstream, Wait
from tests.fakes.wire import Usage

GATEWAYS, LEASE = 3, 0.05
PRICE = {"input": 1.0, "output": 1.0}
"""One token costs 0.000001."""
USED = Usage(5, 50)
"""Of each request, never more than what it reserves: 0.000055, of which 300 are 0.0165."""
KEYS: dict[str, Config] = {
    "rpm": {"limits": {"rpm": 300}},
    "rpm-hot": {"limits": {"rpm": 300}},
    "rpm-small": {"limits": {"rpm": 5}},
    "tpm": {"limits": {"tpm": 15_000}},
    "tpm-hot": {"limits": {"tpm": 15_000}},
    "places": {"limits": {"concurrency": 10}},
    "places-hot": {"limits": {"concurrency": 10}},
    "places-killed": {"limits": {"concurrency": 3}},
    "budget": {"budget": [{"amount": 0.0165, "window": "month"}]},
    "budget-hot": {"budget": [{"amount": 0.0165, "window": "total"}]},
    "budget-flushed": {"budget": [{"amount": 0.0001925, "window": "total"}]},
    "prefix": {"limits": {"rpm": 5}},
    "moved": {"limits": {"rpm": 5}},
    "free": {},
    "in-team-1": {"team": "small"},
    "in-team-2": {"team": "small"},
}


def secret(name: str) -> str:
    return "sk-tg-" + digest(name)[:40]


def config(upstream: Upstream, redis: RedisServer, **limits: object) -> Config:
    return {
        "limits": {"backend": "redis", "url": redis.url, "lease": LEASE, "lease_seconds": 1.0, "wait": 1.0, **limits},
        "endpoint": [endpoint(upstream.url)],
        "route": [route("x/*", price=PRICE)],
        "team": [{"name": "small", "limits": {"rpm": 4}}],
        "key": [key(name, secret(name), **fields) for name, fields in KEYS.items()],
    }


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def at_once(start, tmp_path_factory) -> Callable[[list[Config]], list[Gateway]]:
    """Starts several gateways at the same time."""

    def run(configs: list[Config]) -> list[Gateway]:
        folders = [tmp_path_factory.mktemp("gateway") for _ in configs]
        with ThreadPoolExecutor(len(configs)) as pool:
            return list(pool.map(lambda one, folder: start(one, folder=folder), configs, folders))

    return run


@pytest.fixture(scope="module")
def gateways(at_once, upstream, redis) -> list[Gateway]:
    upstream.on("ok", scripts.chat(usage=USED))
    return at_once([config(upstream, redis)] * GATEWAYS)


def ask(gateway: Gateway, who: str, model: str = "ok") -> int:
    reply = gateway.chat(f"x/{model}", secret=secret(who), max_tokens=50)
    assert reply.status in (200, 429), reply
    return reply.status


def crowd(gateways: list[Gateway], who: str, requests: int) -> tuple[int, float]:
    """(how many of so many requests of twelve clients passed, minutes that they took)."""
    began = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda n: ask(gateways[n % len(gateways)], who), range(requests)))
    return statuses.count(200), (time.monotonic() - began) / 60.0


@pytest.mark.parametrize("who", ["rpm", "rpm-hot"])
def test_requests_per_minute_of_all_gateways_together(gateways, who):
    """Whether they share the load, or one of them has it all."""
    passed, minutes = crowd(gateways[:1] if "hot" in who else gateways, who, 450)
    assert 300 * 0.95 <= passed <= 300 * (1 + minutes) + GATEWAYS * LEASE * 300


@pytest.mark.parametrize("who", ["tpm", "tpm-hot"])
def test_tokens_per_minute_of_all_gateways_together(gateways, who):
    passed, minutes = crowd(gateways[:1] if "hot" in who else gateways, who, 400)
    assert 15_000 * 0.95 <= passed * 55 <= 15_000 * (1 + minutes + GATEWAYS * LEASE)


@pytest.mark.parametrize("who", ["budget", "budget-hot"])
def test_a_budget_of_all_gateways_together(gateways, who):
    passed, _ = crowd(gateways[:1] if "hot" in who else gateways, who, 400)
    for _ in range(3):  # what is left to others is given back when they are idle
        time.sleep(0.7)
        passed += sum(ask(gateway, who) == 200 for gateway in gateways)
    assert 300 * 0.95 <= passed <= 301, "one lone request may pass on whatever is left"


def test_a_small_limit_is_exact(gateways):
    assert crowd(gateways, "rpm-small", 30)[0] == 5
    reply = gateways[0].chat("x/ok", secret=secret("rpm-small"))
    assert (reply.status, reply.fault) == (429, "policy_rate")
    assert reply.header("x-ratelimit-limit-requests") == "5"
    assert reply.header("x-ratelimit-remaining-requests") == "0"
    assert 0 < int(reply.header("retry-after") or 0) <= 12


def test_a_team_is_limited_over_keys_and_gateways_and_a_key_without_limits_is_free(gateways):
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda n: ask(gateways[n % 3], f"in-team-{1 + n % 2}"), range(24)))
    assert statuses.count(200) == 4
    assert gateways[0].chat("x/ok", secret=secret("free")).header("x-ratelimit-limit-requests") is None


def hold(gateways: list[Gateway], upstream: Upstream, who: str, count: int, go: threading.Event) -> list[int]:
    """Statuses of so many requests at a time, of which the upstream answers none before `go`, or before others fail."""
    model = f"held-{who}"
    upstream.on(model, lambda seen: [Wait(go, 20), *scripts.chat(usage=USED)(seen)])

    def one(n: int) -> int:
        status = gateways[n % len(gateways)].chat(f"x/{model}", secret=secret(who), max_tokens=50).status
        if status == 429:
            refused.append(n)
        return status

    refused: list[int] = []
    with ThreadPoolExecutor(count) as pool:
        replies = [pool.submit(one, n) for n in range(count)]
        eventually(lambda: len(upstream.of(model)) + len(refused) >= count, 8)
        go.set()
        return [reply.result() for reply in replies]


@pytest.mark.parametrize("who", ["places", "places-hot"])
def test_concurrency_of_all_gateways_together(gateways, upstream, who):
    some = gateways[:1] if "hot" in who else gateways
    assert hold(some, upstream, who, 30, threading.Event()).count(200) == 10
    eventually(lambda: all(ask(gateway, who) == 200 for gateway in gateways), 3)


def test_what_a_killed_gateway_held_is_free_after_lease_seconds(gateways, upstream):
    go = threading.Event()
    upstream.on("forever", lambda seen: [Wait(go, 20), *scripts.chat()(seen)])
    conns = [gateways[0].open("x/forever", new_id(), secret=secret("places-killed")) for _ in range(3)]
    eventually(lambda: len(upstream.of("forever")) == 3)
    assert ask(gateways[1], "places-killed") == 429
    time.sleep(1.5)
    assert ask(gateways[1], "places-killed") == 429, "its lease is renewed as long as it lives"
    gateways[0].kill9()
    go.set()
    eventually(lambda: ask(gateways[1], "places-killed") == 200, 3)
    for conn in conns:
        conn.close()
    gateways[0].start()


def test_a_limit_that_changes_is_taken_over_by_all(gateways, upstream, redis):
    assert crowd(gateways, "moved", 12)[0] == 5
    more = config(upstream, redis)
    more["key"] = [key(name, secret(name), **(f | {"limits": {"rpm": 25}} if name == "moved" else f))
                   for name, f in KEYS.items()]  # fmt: skip
    for gateway in gateways:
        before = gateway.metric("tunegate_snapshot_swaps")
        gateway.write(more)
        eventually(lambda g=gateway, b=before: g.metric("tunegate_snapshot_swaps") > b)
    passed, minutes = crowd(gateways, "moved", 40)
    assert 20 <= passed <= 20 + 25 * (minutes + 3 / 60)


def test_a_redis_that_lost_everything_grants_no_spent_budget_again(gateways, redis):
    while ask(gateways[0], "budget-flushed") == 200:
        pass
    redis.kill()
    redis.start()
    for gateway in gateways:
        eventually(lambda g=gateway: g.metric("limits_redis_breaker") == 0.0)
    assert ask(gateways[0], "budget-flushed") == 429
    time.sleep(0.5)
    redis.command("FLUSHALL")
    redis.command("SCRIPT", "FLUSH")
    time.sleep(0.8)
    assert [ask(gateway, "budget-flushed") for gateway in gateways] == [429] * 3, "who knows has told it again"
    assert ask(gateways[2], "rpm") == 200, "a rate begins anew"


def test_what_control_knows_to_be_spent_is_not_granted_by_an_empty_redis(upstream, redis, tmp_path):
    tables = {k: v for k, v in config(upstream, redis, prefix="ledger").items() if k not in ("limits", "key")}
    poor = {"key": [key("poor", secret("poor"), budget=[{"amount": 1.0, "window": "total"}])]}
    with Control() as control:
        control.publish(tables | poor)
        limits = config(upstream, redis, prefix="ledger")["limits"]
        table = {"url": control.url, "token": "env:T"}
        with Gateway({"control": table, "limits": limits}, tmp_path, env={"T": TOKEN}) as gateway:
            assert ask(gateway, "poor") == 200
            control.spend("key", "poor", 1_000_000_000)
            eventually(lambda: gateway.chat("x/ok", secret=secret("poor")).fault == "policy_budget", 5)


def test_two_prefixes_do_not_meet_and_the_workers_of_a_gateway_share_a_limit(start, gateways, upstream, redis):
    assert crowd(gateways, "prefix", 8)[0] == 5
    other = start(config(upstream, redis, prefix="other") | {"gateway": {"workers": 2}})
    eventually(lambda: len([name for name in other.metrics() if name.startswith("tunegate_limits_leases")]) == 2)
    assert crowd([other], "prefix", 24)[0] == 5


def test_a_stopped_gateway_gives_back_what_it_held(at_once, upstream, redis):
    first, second = at_once([config(upstream, redis, prefix="stops", lease_seconds=60.0, lease=0.2)] * 2)
    assert ask(first, "rpm") == 200
    assert ask(first, "places") == 200
    first.stop()
    assert hold([second], upstream, "places", 10, threading.Event()).count(200) == 10
    assert redis.command("HGET", "{stops}:key:rpm", "q").startswith("$")
    passed, minutes = crowd([second], "rpm", 310)
    assert 299 <= passed <= 299 + 300 * (minutes + 1 / 60)


@pytest.mark.parametrize("kind", KINDS)
def test_valkey_does_as_well(start, upstream, kind):
    with RedisServer(kind, password="let-me-in") as server:
        upstream.on("ok", scripts.chat(usage=USED))
        table = config(upstream, server, password="env:REDIS_PASSWORD")
        gateway = start(table, env={"REDIS_PASSWORD": "let-me-in"})
        assert crowd([gateway], "rpm-small", 8)[0] == 5
        assert gateway.metric("limits_redis_breaker") == 0.0
        assert gateway.metric(r"limits_redis_calls.*answered") > 0


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_wrong_password_is_told_at_start(upstream, tmp_path, password):
    with RedisServer(password="let-me-in") as server:
        table = config(upstream, server, **({"password": "env:REDIS_PASSWORD"} if password else {}))
        gateway = Gateway(table, tmp_path, env={"REDIS_PASSWORD": password or "-"})
        with pytest.raises(AssertionError, match="refuses this gateway"):
            gateway.start()
        assert "let-me-in" not in "".join(gateway.log_lines)


def test_breakers_are_shared_if_that_is_asked_for(at_once, upstream, redis):
    def one(shared: bool) -> Config:
        table = config(upstream, redis, prefix="breakers", share_breakers=shared)
        table["endpoint"].append(endpoint(upstream.url, "second"))
        first, second = {"endpoint": "up", "model": "ill"}, {"endpoint": "second", "model": "ok", "priority": 1}
        breaker = {"failures": 2, "cooldown": 5.0}
        table["route"] = [route("r", first, second, breaker=breaker, retry={"max_attempts": 2, "backoff": 0.01})]
        return table

    def rests(gateway: Gateway) -> bool:
        return gateway.metric(r'tunegate_target_breaker.target="up/ill"') == 2.0

    upstream.on("ill", scripts.error(500))
    first, second, alone = at_once([one(True), one(True), one(False)])
    for gateway in (first, alone):
        assert gateway.chat("r", secret=secret("free")).status == 200
        assert not rests(gateway)
    assert first.chat("r", secret=secret("free")).status == 200
    eventually(lambda: rests(second), 4)
    asked = len(upstream.of("ill"))
    assert second.chat("r", secret=secret("free")).header("x-tunegate-attempts") == "1"
    assert not rests(alone), "it neither tells nor hears"
    upstream.on("ill", scripts.chat(usage=USED))
    eventually(lambda: second.chat("r", secret=secret("free")).status == 200 and len(upstream.of("ill")) > asked, 15)
    assert first.chat("r", secret=secret("free")).header("x-tunegate-target") == "up/ill"
    time.sleep(1.2)
    assert not rests(first)
    assert not rests(second)


# ---- a Redis that is ill


def times(gateway: Gateway, count: int) -> tuple[list[int], list[float]]:
    """(statuses, sorted seconds) of requests one after another, whose limit is asked for each time."""
    statuses, took = [], []
    for _ in range(count):
        began = time.monotonic()
        statuses.append(gateway.chat("x/ok", secret=secret("steady")).status)
        took.append(time.monotonic() - began)
    return statuses, sorted(took)


@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_a_silent_redis_holds_up_no_request(start, upstream, on_failure, tmp_path: Path):
    with RedisServer() as server:
        upstream.on("ok", scripts.chat(usage=USED))
        table = config(upstream, server, wait=0.005, lease=0.0, on_failure=on_failure)
        table["key"].append(key("steady", secret("steady"), limits={"rpm": 30_000, "concurrency": 100}))
        gateway = start(table)
        alone = 200 if on_failure == "open" else 503
        assert times(gateway, 20)[0].count(200) >= 10, "on a busy machine some answers of Redis come late"
        healthy = min((times(gateway, 50)[1] for _ in range(3)), key=lambda took: took[47])
        server.pause()
        statuses, first = times(gateway, 20)
        assert first[10] <= 2 * healthy[25] + 0.005, "until the breaker opens, each waits at most `wait`"
        rounds = [times(gateway, 50) for _ in range(3)]  # the best of them: the machine is not ours alone
        statuses += [status for some, _ in rounds for status in some]
        assert statuses.count(alone) >= 168, "but for a lease that was not used yet"
        silent = min((took for _, took in rounds), key=lambda took: took[47])
        assert silent[47] <= 2 * healthy[47] + 0.005, (silent[-5:], healthy[-5:])
        assert silent[25] <= 1.5 * healthy[25] + 0.002, "the breaker spares them the wait"
        if on_failure == "closed":
            reply = gateway.chat("x/ok", secret=secret("steady"))
            assert (reply.fault, reply.error["code"]) == ("tunegate_limits", "limits_unavailable")
            assert reply.header("retry-after") == "1"
            assert gateway.chat("x/ok", secret=secret("free")).status == 200, "it has no limit"
        assert gateway.metric("limits_redis_breaker") > 0.0
        eventually(lambda: gateway.metric(r"limits_redis_calls.*failed") > 0)
        server.go_on()
        eventually(lambda: gateway.metric("limits_redis_breaker") == 0.0, 5)
        eventually(lambda: times(gateway, 1)[0] == [200])
        server.kill()
        eventually(lambda: gateway.metric("limits_redis_breaker") > 0.0, 5)
        assert times(gateway, 4)[0][1:] == [alone] * 3


def test_without_redis_a_gateway_starts_and_counts_its_share(start, upstream):
    with RedisServer() as server:
        table = config(upstream, server)
    gateway = start(table | {"limits": {**table["limits"], "wait": 0.005}})
    assert [ask(gateway, "rpm-small") for _ in range(7)] == [200] * 5 + [429] * 2
    server.start()
    try:
        eventually(lambda: gateway.metric("limits_redis_breaker") == 0.0, 5)
    finally:
        server.kill()
