"""One request and its answer on a client's connection, as the pipeline sees them.

Writing is synchronous: the transport buffers, and `on_pause`/`on_resume` tell whoever produces the bytes to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from gateway.context import Operation
from gateway.same_head import SameHead
from gateway.server.upload import Upload

STATUS_LINES = {s.value: b"HTTP/1.1 %d %s\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}


class Connection(Protocol):
    """What an exchange needs of the connection that it lives on."""

    transport: asyncio.Transport

    def exchange_done(self) -> None:
        """The answer is complete: keep the connection for the next request, or close it."""
        ...


class Exchange:
    """A complete request, and at most one answer to it: `respond`, or `begin` … `write` … `finish`."""

    __slots__ = (
        "_chunked", "_connection", "_transport", "body", "complete", "first_lines", "gone", "head", "headers",
        "http10", "keep_alive", "on_gone", "on_pause", "on_resume", "operation", "paused", "peer", "started", "upload",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        operation: Operation,
        headers: dict[bytes, bytes],
        peer: str,
        http10: bool,
        keep_alive: bool,
        first_lines: bytes,
        head: SameHead | None = None,
    ) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._chunked = False
        self.operation = operation
        self.headers = headers
        """By lower-case name (of a repeated one, the last). Of a head that came before: without the length."""
        self.head = head
        """By which the next request on the connection is recognised, if it may be."""
        self.body = b""
        self.upload: Upload | None = None
        """The body, if it is passed on while it arrives; `body` is empty then."""
        self.peer = peer
        self.http10 = http10
        self.first_lines = first_lines
        """Header lines that begin every answer, each ending in CRLF: the date, for a web page its permission."""
        self.keep_alive = keep_alive
        self.started = False
        """Response headers were sent: the status cannot change any more."""
        self.complete = False
        self.gone = False
        """The client closed the connection."""
        self.paused = False
        """The client reads more slowly than we write."""
        self.on_gone: Callable[[], None] | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None

    def respond(self, status: int, lines: bytes, body: bytes) -> None:
        """Send a whole answer in one write. `lines` are header lines, each ending in CRLF."""
        if self.gone or self.complete:
            return
        self.started = self.complete = True
        if self.upload is not None:
            self._part(self.upload)
        line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        close = b"" if self.keep_alive else b"connection: close\r\n"
        length = b"content-length: %d\r\n" % len(body)
        if len(body) < 65_536:
            self._transport.write(b"".join((line, self.first_lines, lines, length, close, b"\r\n", body)))
        else:
            self._transport.writelines((line + self.first_lines + lines + length + close + b"\r\n", body))
        self._connection.exchange_done()

    def begin(self, status: int, lines: bytes, first: bytes, length: int | None = None) -> None:
        """Send headers and the first bytes of the body in one write; `length` of the whole body if it is known."""
        if self.gone or self.complete:
            return
        self.started = True
        if self.upload is not None:
            self._part(self.upload)
        self._chunked = length is None and not self.http10
        if self._chunked:
            framing = b"transfer-encoding: chunked\r\n"
            first = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
        elif length is not None:
            framing = b"content-length: %d\r\n" % length
        else:
            framing = b""
            self.keep_alive = False
        close = b"" if self.keep_alive else b"connection: close\r\n"
        line = STATUS_LINES[status] if status in STATUS_LINES else b"HTTP/1.1 %d \r\n" % status
        self._transport.write(b"%b%b%b%b%b\r\n%b" % (line, self.first_lines, lines, framing, close, first))

    def write(self, data: bytes) -> None:
        """Send more of a begun body."""
        if data and not self.gone:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def finish(self, last: bytes = b"") -> None:
        """Send the last bytes of a begun body, and its end, in one write."""
        if self.gone or self.complete:
            return
        if self._chunked:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n"
        if last:
            self._transport.write(last)
        self._end()

    def abort(self) -> None:
        """Cut the connection: the only honest end of a begun body whose rest is missing."""
        if not self.complete:
            self.complete = True
            self._transport.abort()

    def _part(self, upload: Upload) -> None:
        """An answer that comes before the whole request is the last one on its connection."""
        if not upload.complete:
            self.keep_alive = False

    def _end(self) -> None:
        self.complete = True
        self._connection.exchange_done()
