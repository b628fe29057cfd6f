"""Limits counted in Redis, for all workers of all gateways together: see ADR 19 for what is exact.

A request is admitted from what this worker has leased, without a call. What is short is asked for by one task, for all
requests that wait, in one call; they wait for `[limits] wait` seconds at most. After that, and while Redis is known to
be silent, `[limits] on_failure` says what happens: each worker goes on with its share, or refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from gateway.errors import GatewayError
from gateway.limits.base import Reservation, Short
from gateway.limits.breakers import SharedBreakers
from gateway.limits.leases import FRESH, LeasedGate, LeasedHeld, Need
from gateway.limits.link import Link, Lost
from gateway.limits.memory import Held, MemoryLimiter
from gateway.routing.health import HealthBook
from gateway.runtime import KeyRecord, Route, Scope
from gateway.settings import LimitsTable

SOON = 0.02
"""Seconds between calls that no request waits for."""
AT_ONCE = 200
"""Scopes in one call: Redis does nothing else meanwhile."""
RENEWED = 30.0
"""Seconds after which Redis is told of what is held, whatever happens."""
LAST = 0.5
"""Seconds for giving everything back at the end."""


class Waiter:
    """A request that waits for more quota."""

    __slots__ = ("cost", "future", "gates", "late", "least", "timer", "tokens")

    def __init__(
        self, gates: tuple[LeasedGate, ...], tokens: int, least: int, cost: int, future: asyncio.Future[Reservation]
    ) -> None:
        self.gates = gates
        self.tokens = tokens
        self.least = least
        self.cost = cost
        self.future = future
        self.timer: asyncio.TimerHandle | None = None
        self.late = False
        """Its time was over once, when this process itself had been away: the answer may lie there unread."""


class RedisLimiter(MemoryLimiter):
    """See `gateway.limits.base.Limiter`. `workers` are those of this gateway, for a start without Redis."""

    def __init__(self, table: LimitsTable, workers: int, observe: Callable[[float], None]) -> None:
        super().__init__(1.0 / workers)
        self._gates: dict[str, LeasedGate] = {}  # type: ignore[assignment]
        self._table = table
        self._workers = workers
        self._living = 1
        identity = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"
        self.link = Link(table, identity, observe)
        self._heartbeat = min(1.0, table.lease_seconds / 3.0)
        self._valid_until = 0.0
        """Monotonic time; later, Redis counts this worker as dead."""
        self._waiting: list[Waiter] = []
        self._dirty: dict[LeasedGate, None] = {}
        """What the next call is about, in the order of arrival."""
        self.active: dict[str, LeasedGate] = {}
        """Scopes of which something is held, or not yet told, by their id."""
        self._wake, self._urgent = asyncio.Event(), asyncio.Event()
        """There is something to ask or to tell; and a request waits for it."""
        self.outcomes: Counter[tuple[str]] = Counter()
        """Requests that a lease did not cover, by what became of them: granted, refused, alone, closed."""

    # ---- for requests

    def reserve(self, key: KeyRecord, route: Route, tokens: int, least: int, cost: int) -> Held:
        """See `gateway.limits.base.Limiter.reserve`."""
        gates: tuple[LeasedGate, ...] = self._of_key[key] + self._of_route[route.name]  # type: ignore[assignment]
        if not gates:
            return Held((), 0, 0)
        now, wall = time.monotonic(), time.time()
        valid = now < self._valid_until
        short = [gate for gate in gates if not gate.covers(tokens, cost, wall)] if valid else gates
        if not short:
            return LeasedHeld(gates, tokens, cost, self._soon)
        if not self.link.up:
            return self._alone(gates, tokens, least, cost)
        for gate in short:
            if now - gate.synced < FRESH and (refusal := gate.denial(tokens, least, cost, now, wall)) is not None:
                self.outcomes[("refused",)] += 1
                raise refusal
        raise Short(self._granted(gates, tokens, least, cost))

    async def _granted(self, gates: tuple[LeasedGate, ...], tokens: int, least: int, cost: int) -> Reservation:
        loop = asyncio.get_running_loop()
        waiter = Waiter(gates, tokens, least, cost, loop.create_future())
        waiter.timer = loop.call_later(self._table.wait, self._late, waiter, loop.time() + self._table.wait)
        self._queue(waiter)
        try:
            return await waiter.future
        except BaseException:  # the request was cancelled: nobody will settle what it may have got
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                waiter.future.result().settle(0, 0)
            waiter.future.cancel()
            raise
        finally:
            waiter.timer.cancel()

    def _late(self, waiter: Waiter, due: float) -> None:
        """Its time is over: Redis is too slow, unless it is this process that was away."""
        loop = asyncio.get_running_loop()
        if not waiter.late and loop.time() - due > self._table.wait / 5:
            waiter.late = True
            waiter.timer = loop.call_later(self._table.wait / 5, self._late, waiter, due)
            return
        self.link.late(due - self._table.wait, loop.time())
        self._without(waiter)

    def _alone(self, gates: tuple[LeasedGate, ...], tokens: int, least: int, cost: int) -> Held:
        """Decide without Redis."""
        if self._table.on_failure == "closed":
            self.outcomes[("closed",)] += 1
            raise GatewayError(
                "tunegate_limits",
                "Limits cannot be counted at the moment: Redis does not answer. Send the request again.",
                headers=((b"retry-after", b"1"),),
            )
        now, wall, share = time.monotonic(), time.time(), 1.0 / max(self._workers, self._living)
        for gate in gates:
            gate.alone(self.link.outages, share, wall)
            gate.check(tokens, least, cost, now, wall)
        self.outcomes[("alone",)] += 1
        self.active.update((gate.scope.id, gate) for gate in gates)
        return Held(gates, tokens, cost)

    def _without(self, waiter: Waiter) -> None:
        """The same for one that has waited for Redis."""
        if waiter.future.done():
            return
        try:
            waiter.future.set_result(self._alone(waiter.gates, waiter.tokens, waiter.least, waiter.cost))
        except GatewayError as refusal:
            waiter.future.set_exception(refusal)

    def _queue(self, waiter: Waiter) -> None:
        self._waiting.append(waiter)
        self._wake.set()
        self._urgent.set()

    def _soon(self, gate: LeasedGate) -> None:
        if gate not in self._dirty:
            self._dirty[gate] = None
            self._wake.set()

    # ---- for the configuration and the ledger

    def part(self, whole: int) -> int:
        """Budgets are whole here: Redis knows what all workers have spent."""
        return whole

    def _new_gate(self, scope: Scope) -> LeasedGate:
        gate = self.active.get(scope.id)
        if gate is None:
            return LeasedGate(scope, self._share, self.restored, self._table.lease)
        gate.configure(scope, self.restored)  # it was gone from the configuration, and still holds something
        return gate

    # ---- the task that asks

    async def start(self) -> None:
        """See `Link.start`."""
        await self.link.start()
        self._valid_until = time.monotonic() + self._table.lease_seconds if self.link.up else 0.0

    def standing(self, health: HealthBook) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the gateway does."""
        shared = [SharedBreakers(self.link, health).run()] if self._table.share_breakers else []
        return [self.run(), *shared]

    async def run(self) -> None:
        """Ask for what is short, at once; give back what is not needed, soon; be alive, always."""
        beat = time.monotonic() + self._heartbeat
        while True:
            left = beat - time.monotonic() if self.link.up else self.link.pause
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, left)):
                    await self._wake.wait()
            if pause := self.link.pause:
                await asyncio.sleep(pause)
            elif self._wake.is_set():
                await self._linger()
            self._wake.clear()
            self._urgent.clear()
            if time.monotonic() >= beat:
                beat = time.monotonic() + self._heartbeat
                self._look_through()
            await self._sync()

    async def _linger(self) -> None:
        """Let changes gather, unless a request comes to wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                await self._urgent.wait()

    def _look_through(self) -> None:
        """Find what to give back, to tell or to renew, and forget what is idle."""
        now = time.monotonic()
        for name, gate in tuple(self.active.items()):
            if gate.idle():
                del self.active[name]
            elif (gate.spare() and not gate.used) or gate.high() or gate.untold() or now - gate.synced > RENEWED:
                self._dirty[gate] = None
            gate.used = False

    async def _sync(self, leave: bool = False) -> None:
        """One call, or several if there is much to tell; at least one, which says that this worker lives."""
        while True:
            waiters, needs = self._needs()
            gates = [*needs, *(gate for gate in self._dirty if gate not in needs)]
            gates, rest = gates[: max(AT_ONCE, len(needs))], gates[max(AT_ONCE, len(needs)) :]
            self._dirty = dict.fromkeys(rest)
            try:
                await self._call(gates, needs, leave and not rest)
            except Lost:
                self._fail(waiters, gates)
                return
            self._resolve(waiters)
            if not rest:
                return

    def _needs(self) -> tuple[list[Waiter], dict[LeasedGate, Need]]:
        waiters, self._waiting = [one for one in self._waiting if not one.future.done()], []
        needs: dict[LeasedGate, Need] = {}
        for waiter in waiters:
            tokens, cost = waiter.tokens, waiter.cost or 1
            for gate in waiter.gates:
                need = needs.setdefault(gate, Need())
                need.requests += 1
                need.tokens += tokens
                need.cost += cost
                need.first = need.first or cost
                if gate.scope.tpm is not None and waiter.least <= gate.scope.tpm < tokens:
                    need.whole = need.whole or tokens
        return waiters, needs

    async def _call(self, gates: list[LeasedGate], needs: dict[LeasedGate, Need], leave: bool) -> None:
        began, wall, nothing = time.monotonic(), time.time(), Need()
        if began >= self._valid_until:
            self._void(set())
        keys, asks = list[str](), []
        for gate in gates:
            ask = gate.ask(needs.get(gate, nothing), wall)
            asks.append((gate, ask))
            keys += self._keys(gate, ask)
        try:
            self._living, unknown, answers = await self.link.call(keys, [ask for _, ask in asks], leave=leave)
        except Lost:
            for gate, _ in asks:
                gate.unanswered()
            raise
        now = time.monotonic()
        if unknown and self._valid_until:  # it was flushed, or we were silent for too long
            self._void(set(gates))
        self._valid_until = began + self._table.lease_seconds
        for (gate, ask), answer in zip(asks, answers, strict=True):
            gate.answered(ask, answer, now)
            self.active[gate.scope.id] = gate

    def _keys(self, gate: LeasedGate, ask: dict[str, Any]) -> list[str]:
        scope = f"{self.link.root}{gate.scope.id}"
        keys = [scope] if ask.keys() - {"b"} else []
        return keys + [f"{scope}:{purse.budget.key}:{purse.start:.0f}" for purse in gate.money]

    def _void(self, told: set[LeasedGate]) -> None:
        """Redis has forgotten what we hold, or given it to others: tell it again, and hold nothing until then."""
        spent = {name: gate for name, gate in self._gates.items() if any(purse.own for purse in gate.money)}
        for gate in {**spent, **self.active}.values():
            if gate not in told:
                gate.void()
                self._dirty[gate] = None
        self._wake.set()

    def _resolve(self, waiters: list[Waiter]) -> None:
        """Admit or refuse those that have waited, in their order. Nobody comes between."""
        now, wall = time.monotonic(), time.time()
        for waiter in waiters:
            if waiter.future.done():
                continue
            short = [gate for gate in waiter.gates if not gate.covers(waiter.tokens, waiter.cost, wall)]
            if not short:
                self.outcomes[("granted",)] += 1
                waiter.future.set_result(LeasedHeld(waiter.gates, waiter.tokens, waiter.cost, self._soon))
                continue
            refusals = (gate.denial(waiter.tokens, waiter.least, waiter.cost, now, wall) for gate in short)
            if (refusal := next(filter(None, refusals), None)) is not None:
                self.outcomes[("refused",)] += 1
                waiter.future.set_exception(refusal)
                self._dirty.update((gate, None) for gate in waiter.gates if gate.high())
                self._wake.set()
            else:  # others were quicker with what was meant for it, and there is more
                self._queue(waiter)

    def _fail(self, waiters: list[Waiter], gates: Iterable[LeasedGate]) -> None:
        self._dirty.update(dict.fromkeys(gates))
        for waiter in waiters:
            self._without(waiter)

    async def close(self) -> None:
        """Give everything back; what Redis does not hear of, it finds out when this worker is silent."""
        for gate in self.active.values():
            gate.used = False
            self._dirty[gate] = None
        if self.link.up:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST):
                    await self._sync(leave=True)
        with contextlib.suppress(TimeoutError):  # TLS says good-bye, and waits for an answer
            async with asyncio.timeout(LAST):
                await self.link.close()
