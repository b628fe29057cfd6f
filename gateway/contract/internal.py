"""What passes between control and a gateway on `/internal/v1`, beside the snapshot's parts and the usage events.

Every request carries `Authorization: Bearer <service token>`. Secrets of endpoints are sealed for the gateway that
asks (`gateway.contract.seal`), so the same bytes may lie on its disk.

GET  /internal/v1/snapshot?wait=S   `SnapshotHead`; `If-None-Match` waits up to S seconds for a change, else 304
GET  /internal/v1/snapshot/keys/H   `KeyPage` whose SHA-256 is H; 404 when it has changed: take the head again
POST /internal/v1/usage             `UsageBatch` → `UsageAck`; every event is stored or quarantined when 200 arrives
POST /internal/v1/request-log       `BodyBatch` → `BodyAck`; best effort: bodies are not money
POST /internal/v1/status            `GatewayStatus` → 204; best effort: only the last one counts
GET  /internal/v1/spend?after=N     `Spend` of the scopes whose ledger has grown after cursor N
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool, StringConstraints

from gateway.contract.base import Wire
from gateway.contract.snapshot import Endpoint, Key, Route, Team
from gateway.contract.version import SCHEMA_VERSION

KEYS_PER_PAGE = 1000
"""Most keys in a page: decoding one stalls the event loop for 9 to 14 ms."""
EVENTS_PER_BATCH = 1000
"""Most usage events in one POST."""
BODIES_PER_BATCH = 100
"""Most entries of the request log in one POST."""
BODY_BATCH_BYTES = 1_048_576
"""A batch with more bytes of bodies gets no further entry; one entry has at most two bodies of as much. JSON makes
them up to six times as long."""

TARGETS_PER_STATUS = 2000
"""Most targets in one report of a gateway."""
STATUS_INTERVAL = 5.0
"""Seconds between two reports of a gateway."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SessionKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{43}=$")]


class SnapshotHead(Wire):
    """The configuration without its keys, and where they are: pages named by the SHA-256 of their bytes.

    A page keeps its keys for good (a new key goes to the last one), so a change costs the head and one page.
    """

    schema_version: Literal[1] = SCHEMA_VERSION  # type: ignore[assignment]
    """See `gateway.contract.version`."""
    version: str
    """Names this state of the configuration; the ETag is the same in quotes. Usage events carry it."""
    endpoints: tuple[Endpoint, ...] = Field(default=(), alias="endpoint")
    """Accounts and URLs; `api_key` is `sealed:…`, `env:NAME` or `file:PATH`."""
    routes: tuple[Route, ...] = Field(default=(), alias="route")
    """Public model names."""
    teams: tuple[Team, ...] = Field(default=(), alias="team")
    """Groups of keys."""
    key_pages: tuple[Digest, ...] = ()
    """SHA-256 of each page of keys, in order."""
    session_key: SessionKey | None = None
    """Ed25519 public key of the session tokens that stand for a key (`gateway.contract.session`), in base64. Absent:
    no session token is good."""


class KeyPage(Wire):
    """Up to `KEYS_PER_PAGE` keys."""

    keys: tuple[Key, ...] = Field(alias="key", max_length=KEYS_PER_PAGE)
    """In order of creation; revoked keys are left out."""


_AN_EVENT: dict[str, Any] = {
    "v": 1, "id": "01936f3a-0000-7000-8000-000000000001", "ts": 1_764_000_000.25, "request_id": "req-1",
    "key": "chatbot@support", "team": "support", "operation": "chat", "model": "gpt-4o", "route": "gpt-4o",
    "endpoint": "openai-eu", "upstream_model": "gpt-4o", "snapshot": "c1", "stream": True, "end": "success",
    "status": 200, "error": "", "usage_source": "provider", "cost_nano": 1_250_000, "ttft_ms": 210.5,
    "duration_ms": 1800.0, "attempts": [],
    "tokens": {"input": 100, "cache_read": 0, "cache_write": 0, "output": 100, "reasoning": 0},
}  # fmt: skip


class UsageBatch(Wire):
    """Usage events of one gateway, oldest first. They are checked one by one, so one bad event stops no other."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"gateway": "gateway-1/0", "events": [_AN_EVENT]}]})

    gateway: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """Instance that sends them."""
    events: tuple[dict[str, Any], ...] = Field(max_length=EVENTS_PER_BATCH)
    """Each a `gateway.contract.usage.UsageEvent`."""


class UsageAck(Wire):
    """Every event of the batch is now in one of three places; the gateway may delete it."""

    stored: int
    """New in the ledger."""
    duplicates: int
    """Were there already."""
    quarantined: int
    """Not valid events: kept beside the ledger, with the reason, for a human."""


class Bodies(Wire):
    """What was asked and answered, redacted: one entry of the request log."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    """Of the usage event."""
    ts: Annotated[float, Field(strict=True, ge=0, le=253_370_764_800, allow_inf_nan=False)]
    """Unix time of admission, seconds."""
    keep_days: Annotated[int, Field(strict=True, ge=1, le=3650)]
    """As the route says."""
    request: str | None
    """Null: it was not to be kept."""
    response: str | None
    """What the client was sent; of a stream, one JSON object put together from its events."""
    request_cut: StrictBool
    """It was longer than the route keeps."""
    response_cut: StrictBool
    """As for the request."""
    redacted: dict[Annotated[str, StringConstraints(max_length=20)], Annotated[int, Field(strict=True, ge=1)]] = Field(
        max_length=20
    )
    """What was replaced, and how often."""


_AN_ENTRY: dict[str, Any] = {
    "id": "01936f3a-0000-7000-8000-000000000001", "ts": 1_764_000_000.25, "keep_days": 30,
    "request": '{"model":"gpt-4o","messages":[{"role":"user","content":"Write to [email]."}]}', "response": None,
    "request_cut": False, "response_cut": False, "redacted": {"email": 1},
}  # fmt: skip


class BodyBatch(Wire):
    """Entries of the request log of one gateway."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"gateway": "gateway-1/0", "entries": [_AN_ENTRY]}]})

    gateway: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """Instance that sends them."""
    entries: tuple[Bodies, ...] = Field(max_length=BODIES_PER_BATCH)
    """Oldest first."""


class BodyAck(Wire):
    """All entries are stored."""

    stored: int
    """New ones."""
    duplicates: int
    """Were there already, or have been erased."""


class Spent(Wire):
    """Money that one scope has spent in the running window of one of its budgets."""

    scope: Literal["key", "team"]
    """Kind of the owner of the budget."""
    name: str
    """Name of the key or team."""
    window: Literal["day", "week", "month", "total"]
    """Budget's window."""
    timezone: str
    """Budget's time zone."""
    start: float
    """Unix time at which the running window began; 0 for `total`."""
    nano: Annotated[int, Field(ge=0)]
    """Sum of the ledger in the window, in nano-units: what every gateway together has reported."""


class Spend(Wire):
    """A gateway takes the greater of this and its own count for each budget: both are at most the truth."""

    cursor: int
    """To be sent as `after` next time."""
    spent: tuple[Spent, ...]
    """Scopes with a budget whose ledger has grown after the cursor asked for; with `after=0`, all of them."""


_A_TARGET: dict[str, Any] = {
    "id": "openai-eu/gpt-4o", "endpoint": "openai-eu", "model": "gpt-4o", "breaker": "closed", "error": "",
    "in_flight": 2, "first_content_ms": 210.5, "successes": 40, "failures": 0,
}  # fmt: skip
Whole = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Moment = Annotated[float, Field(strict=True, ge=0, le=253_370_764_800, allow_inf_nan=False)]


class TargetStatus(Wire):
    """How one target does, as one gateway sees it."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """`endpoint/model`, as in the header `x-tunegate-target`."""
    endpoint: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """Its endpoint; of one with several credentials, `endpoint+2` is the second."""
    model: Annotated[str, StringConstraints(max_length=200)]
    """The upstream's name of the model; empty where the client says it."""
    breaker: Literal["closed", "half_open", "open"]
    """Whether it gets requests: yes, one to probe it, no."""
    error: Annotated[str, StringConstraints(max_length=40)] = ""
    """Of a breaker that is not closed: what its target failed with last, such as `provider_timeout`."""
    in_flight: Whole
    """Requests under way."""
    first_content_ms: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None
    """Average time to the first content; null when none came in the last half minute."""
    successes: Whole
    """Answers that came whole since the last report that control took."""
    failures: Whole
    """Attempts that failed since then."""


class GatewayStatus(Wire):
    """What one gateway tells of itself every `STATUS_INTERVAL` seconds."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "gateway": "gateway-1/w0", "version": "0.1.0", "snapshot": "c1", "started": 1_764_000_000.0,
                    "targets": [_A_TARGET],
                }
            ]
        }
    )  # fmt: skip

    gateway: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """Instance that sends it."""
    version: Annotated[str, StringConstraints(max_length=64)]
    """Of its program."""
    snapshot: Annotated[str, StringConstraints(max_length=200)] | None
    """Version of the configuration that it serves; null: it has none yet."""
    started: Moment
    """Unix time, seconds."""
    targets: tuple[TargetStatus, ...] = Field(max_length=TARGETS_PER_STATUS)
    """Those that it has sent requests to."""
