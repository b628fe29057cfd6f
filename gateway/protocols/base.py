"""What a dialect is: a way to write down conversations, read and written without I/O.

A dialect that clients speak (`Inbound`) reads requests and writes answers; one that upstreams speak (`Outbound`) writes
requests and reads answers. Most are both. Streams go through objects that hold what has gone by: `Reader` and `Writer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from gateway.errors import GatewayError
from gateway.protocols.canonical import Delta, Document, Reply, Request, Usage

UsageOf = Callable[[dict[str, Any]], Usage | None]
"""A vendor's usage object -> normalised counts; None if it is not one."""


class BadReply(Exception):
    """An upstream's answer is not what its dialect says; the text tells what is wrong with it."""


class Origin(NamedTuple):
    """What an answer says of itself beyond its content."""

    id: str
    """Identity of the request, from which the answer's own is made."""
    model: str
    """The name that the client asked for."""
    created: int
    """Unix seconds."""


class Reader(Protocol):
    """One streamed answer of an upstream, event by event."""

    def read(self, event: bytes) -> list[Delta]:
        """What one complete event says, in order; empty if nothing. Raises BadReply."""
        ...

    def end(self) -> list[Delta]:
        """What is still to be said when the upstream ends its stream; BadReply if it ended too early."""
        ...


class Writer(Protocol):
    """One streamed answer to a client. What it returns are whole events."""

    def write(self, delta: Delta) -> bytes:
        """The events that one more delta becomes; often none."""
        ...

    def end(self) -> bytes:
        """The last events of a good stream, with the usage."""
        ...


class Framer(Protocol):
    """Cuts an arriving byte stream into events."""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now. ValueError if one is too long or broken."""
        ...

    def rest(self) -> list[bytes]:
        """What was left when the stream ended, as an event if it can be one. ValueError if it is half of one."""
        ...


class Inbound(Protocol):
    """A dialect that clients speak."""

    operation: str
    """Its name; of an upstream's operation too where it speaks the same."""

    def read_request(self, document: Document) -> Request:
        """The request of a body. Raises GatewayError(caller_bad_request) naming the member that is wrong."""
        ...

    def write_reply(self, reply: Reply, request: Request, origin: Origin) -> bytes:
        """The body of a whole answer."""
        ...

    def writer(self, request: Request, origin: Origin) -> Writer:
        """For one streamed answer."""
        ...

    def error(self, error: GatewayError) -> bytes:
        """The body that tells an error."""
        ...

    def error_event(self, error: GatewayError) -> bytes:
        """The same in a stream that has begun."""
        ...

    def with_system(self, document: Document, text: str) -> Document:
        """A body with a system prompt before whatever it holds; the given one is not modified."""
        ...


class Outbound(Protocol):
    """A dialect that upstreams speak."""

    operation: str
    """Its name as an operation of a provider."""
    event_stream: str
    """Media type of its streams."""

    def write_request(self, request: Request, model: str) -> Document:
        """The body for an upstream. Raises `unsupported` for what the dialect cannot say."""
        ...

    def read_reply(self, document: Document, usage: UsageOf) -> Reply:
        """A whole answer. Raises BadReply."""
        ...

    def reader(self, usage: UsageOf) -> Reader:
        """For one streamed answer."""
        ...

    def framer(self, limit: int) -> Framer:
        """For one streamed answer; no event may be longer than `limit` bytes."""
        ...


def unsupported(field: str, dialect: str, why: str = "") -> GatewayError:
    """The refusal of a request that the target's dialect cannot express."""
    reason = f": {why}" if why else "."
    text = f"`{field}` cannot be expressed in the {dialect} API that answers for this model{reason}"
    return GatewayError("caller_unsupported", text, param=field)


def refuse_unknown(request: Request, dialect: str, known: frozenset[str] = frozenset()) -> Document:
    """The members of `request.extra` that the target's dialect knows; `unsupported` for the first that it does not."""
    for name in request.extra:
        if name not in known:
            raise unsupported(name, dialect)
    return dict(request.extra)


def bad(param: str, text: str) -> GatewayError:
    """A member of the client's request that is wrong."""
    return GatewayError("caller_bad_request", f"`{param}` {text}", param=param)
