"""The compiled configuration that the request path reads: frozen, slotted, indexed.

`gateway.snapshot.compile` builds one Runtime from a wire snapshot; a request pins the current one and sees no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway.contract import snapshot as wire
from gateway.contract.caching import Cache
from gateway.guarded import Guard
from gateway.protocols.canonical import Usage
from gateway.providers.auth import Auth
from gateway.providers.base import Provider, Wire
from gateway.redact import Redactor

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MILLION = 1_000_000
_HALF = MILLION // 2


class Prices(NamedTuple):
    """Nano-units of the account currency per million tokens, one for each bucket of `Usage`, in its order."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    def cost(self, usage: Usage) -> int:
        """Nano-units for one reply; the sum is rounded once, half up."""
        total: int = sum(map(mul, self, usage))
        return (total + _HALF) // MILLION

    def estimate(self, prompt: int, output: int) -> int:
        """Nano-units for a request of about this many tokens."""
        per_input, _, _, per_output, _ = self
        return (prompt * per_input + output * per_output) // MILLION


@dataclass(slots=True, frozen=True)
class BudgetWindow:
    """Money that may be spent between two calendar borders of a time zone."""

    amount: int
    """Nano-units."""
    window: str
    zone: ZoneInfo

    @property
    def key(self) -> str:
        """What identifies the window when its amount changes."""
        return f"{self.window} {self.zone.key}"

    def bounds(self, now: float) -> tuple[float, float]:
        """(start, end) of the `day`, `week` (from Monday), `month` or `total` window at `now`, in Unix seconds.

        Borders are local midnights, so a day may have 23 or 25 hours.
        """
        if self.window == "total":
            return 0.0, math.inf
        local = datetime.fromtimestamp(now, self.zone)
        start = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        if self.window == "week":
            start -= timedelta(days=start.weekday())
            end = start + timedelta(days=7)
        elif self.window == "month":
            start = start.replace(day=1)
            end = (start + timedelta(days=32)).replace(day=1)
        else:
            end = start + timedelta(days=1)
        return start.timestamp(), end.timestamp()


@dataclass(slots=True, frozen=True)
class Scope:
    """Something that limits are counted for: a key, a team or a route."""

    kind: str
    name: str
    rpm: float | None = None
    tpm: float | None = None
    concurrency: int | None = None
    budgets: tuple[BudgetWindow, ...] = ()

    @property
    def id(self) -> str:
        """Identity across snapshots, such as `key:alice`."""
        return f"{self.kind}:{self.name}"

    @property
    def limited(self) -> bool:
        """Whether there is anything to count."""
        return bool(self.budgets) or (self.rpm, self.tpm, self.concurrency) != (None, None, None)


@dataclass(slots=True, frozen=True, eq=False)
class KeyRecord:
    """An API key as authentication sees it."""

    name: str
    team: str | None
    enabled: bool
    expires_at: float | None
    """Unix time, seconds."""
    models: frozenset[str]
    model_prefixes: tuple[str, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]
    scopes: tuple[Scope, ...]
    """Limited scopes of the key and its team, in this order."""
    has_budget: bool
    """Whether any of them has one."""
    unconditional: bool
    """Enabled, never expiring, from any address."""
    facts: bytes
    """Its members of a usage event, encoded: `"key":…,"team":…`."""
    log_bodies: bool
    """Whether routes may keep its bodies."""

    def may_use(self, route: str) -> bool:
        """Whether the key's grants cover a route name (see `wire.Key.models`)."""
        return route in self.models or route.startswith(self.model_prefixes)

    def sees(self, route: Route) -> bool:
        """Whether a route is there for the key at all: a draft is for those alone that are granted it by name."""
        return not route.draft or route.name in self.models


@dataclass(slots=True, frozen=True, eq=False)
class Endpoint:
    """An upstream account, with the parts of its requests that never change made ready."""

    name: str
    provider: Provider
    spec: wire.Endpoint
    pool_key: str
    """Equal for two snapshots exactly if connections may be shared between them."""
    host: str
    port: int
    tls: bool
    heads: dict[str, bytes]
    """Operation that the provider speaks -> request line and constant headers, each ending in CRLF."""
    stream_heads: dict[str, bytes]
    """The same for streamed answers."""
    wires: dict[str, Wire]
    """Operation -> what reads its replies."""
    dialect: str
    """The operation that conversations in other dialects are translated into."""
    model_in_path: bool
    """The request line holds `{model}` for the model's name."""
    forward_headers: frozenset[bytes]
    max_response_bytes: int
    proxy: str | None
    secrets: tuple[bytes, ...]
    """What no error message may quote: its credential and header values."""
    options: dict[str, Any] = field(default_factory=dict)
    auth: Auth | None = None
    """Proves each request, where its constant headers do not."""
    unusable: str | None = None
    """Why this machine cannot talk to it: every attempt at it fails. None: nothing is in the way."""


@dataclass(slots=True, frozen=True, eq=False)
class Target:
    """One place that can answer a route."""

    id: str
    """`endpoint/model`: names the breaker and the latency average."""
    endpoint: Endpoint
    model: str
    """Empty: the name that the client asked for, less the wildcard's prefix."""
    weight: int
    priority: int
    prices: Prices
    timeouts: wire.Timeouts
    head: bytes
    """The `x-tunegate-target` header line."""
    facts: tuple[bytes, bytes]
    """Endpoint and model as a usage event says them, encoded."""


@dataclass(slots=True, frozen=True, eq=False)
class Route:
    """A public model name."""

    name: str
    aliases: tuple[str, ...]
    prefix: str | None
    """For a wildcard route, the part before `*`."""
    tiers: tuple[tuple[Target, ...], ...]
    """Targets by priority, the first tried first."""
    sole: Target | None
    """The only target of the first tier, if it is one that is used."""
    strategy: str
    sticky_by: str
    fallback: str | None
    system_prompt: str | None
    retry: wire.Retry
    breaker: wire.Breaker
    scopes: tuple[Scope, ...]
    head: bytes
    """The `x-tunegate-route` header line."""
    facts: bytes
    """Its member of a usage event, encoded: `"route":…`."""
    has_steps: bool
    """Whether any step changes its requests."""
    knowledge: wire.Knowledge | None = None
    """Whose passages are put before its conversations."""
    guard: Guard | None = None
    """What may be said, both ways."""
    draft: bool = False
    """There only for keys that are granted it by name."""
    watched: Watched | None = None
    """What is done with copies of its requests; None if nothing is, which is all that the request path asks."""


@dataclass(slots=True, frozen=True, eq=False)
class LogRule:
    """Which bodies of a route are kept."""

    spec: wire.Log
    redactor: Redactor
    request: bool
    response: bool


@dataclass(slots=True, frozen=True, eq=False)
class ShadowRule:
    """Where copies of a route's requests go: a route of its own with one target, whose id no other target has."""

    route: Route
    share: float
    concurrency: int


@dataclass(slots=True, frozen=True, eq=False)
class CacheRule:
    """How a route keeps answers."""

    spec: Cache
    version: bytes
    """Differs as soon as anything differs that an answer may depend on: see `gateway.snapshot.cacherule`."""
    headers: tuple[bytes, ...]
    """Client headers that reach an upstream, and so may change its answer."""


class Watched(NamedTuple):
    """What a route does beside answering."""

    log: LogRule | None
    shadow: ShadowRule | None
    cache: CacheRule | None = None


@dataclass(slots=True, frozen=True, eq=False)
class Runtime:
    """One version of everything the request path needs to know."""

    version: str
    keys: dict[bytes, KeyRecord]
    """SHA-256 digest of the key -> record."""
    routes: dict[str, Route]
    """Name or alias -> route."""
    wildcards: tuple[Route, ...]
    """Wildcard routes, the longest prefix first."""
    endpoints: dict[str, Endpoint]
    session_key: Ed25519PublicKey | None = None
    """Proves session tokens; None: there are none, as in a stand-alone gateway."""

    def unusable(self) -> list[Endpoint]:
        """Endpoints that this machine cannot talk to."""
        return [endpoint for endpoint in self.endpoints.values() if endpoint.unusable is not None]
