"""The usage event: the one fact that the gateway states about a request, whatever became of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from gateway.contract.version import SCHEMA_VERSION

End = Literal[
    "success",
    "upstream_error",
    "upstream_error_partial",
    "client_gone",
    "client_gone_partial",
    "stopped",
    "interrupted",
]
"""How a request ended. `_partial`: content had been relayed. `stopped`: this gateway was told to stop.
`interrupted`: the gateway process died; found in the spool afterwards and never charged."""


class Tokens(BaseModel):
    """Disjoint token buckets: their sum is the total. Zero is a count, not a missing value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: int = 0
    """Prompt tokens that were neither read from nor written to a cache."""
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    """Completion tokens without reasoning."""
    reasoning: int = 0


class Attempt(BaseModel):
    """One try at one target."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str
    model: str
    status: int
    """Upstream's HTTP status; 0 if none arrived."""
    error: str
    """Code of the closed error vocabulary, or empty."""
    ms: float
    """From dispatch to the attempt's first content or failure."""


class RetrievalOutcome(BaseModel):
    """What was looked up in knowledge bases for a request. Embedding the question is a request of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Literal["found", "nothing", "failed"]
    passages: int
    """That were put before the conversation."""
    ms: float
    indexes: dict[str, int] = {}
    """Base -> number of the index that was searched."""
    trial: bool = False
    """The indexes that bases hold back were asked for."""


class CacheOutcome(BaseModel):
    """What the response cache of a route had for a request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    result: Literal["hit", "semantic", "miss", "bypass"]
    """`hit`: the answer of an equal request. `semantic`: of a question that means the same. `bypass`: not asked."""
    age: int = 0
    """Seconds since the answer of a hit was given first."""
    saved_nano: int = 0
    """What a hit would have cost beyond `cost_nano`."""


class UsageEvent(BaseModel):
    """One admitted request. `id` makes delivery idempotent: counting twice is impossible."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = SCHEMA_VERSION  # type: ignore[assignment]
    id: str
    """UUIDv7 made at admission; also the reply's x-request-id unless the client sent its own."""
    ts: float
    """Unix time of admission, seconds."""
    request_id: str
    key: str
    team: str | None
    operation: str
    """What was asked for: chat, messages, embeddings, rerank, transcriptions, file_create, …"""
    model: str
    """Name the client asked for."""
    route: str
    endpoint: str | None
    """Endpoint that answered, or the last one tried."""
    upstream_model: str | None
    snapshot: str
    stream: bool
    end: End
    status: int
    """HTTP status that the client was sent; 0 if none."""
    error: str
    tokens: Tokens
    usage_source: Literal["provider", "estimated", "none"]
    cost_nano: int
    """Integer nano-units (10⁻⁹) of the account currency."""
    ttft_ms: float | None
    """From admission to the first content sent to the client."""
    duration_ms: float
    attempts: tuple[Attempt, ...]
    retrieval: RetrievalOutcome | None = None
    """Absent where the route has no knowledge bases."""
    cache: CacheOutcome | None = None
    """Absent where the route has no response cache. `tokens` and `usage_source` of a hit are those of the answer as it
    was given first, `cost_nano` is the part of its price that the route says; there is no attempt."""
    shadow_of: str | None = None
    """Of a copy for a route's shadow: the `id` of the request that was copied. Its cost is nobody's: it counts for no
    limit, no budget and no report of what keys used."""
