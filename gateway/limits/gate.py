"""One scope's counters: a rate is a bucket that holds a minute's worth and refills steadily, a budget is a purse."""

from __future__ import annotations

import math
import time

from gateway.errors import GatewayError, Header
from gateway.runtime import BudgetWindow, Scope

NANO = 1_000_000_000


class Purse:
    """Money in the current window of one budget, in nano-units."""

    __slots__ = ("amount", "budget", "ends", "reserved", "spent", "start")

    def __init__(self, budget: BudgetWindow, spent: int) -> None:
        self.budget = budget
        self.amount = budget.amount
        self.start, self.ends = budget.bounds(time.time())
        """Of the window, in Unix time."""
        self.spent = spent
        self.reserved = 0
        """By requests that are under way."""

    def learn(self, spent: int, now: float) -> None:
        """Take over what the ledger says of the running window, if that is more than what was counted here.

        Both are at most the truth, so the greater one is nearer to it. A worker that holds a share of the budget is
        told the same share of the ledger's figure, rounded up: a spent budget is spent for each of them.
        """
        self._turn(now)
        self.spent = max(self.spent, spent)

    def _turn(self, now: float) -> None:
        """Begin a new window, if the last one has ended."""
        if now >= self.ends:
            self.start, self.ends = self.budget.bounds(now)
            self.spent = 0

    def has_room(self, cost: int, now: float) -> bool:
        """Whether a request of about this cost may start.

        A request alone may pass on what is left, however little: its cost is an estimate. A crowd may not.
        """
        self._turn(now)
        if self.reserved:
            return self.spent + self.reserved + cost <= self.amount
        return self.spent < self.amount


class Gate:
    """The limits of one scope and what has been used of them. `share` is this worker's part of every limit."""

    __slots__ = (
        "_share", "_updated", "concurrency", "purses", "requests", "rpm", "running", "scope", "tokens", "tpm",
    )  # fmt: skip

    def __init__(self, scope: Scope, share: float, restored: dict[tuple[str, str, str], int]) -> None:
        self._share = share
        self._updated = time.monotonic()
        self.running = 0
        self.purses: list[Purse] = []
        self.rpm = self.tpm = 0.0
        self.configure(scope, restored)
        self.requests, self.tokens = self.rpm, self.tpm

    def configure(self, scope: Scope, restored: dict[tuple[str, str, str], int]) -> int:
        """Take over new limits; the result is how many budgets begin with them.

        Used quota stays used: a limit that moves does not refill by itself.
        `restored` has what the ledger knows of budgets that are seen for the first time, whole amounts.
        """
        share, old = self._share, {purse.budget.key: purse for purse in self.purses}
        rpm = max(1.0, scope.rpm * share) if scope.rpm is not None else math.inf
        tpm = scope.tpm * share if scope.tpm is not None else math.inf
        if self.rpm and self.rpm != rpm:
            self.requests = self._moved(self.requests, self.rpm, rpm)
        if self.tpm and self.tpm != tpm:
            self.tokens = self._moved(self.tokens, self.tpm, tpm)
        self.scope, self.rpm, self.tpm = scope, rpm, tpm
        self.concurrency = max(1, int(scope.concurrency * share)) if scope.concurrency is not None else math.inf
        purses, begun = [], 0
        for budget in scope.budgets:
            purse = old.get(budget.key)
            if purse is None:
                spent = restored.pop((scope.kind, scope.name, budget.key), 0)
                purse = self._new_purse(budget, spent)
                begun += 1
            purse.amount = int(budget.amount * share)
            purses.append(purse)
        self.purses = purses
        return begun

    def _new_purse(self, budget: BudgetWindow, spent: int) -> Purse:
        return Purse(budget, int(spent * self._share))

    @staticmethod
    def _moved(level: float, old: float, new: float) -> float:
        return new if math.isinf(old) or math.isinf(new) else min(new, level + new - old)

    def check(self, tokens: int, least: int, cost: int, now: float, wall: float) -> None:
        """GatewayError unless one more request of this size may start. Changes nothing but the refill.

        `least` tokens are certain; what `tokens` has beyond them is a guess, for which a full bucket is enough.
        `now` is monotonic, `wall` Unix time.
        """
        minutes = (now - self._updated) / 60.0
        self._updated = now
        requests, level = self.requests + minutes * self.rpm, self.tokens + minutes * self.tpm
        self.requests = requests = requests if requests < self.rpm else self.rpm
        self.tokens = level = level if level < self.tpm else self.tpm
        if requests < 1.0:
            raise self._refusal(
                "policy_rate", self.scope.rpm, "requests per minute", 0, (1.0 - self.requests) / self.rpm
            )
        if level < tokens and (self.tokens < self.tpm or least > self.tpm):
            wait = (min(tokens, self.tpm) - self.tokens) / self.tpm
            left = max(0, int(self.tokens))
            raise self._refusal("policy_tokens", self.scope.tpm, "tokens per minute", left, wait, tokens)
        if self.running >= self.concurrency:
            raise self._refusal("policy_concurrency", self.scope.concurrency, "concurrent requests", 0, 1 / 60.0)
        for purse in self.purses:
            # the first condition alone decides nearly always, without a call
            if purse.spent + purse.reserved + cost < purse.amount and wall < purse.ends:
                continue
            self._check_budget(purse, cost, wall)

    def _check_budget(self, purse: Purse, cost: int, now: float) -> None:
        if not purse.has_room(cost, now):
            raise self._spent(purse, purse.amount - purse.spent, purse.reserved, now)

    def _spent(self, purse: Purse, left: int, reserved: int, now: float) -> GatewayError:
        """The refusal of a budget of which so much is not spent, and so much held by requests under way."""
        window, wait = purse.budget.window, min(purse.ends - now, 31 * 86_400.0)
        held = f", and requests under way hold {reserved / NANO:.6f}" if reserved else ""
        resets = "It never resets." if window == "total" else f"It resets in {_duration(wait)}."
        return GatewayError(
            "policy_budget",
            f"The {window} budget of the {self.scope.kind} {self.scope.name!r} is spent: {max(0, left) / NANO:.6f} of "
            f"{purse.budget.amount / NANO:.6f} is left{held}. {resets} Ask your administrator to raise it.",
            headers=((b"retry-after", b"%d" % max(1, round(wait))),),
        )

    def _refusal(
        self, code: str, limit: float | None, what: str, left: int, minutes: float, needed: int | None = None
    ) -> GatewayError:
        wants = f" and this request needs about {needed}" if needed is not None else ""
        seconds = max(1, math.ceil(minutes * 60.0))
        return GatewayError(
            code,
            f"Rate limit reached for the {self.scope.kind} {self.scope.name!r}: {limit:g} {what}, {left} left{wants}. "
            f"Try again in {seconds} s.",
            headers=((b"retry-after", b"%d" % seconds), *self._rates()),
        )

    def counters(self, now: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """(limit, what is left) of requests and tokens a minute, as callers are told at `now`."""
        return (self.rpm, self.requests), (self.tpm, self.tokens)

    def _rates(self) -> tuple[Header, ...]:
        """The x-ratelimit-* headers of this scope alone: the one that refused."""
        headers: tuple[Header, ...] = ()
        for what, (limit, level) in zip((b"requests", b"tokens"), self.counters(time.monotonic()), strict=True):
            if limit < math.inf:
                headers += (
                    (b"x-ratelimit-limit-" + what, b"%d" % limit),
                    (b"x-ratelimit-remaining-" + what, b"%d" % max(0.0, level)),
                    (b"x-ratelimit-reset-" + what, b"%.3fs" % ((limit - level) * 60.0 / limit)),
                )
        return headers


def _duration(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{seconds:.0f} s"
