"""What a provider adapter is: it builds requests and reads bytes, and does no I/O.

Where an upstream speaks the client's own dialect, a request passes through with at most two splices and a reply
passes through untouched: a `Wire` finds on the side what must be known of it. Where it does not, `Provider.dialect` is
what the conversation is translated into.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import orjson

from gateway.errors import Header
from gateway.protocols.base import Outbound
from gateway.protocols.canonical import Usage
from gateway.protocols.tasks.base import TaskOut
from gateway.protocols.wire import Content
from gateway.providers.auth import Auth


class Wire(Protocol):
    """Reads a reply that passes through, without changing it."""

    usage_key: bytes
    """The member that holds the usage, with its quotes."""
    end_mark: bytes
    """What the last event of a stream holds and no other one; empty if only the end of the body tells."""
    include_usage: bool
    """Whether streams are asked for a usage chunk by `stream_options.include_usage`."""

    content: Content
    """What whole replies are."""
    instead_of_model: bytes | None
    """Member, encoded, that stands in requests in the place of `model`, which the URL says."""

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Normalise the vendor's usage object; `before` is what the stream has said so far. None if it is not one."""
        ...

    def event_kind(self, event: bytes) -> int:
        """Classify one complete server-sent event (an `EventKind`)."""
        ...

    def content_bytes(self, event: bytes) -> int:
        """Bytes of generated text in one event, for estimates when no usage arrives."""
        ...


class Provider(Protocol):
    """One kind of upstream API."""

    kind: str
    operations: tuple[str, ...]
    """What it speaks natively: requests of these operations pass through."""
    dialect: Outbound
    """What conversations in other dialects are translated into; its operation is one of the above."""
    tasks: Mapping[str, TaskOut] = MappingProxyType({})
    """Task -> what it is translated into, where it is not spoken as the client does; see `protocols.tasks.base`."""
    forward_headers: frozenset[bytes]
    """Client request headers (lower case) that are handed on to this kind of upstream."""

    def at(self, base_url: str, options: dict[str, Any]) -> Provider:
        """What it is for one endpoint: itself, or a variant that the endpoint's address and options ask for."""
        return self

    def auth(self, api_key: str | None, host: str, options: dict[str, Any]) -> Auth | None:
        """What proves its requests where constant headers do not; ValueError says what is wrong with the credential."""
        return None

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below the base URL for one of `operations`; `{model}` in it stands for the model's name."""
        ...

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """Headers that every request of the endpoint carries, its credential among them."""
        ...

    def wire(self, operation: str) -> Wire | None:
        """What reads the replies of one of `operations`; None if no client speaks it, so that none passes through."""
        ...

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Normalise a usage object of its `dialect`; see `Wire.usage`."""
        ...

    def error_message(self, body: bytes) -> str | None:
        """The message of an error body; None if the body is something else."""
        return told_message(body)


def told_message(body: bytes) -> str | None:
    """The message of an error body: `error.message`, `error` itself where a vendor makes it a string, or `message`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    error = document.get("error", document.get("message", document.get("Message")))
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else None
