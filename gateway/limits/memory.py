"""Limits counted in this process: exact here, and nowhere else.

A rate is a bucket that holds one minute's worth and refills steadily. With several workers each gets an even share
(`share`), so together they never exceed a limit; an uneven spread may refuse a little early. A budget is not a rate:
it is money spent inside a calendar window, restored from the ledger at start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from gateway.errors import GatewayError, Header
from gateway.runtime import BudgetWindow, Scope

NANO = 1_000_000_000


@dataclass(slots=True)
class Bucket:
    """A rate per minute. `level` may fall below zero when a request used more than its estimate."""

    level: float
    updated: float

    def refill(self, limit: float, now: float) -> float:
        """Add what the time since the last look is worth, and return the level."""
        level = self.level + (now - self.updated) * limit / 60.0
        self.level = level if level < limit else limit
        self.updated = now
        return self.level


@dataclass(slots=True)
class Purse:
    """Money in the current window of one budget, in nano-units."""

    ends: float
    """Unix time."""
    spent: int = 0
    reserved: int = 0
    """By requests of this window that are under way."""
    holders: int = 0
    """How many requests hold the reservation."""


@dataclass(slots=True)
class Counters:
    """What one scope has used."""

    requests: Bucket | None = None
    tokens: Bucket | None = None
    running: int = 0
    purses: dict[str, Purse] = field(default_factory=dict)
    """By `BudgetWindow.key`: an amount that changes keeps what was spent."""


class Held:
    """A reservation in `MemoryLimiter`."""

    __slots__ = ("_cost", "_purses", "_scopes", "_settled", "_tokens", "headers")

    def __init__(
        self,
        scopes: list[tuple[Scope, Counters]],
        purses: list[Purse],
        tokens: int,
        cost: int,
        headers: tuple[Header, ...],
    ) -> None:
        self._scopes = scopes
        self._purses = purses
        self._tokens = tokens
        self._cost = cost
        self._settled = False
        self.headers = headers

    def settle(self, tokens: int, cost: int) -> None:
        """See `gateway.limits.base.Reservation.settle`. A second call is a bug in the pipeline."""
        if self._settled:
            raise RuntimeError("a reservation was settled twice")
        self._settled = True
        for scope, counters in self._scopes:
            counters.running -= 1
            if scope.tpm is not None and counters.tokens is not None:
                counters.tokens.level += self._tokens - tokens
        for purse in self._purses:
            purse.reserved -= self._cost
            purse.holders -= 1
            purse.spent += cost


class MemoryLimiter:
    """See `gateway.limits.base.Limiter`. `share` is 1 / number of workers."""

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._counters: dict[tuple[str, str], Counters] = {}
        self.restored: dict[tuple[str, str, str], int] = {}
        """(scope kind, name, `BudgetWindow.key`) -> nano-units spent in the current window, from the ledger."""

    def reserve(self, scopes: tuple[Scope, ...], tokens: int, cost: int) -> Held:
        """See `gateway.limits.base.Limiter.reserve`. All checks come before the first change."""
        now = time.monotonic()
        held = [(scope, self._of(scope, now)) for scope in scopes]
        purses: list[Purse] = []
        for scope, counters in held:
            self._check_rates(scope, counters, tokens, now)
            for budget in scope.budgets:
                purses.append(self._check_budget(scope, counters, budget, cost))
        for scope, counters in held:
            counters.running += 1
            if scope.rpm is not None and counters.requests is not None:
                counters.requests.level -= 1.0
            if scope.tpm is not None and counters.tokens is not None:
                counters.tokens.level -= tokens
        for purse in purses:
            purse.reserved += cost
            purse.holders += 1
        return Held(held, purses, tokens, cost, _headers(held, self._share))

    def _of(self, scope: Scope, now: float) -> Counters:
        counters = self._counters.get((scope.kind, scope.name))
        if counters is None:
            counters = self._counters[scope.kind, scope.name] = Counters()
        if scope.rpm is not None:
            limit = max(1.0, scope.rpm * self._share)
            if counters.requests is None:
                counters.requests = Bucket(limit, now)
            else:
                counters.requests.refill(limit, now)
        if scope.tpm is not None:
            limit = scope.tpm * self._share
            if counters.tokens is None:
                counters.tokens = Bucket(limit, now)
            else:
                counters.tokens.refill(limit, now)
        return counters

    def _check_rates(self, scope: Scope, counters: Counters, tokens: int, now: float) -> None:
        if scope.concurrency is not None:
            allowed = max(1, int(scope.concurrency * self._share))
            if counters.running >= allowed:
                raise _refusal("policy_concurrency", scope, "concurrent requests", scope.concurrency, 0, 1.0)
        if scope.rpm is not None and counters.requests is not None and counters.requests.level < 1.0:
            wait = (1.0 - counters.requests.level) * 60.0 / max(1.0, scope.rpm * self._share)
            raise _refusal("policy_rate", scope, "requests per minute", int(scope.rpm), 0, wait)
        if scope.tpm is not None and counters.tokens is not None:
            limit = scope.tpm * self._share
            needed = min(float(tokens), limit)  # a request larger than the whole limit passes when the bucket is full
            if counters.tokens.level < needed:
                wait = (needed - counters.tokens.level) * 60.0 / limit
                left = max(0, int(counters.tokens.level))
                raise _refusal("policy_tokens", scope, "tokens per minute", int(scope.tpm), left, wait, tokens)

    def _check_budget(self, scope: Scope, counters: Counters, budget: BudgetWindow, cost: int) -> Purse:
        now = time.time()
        purse = counters.purses.get(budget.key)
        if purse is None or now >= purse.ends:
            spent = self.restored.pop((scope.kind, scope.name, budget.key), 0) if purse is None else 0
            purse = counters.purses[budget.key] = Purse(budget.bounds(now)[1], spent)
        amount = int(budget.amount * self._share)
        # A request alone may pass on what is left, however little: its cost is an estimate. A crowd may not.
        over = purse.spent + purse.reserved + cost > amount if purse.holders else purse.spent >= amount
        if over:
            left = max(0, amount - purse.spent)
            wait = min(purse.ends - now, 31 * 86_400.0)
            raise GatewayError(
                "policy_budget",
                f"The {budget.window} budget of the {scope.kind} {scope.name!r} is spent: "
                f"{left / NANO:.6f} of {budget.amount / NANO:.6f} is left"
                + (f", and requests under way hold {purse.reserved / NANO:.6f}. " if purse.reserved else ". ")
                + ("It never resets." if budget.window == "total" else f"It resets in {_duration(wait)}.")
                + " Ask your administrator to raise it.",
                headers=((b"retry-after", b"%d" % max(1, round(wait))),),
            )
        return purse


def _refusal(
    code: str, scope: Scope, what: str, limit: int, left: int, wait: float, needed: int | None = None
) -> GatewayError:
    wants = f" and this request needs about {needed}" if needed is not None else ""
    seconds = max(1, int(wait + 0.999))
    return GatewayError(
        code,
        f"Rate limit reached for the {scope.kind} {scope.name!r}: {limit} {what}, {left} left{wants}. "
        f"Try again in {seconds} s.",
        headers=((b"retry-after", b"%d" % seconds),),
    )


def _duration(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{seconds:.0f} s"


def _headers(held: list[tuple[Scope, Counters]], share: float) -> tuple[Header, ...]:
    """OpenAI's headers for the tightest request rate and the tightest token rate."""
    headers: tuple[Header, ...] = ()
    rates = [(s.rpm * share, c.requests.level) for s, c in held if s.rpm is not None and c.requests is not None]
    if rates:
        limit, level = min(rates, key=lambda r: r[1] / r[0])
        headers += _rate(b"requests", max(1.0, limit), level)
    rates = [(s.tpm * share, c.tokens.level) for s, c in held if s.tpm is not None and c.tokens is not None]
    if rates:
        limit, level = min(rates, key=lambda r: r[1] / r[0])
        headers += _rate(b"tokens", limit, level)
    return headers


def _rate(what: bytes, limit: float, level: float) -> tuple[Header, ...]:
    return (
        (b"x-ratelimit-limit-" + what, b"%d" % limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % max(0, int(level))),
        (b"x-ratelimit-reset-" + what, b"%.3fs" % ((limit - level) * 60.0 / limit)),
    )
