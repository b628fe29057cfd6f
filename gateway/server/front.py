"""What all client connections of a listener share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Protocol

from gateway.context import Operation
from gateway.errors import GatewayError
from gateway.server.exchange import Exchange
from gateway.server.upload import Disk


class Timed(Protocol):
    """A connection."""

    def check_time(self, now: float) -> None:
        """Close it if its client exceeds the time for a request, or for idling."""
        ...


@dataclass(slots=True)
class Front:
    """See the module."""

    operations: dict[bytes, Operation]
    """Path -> operation."""
    handle: Callable[[Exchange], Coroutine[Any, Any, None]]
    on_reject: Callable[[GatewayError, str, str], None]
    """Told of every request that is refused before it reaches the pipeline: error, request id, client's address."""
    max_body_bytes: int
    max_upload_bytes: int
    upload_disk: Disk
    max_header_bytes: int
    max_connections: int
    request_timeout: float
    keepalive_timeout: float
    match: Callable[[bytes, bytes], Operation | None] = lambda method, url: None
    """Finds the operation of a method and a request target that holds more than its path does."""
    cors: dict[bytes, bytes] = field(default_factory=dict)
    """Origin whose pages may call us -> header lines that say so."""
    connections: set[Timed] = field(default_factory=set)
    date: bytes = b""

    def sweep(self, now: float) -> None:
        """Close connections that are too slow or idle too long; call it once a second with the loop's time."""
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in tuple(self.connections):
            connection.check_time(now)

    def first_lines(self, headers: dict[bytes, bytes]) -> bytes:
        """The first header lines of every answer: the date, and for a page of an allowed origin that it may read it."""
        origin = headers.get(b"origin")
        return self.date if origin is None else self.date + self.cors.get(origin, b"")
