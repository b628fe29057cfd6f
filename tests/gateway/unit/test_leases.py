"""Leases: what a lost answer, a forgetful Redis or a dead worker does to the counts. Several workers, one process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis import Redis

from gateway import commands
from gateway.cache.entry import Entry
from gateway.cache.shared import SharedAnswers
from gateway.errors import ConfigError, GatewayError
from gateway.limits.base import Reservation, Short
from gateway.limits.link import Link, Lost
from gateway.limits.redis import RedisLimiter
from gateway.protocols.canonical import Usage
from gateway.runtime import KeyRecord, Route
from gateway.settings import LimitsTable
from tests.fakes.gateway import Gateway
from tests.fakes.redis_server import RedisServer
from tests.fakes.runtime import DIGEST, compiled, route
from tests.processes import free_port

OPERATIONS = Path(__file__).parents[3] / "docs/operations.md"

BUDGET = {"amount": 0.000001, "window": "total"}
"""1000 nano-units."""


class Worker:
    """A limiter that asks when it is told to, and at once for who waits."""

    def __init__(self, redis: RedisServer, key: dict[str, Any], **settings: Any) -> None:
        table = LimitsTable(**{"backend": "redis", "url": redis.url, "wait": 1.0, "lease_seconds": 1.0} | settings)
        self.limiter = RedisLimiter(table, 1, lambda seconds: None)
        self.configure(key)
        self.task: asyncio.Task[None] | None = None

    def configure(self, key: dict[str, Any]) -> None:
        runtime = compiled(route=[route("r")], key=[{"name": "k", "sha256": DIGEST, **key}])
        self.key: KeyRecord = next(iter(runtime.keys.values()))
        self.route: Route = runtime.routes["r"]
        self.limiter.apply(runtime)

    async def start(self) -> None:
        await self.limiter.start()
        self.task = asyncio.create_task(self.limiter.run())

    async def ask(self, tokens: int = 0, cost: int = 0, least: int = 0) -> Reservation | str:
        """A reservation, or the code of the refusal."""
        try:
            try:
                return self.limiter.reserve(self.key, self.route, tokens, least, cost)
            except Short as short:
                return await short.granted
        except GatewayError as refusal:
            return refusal.code

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.limiter.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


Scenario = Callable[..., Awaitable[None]]


def play(redis: RedisServer, scenario: Scenario, key: dict[str, Any], count: int = 2, **settings: Any) -> None:
    """Run a scenario with so many workers on an empty Redis."""
    redis.command("FLUSHALL")

    async def run() -> None:
        workers = [Worker(redis, key, **settings) for _ in range(count)]
        for worker in workers:
            await worker.start()
        try:
            await scenario(*workers)
        finally:
            for worker in workers:
                await worker.stop()

    asyncio.run(run())


def granted(answers: list[Reservation | str]) -> list[Reservation]:
    return [answer for answer in answers if not isinstance(answer, str)]


async def within(seconds: float, what: Callable[[], Awaitable[object]]) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not await what():
        assert asyncio.get_running_loop().time() < end, "still not true"
        await asyncio.sleep(0.02)


def test_a_crowd_that_waits_is_asked_for_in_one_call(redis):
    async def scenario(worker):
        before = worker.limiter.link.calls.total()
        answers = await asyncio.gather(*(worker.ask() for _ in range(500)))
        assert len(granted(answers)) == 50
        assert set(answers) - set(granted(answers)) == {"policy_rate"}
        assert worker.limiter.link.calls.total() - before <= 3

    play(redis, scenario, {"limits": {"rpm": 50}}, 1)


def test_leases_spare_most_requests_a_call(redis):
    async def scenario(worker):
        for _ in range(1000):
            held = await worker.ask(10, 0)
            assert not isinstance(held, str)
            held.settle(10, 0)
            await asyncio.sleep(0)
        assert worker.limiter.link.calls.total() < 100

    play(redis, scenario, {"limits": {"rpm": 10_000, "tpm": 1_000_000, "concurrency": 1000}}, 1)


def test_what_tokens_were_not_used_is_there_for_others_and_more_than_a_limit_waits_for_all_of_it(redis):
    async def scenario(one, other):
        assert await one.ask(200, least=101) == "policy_tokens"
        held = await one.ask(80)
        assert await other.ask(80) == "policy_tokens"
        held.settle(30, 0)
        await within(2, lambda: asyncio.sleep(0, one.limiter._gates["key:k"].leased_tokens == 0))
        second = await other.ask(60)
        assert not isinstance(second, str)
        second.settle(0, 0)
        assert await one.ask(200, least=10) == "policy_tokens", "only a full bucket grants more than a limit"

    play(redis, scenario, {"limits": {"tpm": 100}})


def test_a_guess_of_more_than_the_whole_limit_passes_a_full_bucket_once(redis):
    async def scenario(one, other):
        assert not isinstance(await one.ask(5000, least=10), str)
        assert await other.ask(1) == "policy_tokens"

    play(redis, scenario, {"limits": {"tpm": 100}})


def test_a_crowd_on_all_workers_cannot_pass_a_budget_and_the_last_cent_can_be_spent(redis):
    async def scenario(*workers):
        answers = await asyncio.gather(*(worker.ask(0, 90) for worker in workers for _ in range(10)))
        assert len(granted(answers)) == 11
        for held in granted(answers):
            held.settle(0, 90)
        await within(3, lambda: alone(workers[1]))
        assert [await worker.ask(0, 90) for worker in workers] == ["policy_budget"] * 3

    async def alone(worker):
        held = await worker.ask(0, 90)
        if isinstance(held, str):
            return False
        assert [await worker.ask(0, 90) for _ in range(3)] == ["policy_budget"] * 3, "only a lone one"
        held.settle(0, 90)
        return True

    play(redis, scenario, {"budget": [BUDGET]}, 3)


def test_a_free_request_needs_money_left_too(redis):
    async def scenario(one, other):
        first = await one.ask(0, 0)
        first.settle(0, 1000)
        await within(2, lambda: asyncio.sleep(0, not one.limiter._gates["key:k"].untold()))
        assert await other.ask(0, 0) == "policy_budget"

    play(redis, scenario, {"budget": [BUDGET]})


def test_spend_is_told_once_whatever_is_lost(redis, monkeypatch):
    """Answers are lost after Redis has done what was asked: the next call tells the same again."""
    call, lose = Link.call, asyncio.Event()

    async def losing(self: Link, *args: Any, **more: Any) -> Any:
        answer = await call(self, *args, **more)
        if lose.is_set():
            lose.clear()
            raise Lost
        return answer

    monkeypatch.setattr(Link, "call", losing)

    async def scenario(one, other):
        for _ in range(5):
            held = await one.ask(0, 100)
            lose.set()
            held.settle(0, 100)
            await within(2, lambda: asyncio.sleep(0, not lose.is_set()))
        gate = one.limiter._gates["key:k"]
        await within(3, lambda: asyncio.sleep(0, not gate.untold()))
        assert gate.money[0].own == 500
        assert len(granted([await other.ask(0, 100) for _ in range(8)])) == 5

    play(redis, scenario, {"budget": [BUDGET]})


@pytest.mark.parametrize("lost", ["everything", "the last minutes"])
def test_a_redis_that_forgot_is_told_again_and_counts_nothing_twice(redis, lost):
    client = Redis(port=redis.port)

    async def spend(worker, times):
        for _ in range(times):
            held = await worker.ask(0, 100)
            assert not isinstance(held, str)
            held.settle(0, 100)
        gate = worker.limiter._gates["key:k"]
        await within(2, lambda: asyncio.sleep(0, gate.idle()))
        return gate.money[0].own

    async def scenario(one, other):
        assert await spend(one, 1) == 100
        name = "{tunegate}:key:k:total UTC:0"
        copy = client.dump(name)
        assert await spend(one, 4) == 500
        if lost == "everything":
            client.flushall()
            await within(2, lambda: asyncio.sleep(0, client.exists(name)))
        else:
            client.restore(name, 0, copy, replace=True)
        assert await spend(one, 1) == 600
        assert len(granted([await other.ask(0, 100) for _ in range(8)])) == 4

    with client:
        play(redis, scenario, {"budget": [BUDGET]})


def test_a_worker_that_was_away_throws_its_leases_away(redis):
    async def scenario(one, other):
        held = [await one.ask() for _ in range(3)]
        for each in held:
            each.settle(0, 0)
        gate = one.limiter._gates["key:k"]
        one.task.cancel()  # as if the process had been stopped
        await within(3, lambda: asyncio.sleep(0, one.limiter._valid_until < asyncio.get_running_loop().time()))
        assert len(granted([await other.ask() for _ in range(12)])) == 10
        one.task = asyncio.create_task(one.limiter.run())
        assert await one.ask() == "policy_concurrency"
        assert gate.places == 0

    play(redis, scenario, {"limits": {"concurrency": 10}}, lease=0.2)


def test_a_cancelled_request_leaves_nothing_behind(redis):
    async def scenario(worker):
        asked = [asyncio.create_task(worker.ask()) for _ in range(10)]
        await asyncio.sleep(0)
        for task in asked[:5]:
            task.cancel()
        await asyncio.wait(asked)
        for task in asked[5:]:
            task.result().settle(0, 0)
        gate = worker.limiter._gates["key:k"]
        assert gate.running == 0
        await within(2, lambda: asyncio.sleep(0, gate.idle()))

    play(redis, scenario, {"limits": {"concurrency": 10}}, 1)


def test_a_limit_may_come_and_go(redis):
    async def scenario(worker):
        assert len(granted([await worker.ask(10, 0) for _ in range(3)])) == 3
        worker.configure({"limits": {"rpm": 5}})
        assert len(granted([await worker.ask(10, 0) for _ in range(9)])) == 2, "three of five are used"
        worker.configure({"limits": {"concurrency": 6}})
        assert len(granted([await worker.ask(10, 0) for _ in range(9)])) == 1, "five run already"
        worker.configure({})
        assert len(granted([await worker.ask(10, 0) for _ in range(9)])) == 9

    play(redis, scenario, {"limits": {"rpm": 3, "concurrency": 100}}, 1)


def test_alone_each_worker_has_a_share_of_what_was_left(redis):
    async def scenario(one, other):
        held = await one.ask(0, 400)
        held.settle(0, 400)
        await within(2, lambda: asyncio.sleep(0, one.limiter._gates["key:k"].idle()))
        await other.ask(0, 100)
        for worker in (one, other):
            worker.task.cancel()
            worker.limiter.link.up = False
            worker.limiter._valid_until = 0.0
        assert len(granted([await one.ask(0, 100) for _ in range(9)])) == 3, "half of what was left of ten"
        answers = [await other.ask(0, 100) for _ in range(9)]
        assert len(granted(answers)) in (2, 3)
        assert answers[-1] == "policy_budget"

    play(redis, scenario, {"budget": [BUDGET], "limits": {"rpm": 100}})


def test_tls_and_an_account_that_may_do_nothing_else(tmp_path, monkeypatch):
    """The access list is that of docs/operations.md."""
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (rights,) = re.findall(r"^ACL SETUSER tunegate on >PASSWORD (.*)$", OPERATIONS.read_text(), re.MULTILINE)
    files = ("--tls-cert-file", f"{tmp_path}/cert.pem", "--tls-key-file", f"{tmp_path}/key.pem")
    monkeypatch.setenv("REDIS_PASSWORD", "let-me-in")
    settings = {
        "url": f"rediss://localhost:{port}/0", "ca_file": tmp_path / "ca.pem", "username": "tunegate",
        "password": "env:REDIS_PASSWORD",
    }  # fmt: skip

    async def scenario(worker):
        assert len(granted([await worker.ask(10, 100) for _ in range(3)])) == 2

    with RedisServer(more=("--tls-port", str(port), "--tls-auth-clients", "no", *files)) as server:
        limits = {"limits": {"rpm": 100, "tpm": 1000, "concurrency": 2}, "budget": [BUDGET]}
        with pytest.raises(ConfigError, match="refuses this gateway"):
            play(server, scenario, limits, 1, **settings)
        assert server.command("ACL", "SETUSER", "tunegate", "on", ">let-me-in", *rights.split()) == "+OK"
        play(server, scenario, limits, 1, **settings)
        asyncio.run(answers(LimitsTable(backend="redis", wait=1.0, **settings)))


async def answers(table: LimitsTable) -> None:
    """The same account holds answers of response caches."""
    shared, entry = SharedAnswers(table), Entry(b"{}", False, False, Usage(), "provider", 5, 1.0)
    shared.put(bytes(32), entry, 60.0)
    while ("stored",) not in shared.outcomes:
        assert ("failed",) not in shared.outcomes
        await asyncio.sleep(0.005)
    assert await shared.get(bytes(32)) == entry
    assert await shared.get(b"x" * 32) is None
    await shared.close()


def test_what_is_missing_is_named_before_anything_starts(monkeypatch, tmp_path):
    limits = {"backend": "redis", "url": "redis://127.0.0.1", "password": "env:NOT_THERE"}
    check = ["config", "check", str(Gateway({"limits": limits}, tmp_path).file)]
    with pytest.raises(SystemExit, match=r"limits\.password: the environment variable NOT_THERE is not set"):
        commands.main(check)
    monkeypatch.setenv("NOT_THERE", "but-now")
    assert commands.main(check) == 0
    monkeypatch.setattr(commands, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=re.escape("pip install 'tunegate[redis]'")):
        commands.main(check)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "url is missing"),
        ({"url": "http://redis"}, "not a redis://"),
        ({"url": "redis://user:secret@redis"}, "see username and password"),
        ({"url": "redis://redis/x"}, "a database's number"),
        ({"url": "redis://redis", "password": "in-clear"}, "env:NAME or file:PATH"),
        ({"url": "redis://redis", "prefix": "a{b}"}, "prefix"),
        ({"url": "redis://redis", "wait": 0}, "wait"),
        ({"backend": "memory", "share_breakers": True}, "share_breakers needs"),
    ],
)
def test_a_mistake_in_the_settings_is_named(settings, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        LimitsTable(**{"backend": "redis"} | settings)
