"""What a provider adapter is: it builds requests and reads bytes, and does no I/O.

All adapters here speak OpenAI's dialect, so a request passes through with at most two splices and a reply passes
through untouched; what differs between vendors is where usage is found, and which fields they refuse.
"""

from __future__ import annotations

from typing import Any, Protocol

from gateway.errors import Header
from gateway.protocols.canonical import Usage


class EventKind:
    """What a server-sent event of a stream means, before the commit point."""

    PREAMBLE = 0
    """A comment, a role, an empty delta: nothing that a user would see."""
    CONTENT = 1
    ERROR = 2
    DONE = 3


class Provider(Protocol):
    """One kind of upstream API."""

    kind: str
    forward_headers: frozenset[bytes]
    """Client request headers (lower case) that are handed on to this kind of upstream."""
    include_usage: bool
    """Whether streams are asked for a usage chunk by `stream_options.include_usage`."""

    def path(self, operation: str) -> bytes:
        """Path below the base URL for an operation (`chat`, `completions`, `embeddings`)."""
        ...

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """Headers that every request of the endpoint carries, its credential among them."""
        ...

    def usage(self, raw: dict[str, Any]) -> Usage | None:
        """Normalise the vendor's usage object; None if it is not one."""
        ...

    def event_kind(self, event: bytes) -> int:
        """Classify one complete server-sent event (an `EventKind`)."""
        ...

    def content_bytes(self, event: bytes) -> int:
        """Bytes of generated text in one event, for estimates when no usage arrives."""
        ...

    def error_message(self, body: bytes) -> str | None:
        """The message of an OpenAI-shaped error body; None if the body is something else."""
        ...
