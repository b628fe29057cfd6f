"""Limits counted in this process: exact here, and nowhere else.

With several workers each gets an even share of every limit, so together they never exceed one; an uneven spread may
refuse a little early. Budgets are restored from the ledger at start.
With control, they also follow its ledger (`gateway.limits.spend`), which knows what other gateways have spent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from fractions import Fraction

from gateway.limits.gate import Gate, Purse
from gateway.runtime import KeyRecord, Route, Runtime, Scope


class Held:
    """A reservation: see `gateway.limits.base.Reservation`."""

    __slots__ = ("_cost", "_gates", "_purses", "_settled", "_tokens")

    def __init__(self, gates: tuple[Gate, ...], tokens: int, cost: int) -> None:
        """Count a request in: nothing here can fail."""
        self._gates = gates
        self._purses: list[Purse] = []
        """The ones to settle with: a new configuration may bring others."""
        purses = self._purses
        self._tokens = tokens
        self._cost = cost
        self._settled = False
        for gate in gates:
            gate.running += 1
            gate.requests -= 1.0
            gate.tokens -= tokens
            purses += gate.purses
        for purse in purses:
            purse.reserved += cost

    def header_lines(self) -> bytes:
        """See `gateway.limits.base.Reservation.header_lines`."""
        rpm = tpm = requests = tokens = math.inf
        for gate in self._gates:
            if gate.requests < requests:  # where there is no limit, infinitely many are left
                requests, rpm = gate.requests, gate.rpm
            if gate.tokens < tokens:
                tokens, tpm = gate.tokens, gate.tpm
        lines = b""
        if requests < math.inf:
            left = requests if requests > 0.0 else 0.0
            lines = REQUEST_LINES % (rpm, left, (rpm - requests) * 60.0 / rpm)
        if tokens < math.inf:
            left = tokens if tokens > 0.0 else 0.0
            lines += TOKEN_LINES % (tpm, left, (tpm - tokens) * 60.0 / tpm)
        return lines

    def settle(self, tokens: int, cost: int) -> None:
        """See `gateway.limits.base.Reservation.settle`. A second call is a bug in the pipeline."""
        if self._settled:
            raise RuntimeError("a reservation was settled twice")
        self._settled = True
        unused, reserved = self._tokens - tokens, self._cost
        for gate in self._gates:
            gate.running -= 1
            gate.tokens += unused
        for purse in self._purses:
            purse.reserved -= reserved
            purse.spent += cost


REQUEST_LINES, TOKEN_LINES = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%.3fs\r\n"
    % (what, what, what)
    for what in (b"requests", b"tokens")
)


class MemoryLimiter:
    """See `gateway.limits.base.Limiter`. `share` is 1 / number of workers."""

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._gates: dict[str, Gate] = {}
        self._of_key: dict[KeyRecord, tuple[Gate, ...]] = {}
        self._of_route: dict[str, tuple[Gate, ...]] = {}
        self.restored: dict[tuple[str, str, str], int] = {}
        """(scope kind, name, `BudgetWindow.key`) -> nano-units spent in the current window, from the ledger."""
        self.budgets_begun = 0
        """How many purses were made so far."""

    def prepare(self, keys: Iterable[KeyRecord]) -> None:
        """Make the gates of some keys of a configuration that is about to be applied: a part of the work of `apply`."""
        for key in keys:
            if key not in self._of_key:
                self._of_key[key] = self._bind(key.scopes)

    def apply(self, runtime: Runtime) -> None:
        """See `gateway.limits.base.Limiter.apply`. A key record that was there before costs a look-up only."""
        routes = {*runtime.routes.values(), *runtime.wildcards}
        self.prepare(runtime.keys.values())
        self._of_key = {key: self._of_key[key] for key in runtime.keys.values()}
        self._of_route = {route.name: self._bind(route.scopes) for route in routes}
        used = {gate for gates in (*self._of_key.values(), *self._of_route.values()) for gate in gates}
        self._gates = {name: gate for name, gate in self._gates.items() if gate in used or gate.running}

    def reserve(self, key: KeyRecord, route: Route, tokens: int, least: int, cost: int) -> Held:
        """See `gateway.limits.base.Limiter.reserve`. All checks come before the first change."""
        gates = self._of_key[key] + self._of_route[route.name]
        now, wall = time.monotonic(), time.time()
        for gate in gates:
            gate.check(tokens, least, cost, now, wall)
        return Held(gates, tokens, cost)

    def purse(self, kind: str, name: str, budget: str) -> Purse | None:
        """The purse of a scope's budget (`BudgetWindow.key`), if there is one now."""
        gate = self._gates.get(f"{kind}:{name}")
        return next((purse for purse in gate.purses if purse.budget.key == budget), None) if gate else None

    def part(self, whole: int) -> int:
        """This worker's share of an amount, rounded up."""
        return math.ceil(Fraction(self._share) * whole)

    def _new_gate(self, scope: Scope) -> Gate:
        return Gate(scope, self._share, self.restored)

    def _bind(self, scopes: tuple[Scope, ...]) -> tuple[Gate, ...]:
        gates = []
        for scope in scopes:
            gate = self._gates.get(scope.id)
            if gate is None:
                gate = self._gates[scope.id] = self._new_gate(scope)
                self.budgets_begun += len(gate.purses)
            elif gate.scope != scope:
                self.budgets_begun += gate.configure(scope, self.restored)
            gates.append(gate)
        return tuple(gates)
