"""What one worker holds of limits that are counted in Redis: a lease of each rate, of places and of money.

Beside it every gate counts as it would in memory, for a 1/n share: that is what decides while Redis does not answer.
No I/O here; what is asked and answered is told in `leases.lua`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from gateway.errors import GatewayError
from gateway.limits.gate import Gate, Purse
from gateway.limits.memory import REQUEST_LINES, TOKEN_LINES, Held
from gateway.runtime import BudgetWindow, Scope

FRESH = 0.02
"""Seconds in which what Redis has said is left may refuse a request without asking again."""
LONGEST = 40 * 86_400.0
"""Seconds that a budget's sum is kept after the last request of it; the ledger knows it still."""


class Need:
    """What the requests that wait need of one gate."""

    __slots__ = ("cost", "first", "requests", "tokens", "whole")

    def __init__(self) -> None:
        self.requests = self.tokens = self.cost = 0
        self.first = 0
        """Cost of the first one."""
        self.whole = 0
        """Tokens of one that is larger than the whole limit, and yet may pass if nothing of that is used."""


class LeasedPurse(Purse):
    """One budget window: `amount` is this worker's share of what was left when Redis fell silent."""

    __slots__ = ("_shared", "ahead", "ceiling", "elsewhere", "gone", "ledger", "left", "own", "told", "whole")

    def __init__(self, budget: BudgetWindow, ledger: int) -> None:
        super().__init__(budget, 0)
        self.whole = budget.amount
        self.ahead = 0
        """What is leased in advance."""
        self._shared = 0
        """The outage for which `amount` was made."""
        self._begin(ledger)

    def resize(self, whole: int, part: float) -> None:
        """Take over the amount, of which a part is leased in advance."""
        self.whole, self.ahead, self._shared = whole, int(whole * part), 0

    def _begin(self, ledger: int) -> None:
        self.ledger = ledger
        """The greatest figure of the ledger for this window, the whole budget's."""
        self.ceiling = 0
        """What `spent` may become: money that is leased."""
        self.told = self.own = self.gone = self.elsewhere = 0
        """As Redis had it last: this worker's spend, all workers' spend, the greater of that and the ledger's, and
        what other workers hold."""
        self.left = self._shared = 0

    def _turn(self, now: float) -> None:
        if now >= self.ends:
            super()._turn(now)
            self._begin(0)

    def learn(self, spent: int, now: float) -> None:
        """Take over what the ledger says of the running window, if that is more; the next call to Redis tells it."""
        self._turn(now)
        self.ledger = max(self.ledger, spent)

    def covers(self, cost: int, now: float) -> bool:
        """Whether the lease has this much, and the ledger does not say that the budget is spent."""
        if now >= self.ends:
            self._turn(now)
        return self.spent + self.reserved + (cost or 1) <= self.ceiling and self.ledger < self.whole

    def may_have(self, cost: int) -> bool:
        """Whether Redis, by what it said last, would lease this much; to a request alone, whatever is left."""
        if not self.reserved and not self.elsewhere:
            return max(self.gone, self.ledger) < self.whole
        return self.spent + self.reserved + (cost or 1) <= self.ceiling + self.left

    def alone(self, outage: int, share: float, now: float) -> None:
        """Go on with this worker's share of what was left, until the ledger says that nothing is."""
        self._turn(now)
        if self._shared != outage:
            self._shared = outage
            left = self.whole - max(self.gone, self.ledger)
            self.amount = self.told + math.floor(max(0, left) * share)
        if self.ledger >= self.whole:
            self.amount = min(self.amount, self.spent)

    def ask(self, need: Need, ahead: int, now: float) -> list[int]:
        """See `leases.lua`. What is given back cannot be used from here on."""
        self._turn(now)
        wanted = self.reserved + need.cost
        want = wanted + ahead
        self.ceiling = min(self.ceiling, self.spent + want)
        first = need.first if not self.reserved else 0
        seconds = math.ceil(min(self.ends - now + 86_400.0, LONGEST))
        return [self.whole, self.spent, self.told, self.own, self.ledger, self.reserved, wanted, want, first, seconds]

    def answered(self, start: float, spent: int, answer: Iterator[bytes]) -> None:
        """Take over an answer to an ask of the window that began at `start`, when this much was spent here."""
        held, left, gone, own, elsewhere = (int(float(next(answer))) for _ in range(5))
        if start == self.start:
            self.told, self.ceiling = spent, spent + held
            self.left, self.gone, self.own, self.elsewhere = left, gone, own, elsewhere


class LeasedGate(Gate):
    """One scope. What `Gate` counts is this worker's share, with which it goes on alone."""

    __slots__ = (
        "_asked", "_outage", "_single", "ahead", "leased", "leased_tokens", "left", "left_tokens", "money", "part",
        "places", "places_ahead", "places_left", "synced", "tokens_ahead", "used",
    )  # fmt: skip

    def __init__(self, scope: Scope, share: float, restored: dict[tuple[str, str, str], int], part: float) -> None:
        self.part = part
        """Of a limit, that a worker holds in advance."""
        self.leased = self.leased_tokens = math.inf
        self.places: float = math.inf
        """Requests at a time."""
        self.left = self.left_tokens = self.places_left = 0.0
        """What Redis had left, at `synced` in monotonic seconds."""
        self.synced = -math.inf
        self._outage = 0
        """Number of the last outage in which this worker decided alone."""
        self._single = False
        """It does so now."""
        self.used = False
        """A request has come since the last look."""
        self._asked: list[tuple[LeasedPurse, float, int]] = []
        """(purse, start, spent) of each budget in the ask that is under way."""
        self.money: list[LeasedPurse] = []
        """The purses, by the type that they have here."""
        super().__init__(scope, share, restored)

    def configure(self, scope: Scope, restored: dict[tuple[str, str, str], int]) -> int:
        """See `Gate.configure`. A limit that is new must be asked for; one that moves is told with the next ask."""
        begun = super().configure(scope, restored)
        self.leased = _kept(self.leased, scope.rpm)
        self.leased_tokens = _kept(self.leased_tokens, scope.tpm)
        self.places = _kept(self.places, scope.concurrency)
        part = self.part
        self.ahead, self.tokens_ahead = int((scope.rpm or 0) * part), int((scope.tpm or 0) * part)
        self.places_ahead = int((scope.concurrency or 0) * part)
        self.money = [purse for purse in self.purses if isinstance(purse, LeasedPurse)]
        for purse, budget in zip(self.money, scope.budgets, strict=True):
            purse.resize(budget.amount, part)
        self.synced = -math.inf
        return begun

    def _new_purse(self, budget: BudgetWindow, spent: int) -> Purse:
        return LeasedPurse(budget, spent)

    def covers(self, tokens: int, cost: int, wall: float) -> bool:
        """Whether one more request of this size may start without asking."""
        if self.leased < 1.0 or self.leased_tokens < tokens or self.running >= self.places:
            return False
        return not self.money or all(purse.covers(cost, wall) for purse in self.money)

    def low(self) -> bool:
        """Whether more should be asked for before a request has to wait."""
        if self.leased < self.ahead / 2 or self.leased_tokens < self.tokens_ahead / 2:
            return True
        if self.places - self.running < self.places_ahead / 2:
            return True
        return bool(self.money) and any(p.ceiling - p.spent - p.reserved < p.ahead / 2 for p in self.money)

    def high(self) -> bool:
        """Whether places or money are held that others may want."""
        if self.places - self.running > 2 * self.places_ahead and self.places < math.inf:
            return True
        return bool(self.money) and any(p.ceiling - p.spent - p.reserved > 2 * p.ahead for p in self.money)

    def untold(self) -> bool:
        """Whether money was spent of which Redis does not know."""
        return any(purse.told != purse.spent for purse in self.money)

    def spare(self) -> bool:
        """Whether anything is held, or owed, beyond what requests under way need."""
        scope = self.scope
        return bool(
            (scope.rpm is not None and self.leased)
            or (scope.tpm is not None and self.leased_tokens)
            or (scope.concurrency is not None and self.places != self.running)
            or any(purse.ceiling != purse.spent + purse.reserved for purse in self.money)
        )

    def idle(self) -> bool:
        """Whether nothing runs, nothing is held, and Redis knows all that was spent."""
        return not (self.running or self.spare() or self.untold())

    def void(self) -> None:
        """Nothing that was leased counts any more: Redis has forgotten this worker, or counts it as dead."""
        self.leased, self.leased_tokens = _kept(0.0, self.scope.rpm), _kept(0.0, self.scope.tpm)
        self.places = _kept(0.0, self.scope.concurrency)
        for purse in self.money:
            purse.ceiling = 0

    def unanswered(self) -> None:
        """A call was lost: what it took or gave back is not known, so the lease counts as spent."""
        self.leased = min(self.leased, 0.0) if self.scope.rpm is not None else math.inf
        self.leased_tokens = min(self.leased_tokens, 0.0) if self.scope.tpm is not None else math.inf

    def ask(self, need: Need, wall: float) -> dict[str, Any]:
        """See `leases.lua`. What is given back cannot be used from here on."""
        scope, ask, busy = self.scope, dict[str, Any](), self.used or need.requests > 0
        if scope.rpm is not None:
            have, want = self.leased, need.requests + (self.ahead if busy else 0)
            self.leased = min(have, want)
            ask["q"] = [scope.rpm, have, need.requests, want]
        if scope.tpm is not None:
            have, want = self.leased_tokens, need.tokens + (self.tokens_ahead if busy else 0)
            self.leased_tokens = min(have, want)
            ask["t"] = [scope.tpm, have, need.tokens, want, need.whole]
        if scope.concurrency is not None:
            needed = self.running + need.requests
            want = needed + (self.places_ahead if busy else 0)
            self.places = min(self.places, want)
            ask["c"] = [scope.concurrency, self.running, needed, want]
        if self.money:
            ask["b"] = [purse.ask(need, purse.ahead if busy else 0, wall) for purse in self.money]
        self._asked = [(purse, purse.start, purse.spent) for purse in self.money]
        return ask

    def answered(self, ask: dict[str, Any], answer: list[bytes], now: float) -> None:
        """Take over the answer to an ask, at `now` in monotonic seconds. What was used meanwhile stays used."""
        each = iter(answer)
        self.synced, self._single = now, False
        if "q" in ask:
            self.leased += float(next(each)) - min(ask["q"][1], ask["q"][3])
            self.left = float(next(each))
        if "t" in ask:
            self.leased_tokens += float(next(each)) - min(ask["t"][1], ask["t"][3])
            self.left_tokens = float(next(each))
        if "c" in ask:
            places, self.places_left = float(next(each)), float(next(each))
            self.places = places if self.scope.concurrency is not None else math.inf
        for purse, start, spent in self._asked:
            purse.answered(start, spent, each)

    def denial(self, tokens: int, least: int, cost: int, now: float, wall: float) -> GatewayError | None:
        """The refusal of a request for which, by what Redis has just said, there is not enough; else None."""
        scope, (requests, level) = self.scope, self._levels(now)
        if scope.rpm is not None and requests < 1.0:
            return self._refusal("policy_rate", scope.rpm, "requests per minute", 0, (1.0 - requests) / scope.rpm)
        if scope.tpm is not None and level < tokens and (level < scope.tpm or least > scope.tpm):
            wait, left = (min(tokens, scope.tpm) - level) / scope.tpm, max(0, int(level))
            return self._refusal("policy_tokens", scope.tpm, "tokens per minute", left, wait, tokens)
        if self.running >= self.places + self.places_left:
            return self._refusal("policy_concurrency", scope.concurrency, "concurrent requests", 0, 1 / 60.0)
        for purse in self.money:
            if not purse.covers(cost, wall) and not purse.may_have(cost):
                left = purse.whole - max(purse.gone, purse.ledger)
                return self._spent(purse, left, purse.reserved + purse.elsewhere, wall)
        return None

    def _levels(self, now: float) -> tuple[float, float]:
        """Requests and tokens that are left in Redis and in this worker's lease."""
        minutes, rpm, tpm = (now - self.synced) / 60.0, self.scope.rpm, self.scope.tpm
        requests = math.inf if rpm is None else min(rpm, self.left + minutes * rpm + self.leased)
        tokens = math.inf if tpm is None else min(tpm, self.left_tokens + minutes * tpm + self.leased_tokens)
        return requests, tokens

    def alone(self, outage: int, share: float, wall: float) -> None:
        """Redis is silent: from now on this worker has its share of the limits, and of what budgets have left."""
        self._single = self.used = True
        if self._outage != outage:
            self._outage, self._share = outage, share
            self.configure(self.scope, {})
            self.requests, self.tokens = max(0.0, self.requests), max(0.0, self.tokens)
        for purse in self.money:
            purse.alone(outage, share, wall)

    def counters(self, now: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """See `Gate.counters`."""
        if self._single:
            return super().counters(now)
        rpm, tpm, (requests, tokens) = self.scope.rpm, self.scope.tpm, self._levels(now)
        return (math.inf if rpm is None else rpm, requests), (math.inf if tpm is None else tpm, tokens)


class LeasedHeld(Held):
    """A reservation that was made from leases. `soon` is told of a gate that holds too much when it is settled."""

    __slots__ = ("_leased", "_soon")

    def __init__(
        self, gates: tuple[LeasedGate, ...], tokens: int, cost: int, soon: Callable[[LeasedGate], None]
    ) -> None:
        super().__init__(gates, tokens, cost)
        self._leased = gates
        self._soon = soon
        for gate in gates:
            gate.leased -= 1.0
            gate.leased_tokens -= tokens
            gate.used = True
            if gate.low():
                soon(gate)

    def header_lines(self) -> bytes:
        """See `gateway.limits.base.Reservation.header_lines`: what is left of the whole limits, as far as is known."""
        now = time.monotonic()
        rpm = tpm = requests = tokens = math.inf
        for gate in self._leased:  # as `LeasedGate.counters` has them, without its calls
            minutes, scope = (now - gate.synced) / 60.0, gate.scope
            if (limit := scope.rpm) is not None:
                level = gate.left + minutes * limit + gate.leased
                level = level if level < limit else limit
                if level < requests:
                    rpm, requests = limit, level
            if (limit := scope.tpm) is not None:
                level = gate.left_tokens + minutes * limit + gate.leased_tokens
                level = level if level < limit else limit
                if level < tokens:
                    tpm, tokens = limit, level
        lines = b""
        if requests < math.inf:
            lines = REQUEST_LINES % (rpm, requests if requests > 0.0 else 0.0, (rpm - requests) * 60.0 / rpm)
        if tokens < math.inf:
            lines += TOKEN_LINES % (tpm, tokens if tokens > 0.0 else 0.0, (tpm - tokens) * 60.0 / tpm)
        return lines

    def settle(self, tokens: int, cost: int) -> None:
        """See `gateway.limits.base.Reservation.settle`."""
        unused = self._tokens - tokens
        super().settle(tokens, cost)
        for gate in self._leased:
            gate.leased_tokens += unused
            if gate.high():
                self._soon(gate)


def _kept(held: float, limit: float | None) -> float:
    """What is held of a limit that may be new, or gone."""
    if limit is None:
        return math.inf
    return 0.0 if math.isinf(held) else held
