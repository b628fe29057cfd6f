"""One HTTP/1.1 connection to an upstream, used by one call at a time.

httptools parses strictly (a reply with both Content-Length and chunked coding, or a malformed size, is an error); on
top of it this bounds header and body size, understands close-delimited bodies and 1xx replies, and never reuses a
connection on which anything came that was not asked for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import httptools

from gateway.errors import UpstreamFailure
from gateway.same_head import Heads, SameHead

if TYPE_CHECKING:
    from gateway.upstream.call import UpstreamCall
    from gateway.upstream.pool import Pool

MAX_HEAD_BYTES = 65_536


class UpstreamConnection(asyncio.Protocol):
    """See the module. `pool` gets it back when it may be used again, and hears when it is closed."""

    __slots__ = (
        "_body", "_clean", "_complete", "_framed", "_head_bytes", "_headers", "_heads", "_in_head", "_keep_alive",
        "_now", "_parser", "_received", "_silent", "_status", "blocked", "call", "closed", "idle_since", "pool",
        "transport", "uses",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.call: UpstreamCall | None = None
        self.closed = False
        self.blocked = False
        """The upstream reads more slowly than an upload arrives."""
        self.idle_since = pool.now()
        self.uses = 0
        self._parser = httptools.HttpResponseParser(self)
        self._now = pool.now
        self._body: list[bytes] = []
        self._clean = True
        """Nothing came that was not asked for."""
        self._headers: dict[bytes, bytes] = {}
        self._in_head = True
        self._status = 0
        self._framed = False
        """The body's end is announced by its length or by chunks."""
        self._complete = False
        self._heads = Heads()
        """The next answer may be recognised by the last one's head."""
        self._silent = True
        """No byte of the answer has come."""
        self._head_bytes = 0
        self._received = 0

    # --- for the pool

    def send(self, call: UpstreamCall) -> None:
        """Write a call's request."""
        self.call = call
        self.uses += 1
        self._headers = {}
        self._in_head = self._silent = True
        self._framed = self._complete = False
        self._head_bytes = self._received = 0
        call.channel = self
        call.sent_at = call.last_data = self._now()
        self.pool.soon(self._write, call)

    def _write(self, call: UpstreamCall) -> None:
        """In the next turn of the loop, so that requests and answers leave in one batch: an upstream on this machine is
        then woken up far less often, and every time costs us several microseconds.
        """
        if self.call is not call:
            return  # aborted, or the connection was lost, in between
        if call.upload is not None:
            self.transport.write(call.head)
            call.upload.attach(self)
        elif call.size < 65_536:  # joined: a copy that small is cheaper than a vectored write
            self.transport.write(b"".join([call.head, *call.body]))
        else:
            self.transport.writelines([call.head, *call.body])

    def abort(self) -> None:
        """Close at once."""
        self.call = None
        self.transport.abort()

    def pause(self) -> None:
        """Stop reading."""
        self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self.closed:
            self.transport.resume_reading()

    # --- gateway.upstream.call.Taker

    def pass_on(self, data: bytes) -> None:
        """A piece of an upload: the time to the first byte counts from the last one."""
        if self.call is not None:
            self.call.sent_at = self._now()
        self.transport.write(data)

    # --- asyncio.Protocol

    def pause_writing(self) -> None:
        """Let an upload wait."""
        self.blocked = True

    def resume_writing(self) -> None:
        """Let it go on."""
        self.blocked = False
        if self.call is not None and self.call.upload is not None:
            self.call.upload.pump()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is up (after TLS)."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are not subclasses of it

    def data_received(self, data: bytes) -> None:
        """Parse, then hand what arrived to the sink in one piece."""
        call = self.call
        if call is None:
            self._clean = False
            self.transport.abort()
            return
        call.last_data = self._now()
        fresh = self._silent
        if fresh:
            self._silent = False
            known = self._heads.last
            if known is not None and self._again(call, known, data):
                return
        problem = ""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._clean = False
            problem = f"The upstream sent what is not HTTP/1.1 ({type(exc).__name__})."
        body = self._body
        if body:
            piece = body[0] if len(body) == 1 else b"".join(body)
            body.clear()
            self._received += len(piece)
            if self._received > call.response_limit:
                self._break(call, f"The upstream sent more than {call.response_limit} bytes.")
                return
            call.sink.on_data(piece)
        if self._complete:
            if fresh and self._keep_alive and self._clean and self._status == 200:
                self._heads.learn(data, self._headers)
            self._end(call)
        elif problem:
            self._break(call, problem)
        elif self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._break(call, f"The upstream sent more than {MAX_HEAD_BYTES} bytes of headers.")

    def connection_lost(self, exc: Exception | None) -> None:
        """End, retry or fail what was running."""
        self.closed = True
        call, self.call = self.call, None
        self.pool.closed(self)
        if call is None or call.done:
            return
        if exc is None and not self._in_head and not self._framed:
            call.cut = True
            call.end()
        elif self._silent and self.uses > 1 and not (call.upload is not None and call.upload.spent):
            self.pool.resend(call)
        else:
            how = "reset the connection" if exc is not None else "closed the connection"
            when = "before it answered" if self._silent else "in the middle of its answer"
            call.fail(UpstreamFailure("provider_unreachable", f"The upstream {how} {when}."))

    # --- httptools callbacks

    def on_message_begin(self) -> None:
        """A status line begins: the answer's, or one too many."""
        if self._complete:
            self._clean = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The answer's head, unless it is an interim one."""
        call = self.call
        status: int = self._parser.get_status_code()
        if status < 100:
            raise ValueError("no such status")  # httptools makes a parser error of it
        if self._complete or call is None or status < 200:
            return
        self._in_head = False
        self._status = status
        headers = self._headers
        self._framed = b"content-length" in headers or b"transfer-encoding" in headers or status in (204, 304)
        call.sink.on_head(status, headers)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._in_head:
            raise ValueError("an interim reply has no body")  # httptools makes a parser error of it
        if not self._complete:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The end of the answer, or of an interim one."""
        if self._in_head:
            self._headers = {}
        else:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    # --- details

    def _again(self, call: UpstreamCall, known: SameHead, data: bytes) -> bool:
        """Take an answer that is whole and has the last one's head, without the parser; False if it is not such."""
        body = known.body(data)
        if body is None or not body or len(body) > call.response_limit:
            return False
        self._in_head = False
        self._framed = self._complete = self._keep_alive = True
        headers = known.headers.copy()
        headers[b"content-length"] = b"%d" % len(body)
        call.sink.on_head(200, headers)
        call.sink.on_data(body)
        self._end(call)
        return True

    def _end(self, call: UpstreamCall) -> None:
        self.call = None
        whole = call.upload is None or call.upload.passed
        if self._keep_alive and self._clean and whole and not self.closed and not call.paused:
            self.idle_since = call.last_data
            self.pool.release(self)
        else:
            self.transport.close()
        call.end()

    def _break(self, call: UpstreamCall, text: str) -> None:
        self.call = None
        self.transport.abort()
        call.fail(UpstreamFailure("provider_bad_reply", text))

    def eof_received(self) -> Any:
        """Close fully when the upstream has closed its side."""
        return False
