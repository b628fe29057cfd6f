"""What is known about one request while it runs. Written by the pipeline's steps, read by settlement."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import getrandbits
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gateway.contract.trace import Trace
from gateway.contract.usage import End
from gateway.errors import GatewayError
from gateway.guarded import Guarded
from gateway.protocols.base import Inbound
from gateway.protocols.canonical import Usage
from gateway.protocols.chat.legacy import Legacy
from gateway.protocols.tasks.base import TaskIn
from gateway.runtime import KeyRecord, Route, Runtime, Target

if TYPE_CHECKING:
    from gateway.limits.base import Reservation
    from gateway.streaming.consultation import Consultation
    from gateway.usage.segment import Segment


@dataclass(slots=True)
class Call:
    """What the gateway needs to know of a request body; the body itself stays bytes."""

    model: str
    stream: bool
    wants_usage: bool
    """The client asked for the usage chunk of a stream itself."""
    prompt_estimate: int
    """Tokens."""
    output_estimate: int
    """Tokens: what the caller allows, or a default."""
    bounded: bool
    """The caller said how much output it allows."""
    document: dict[str, Any]
    encoded_model: bytes
    """`model` as JSON."""
    talked: bool = True
    """A model may have had a turn in the conversation."""
    continues: str | None = None
    """Id of the response that the conversation goes on from."""
    kept: bool = False
    """The answer is kept for later turns."""
    object: str = ""
    """Id of the file, batch or response that the request is about."""
    query: bytes = b""
    """Of the URL, for the upstream's."""


@dataclass(slots=True, frozen=True)
class Operation:
    """One endpoint of the inference API."""

    name: str
    path: bytes
    parse: Callable[[bytes], Call]
    """Body -> Call; raises GatewayError(caller_*)."""
    dialect: Inbound | None = None
    """How its conversations are told. None: they are none, and only upstreams that speak it can answer."""
    translates: bool = True
    """Conversations can be handed to upstreams that speak another dialect."""
    method: bytes = b"POST"
    form: Callable[[dict[str, str]], Call] | None = None
    """The body is a multipart form that is passed on while it arrives: its fields before the first file -> Call."""
    stored: bool = False
    """It is about a file, a batch or a response, which an endpoint keeps: that, and no model, says where it goes."""
    task: TaskIn | None = None
    """How the task is told, which may be translated for upstreams that are asked for it in another dialect."""
    estimate: Callable[[dict[str, Any]], bytes] | None = None
    """The gateway's own answer, from the body, where the upstream has no such API: a count of tokens."""
    accept: bytes = b"application/json"
    """Of whole answers."""
    renamed: Callable[[bytes, float], bytes] | None = None
    """Writes the header lines of rate limits, given in OpenAI's names, in those of its dialect; with Unix seconds."""

    text: Legacy | None = None
    """How its answers are told that are text, though it has no dialect."""

    @property
    def tells_text(self) -> bool:
        """Whether its answers are what a model has written."""
        talks = self.dialect is not None and self.translates and self.task is None and self.estimate is None
        return talks or self.text is not None

    @property
    def copied(self) -> bool:
        """A route may keep its bodies, and send copies of it to a shadow: all but forms, sound and stored files."""
        return self.form is None and not self.stored and self.accept == b"application/json"

    key_header: bytes | None = None
    """Where its clients put their key, if not in `authorization`."""
    key_in_url: bytes | None = None
    """The key, where the URL held it."""

    def credential(self, headers: dict[bytes, bytes]) -> bytes | None:
        """What the caller proves itself by, as the value of an `authorization` header."""
        value = headers.get(b"authorization")
        if value is None and self.key_header is not None:
            key = headers.get(self.key_header) or self.key_in_url
            value = b"Bearer " + key if key is not None else None
        return value

    def error(self, error: GatewayError) -> bytes:
        """The body that tells an error to its clients."""
        return error.body if self.dialect is None else self.dialect.error(error)

    def error_event(self, error: GatewayError) -> bytes:
        """The same in a stream that has begun."""
        return error.event if self.dialect is None else self.dialect.error_event(error)


@dataclass(slots=True)
class AttemptRecord:
    """One try at one target, as the usage event tells it."""

    target: Target
    started: float
    model: bytes = b'""'
    """Its name at the target, as JSON."""
    status: int = 0
    error: str = ""
    ms: float = 0.0
    trace: Trace | None = None
    """Its span; None: the request is not traced."""


class Retrieved(NamedTuple):
    """What knowledge bases had for a request."""

    outcome: Literal["found", "nothing", "failed"]
    passages: list[dict[str, Any]]
    """Members of `gateway.contract.retrieval.Passage`, in the order of their numbers, from 1."""
    rerank: str
    """`gateway.contract.retrieval.RerankOutcome`."""
    indexes: Mapping[str, int]
    """Base -> number of the index that was searched."""
    trial: bool
    """Indexes that are held back were asked for."""
    started: float
    """Monotonic time, seconds."""
    ms: float
    trace: Trace | None
    """Its span; None: the request is not traced."""


class Cached(NamedTuple):
    """What the route's response cache had for a request."""

    result: Literal["hit", "semantic", "miss", "bypass"]
    """As in `gateway.contract.usage.CacheOutcome`."""
    age: int = 0
    """Seconds."""
    usage: Usage = Usage()
    source: str = "none"
    """`usage_source`."""
    cost: int = 0
    """Nano-units that a hit is charged."""
    saved: int = 0
    """Nano-units that it would have cost beyond that."""


@dataclass(slots=True)
class Context:
    """One admitted request. Times are `time.monotonic()` seconds."""

    operation: Operation
    runtime: Runtime
    key: KeyRecord
    call: Call
    route: Route
    id: str
    request_id: str
    started: float
    ts: float
    """Unix time of admission."""
    reservation: Reservation = field(init=False)
    """What it holds of limits, from its admission until it is settled."""
    segment: Segment = field(init=False)
    """Where its usage record was opened."""
    trace: Trace | None = None
    """Its span; None: it is not traced."""
    facts: bytes = b""
    """The part of the usage event that is known at admission, encoded."""
    document: dict[str, Any] | None = None
    """The request after the route's steps; None: they changed nothing."""
    retrieved: Retrieved | None = None
    """What the route's knowledge bases had for it; None: they were not asked."""
    cached: Cached | None = None
    """What its response cache had for it; None: it has none."""
    guarded: Guarded | None = None
    """What the route's guard found in it; None: it has none."""
    consultation: Consultation | None = None
    """Set where the model may search them itself."""
    target: Target | None = None
    """The last one tried."""
    attempts: list[AttemptRecord] = field(default_factory=list)
    status: int = 0
    """What the client was sent; 0 while nothing was."""
    end: End = "stopped"
    error: str = ""
    usage: Usage | None = None
    """As the provider stated it."""
    relayed_tokens: int = 0
    """Estimate of the output that was relayed."""
    first_content: float | None = None
    upstream_seconds: float = 0.0
    """Time spent waiting for upstreams before the first content: not our overhead."""


_USABLE_ID = re.compile(rb"[\w.:/+=@~-]{1,128}", re.ASCII).fullmatch


def own_id(value: bytes | None) -> str | None:
    """The client's own x-request-id, if it is one that can be logged and sent on."""
    return value.decode("ascii") if value is not None and _USABLE_ID(value) else None


def new_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then 74 random bits; sorts by time."""
    ms = time.time_ns() // 1_000_000
    a, b, c = getrandbits(12), 0x8000 | getrandbits(14), getrandbits(48)
    return f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7{a:03x}-{b:04x}-{c:012x}"
