"""The listener's protocol: uvicorn's, with a short way in for inference requests.

uvicorn keeps sockets, TLS, keep-alive, shutdown and every ordinary route (Starlette). A complete POST to one of the
inference paths is handed to the pipeline as an `Exchange`, without ASGI's messages and events in between: that is a
third of the CPU of a request (docs/adr/0001). What a client may cost is bounded here: header and body size, the time
to send a request, idle time, the number of connections.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.context import Operation, new_id
from gateway.errors import GatewayError
from gateway.protocols.multipart import Form
from gateway.same_head import Heads, SameHead
from gateway.server.exchange import STATUS_LINES, Exchange
from gateway.server.front import Front
from gateway.server.running import Moment, Running
from gateway.server.upload import Upload

NO_BODY = b""
LINGER = 2.0
"""Seconds that the rest of an upload is read and dropped after its answer, so that the client can read that."""


class InferenceProtocol(HttpToolsProtocol):
    """One client connection."""

    front: Front
    """Set by `bind`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.front = self.front  # of its own: one of the class is found more slowly
        self.exchange: Exchange | None = None
        self._reading: float | None = None
        """Loop time at which the request that is arriving now began."""
        self._active = self.loop.time()
        self._head_bytes = 0
        self._body_bytes = 0
        self._body: list[bytes] = []
        self._whole: Exchange | None = None
        """A request that has arrived completely and waits to be started."""
        self._heads = Heads()
        """The next request may be recognised by the last one's head, but never while uvicorn serves another."""
        self._known_operation: Operation
        self._refusal: GatewayError | None = None
        self._ignore = False
        """Nothing more is read from this client: a refused or pipelined request."""
        self._lingers = 0.0
        """Loop time until which the rest of an answered upload is dropped."""

    # --- connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; one too many is told so as soon as it asks for something."""
        super().connection_made(transport)
        self.front.connections.add(self)
        if len(self.front.connections) > self.front.max_connections:
            self._refusal = GatewayError("tunegate_overloaded", "Too many connections. Try again in a moment.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running exchange that its client is gone."""
        self.front.connections.discard(self)
        exchange, self.exchange = self.exchange, None
        super().connection_lost(exc)
        if exchange is not None:
            exchange.gone = True
            if exchange.on_gone is not None:
                exchange.on_gone()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a client that sends while it is being answered has pipelined, which ends after this one."""
        if self._ignore:
            return
        if self.exchange is not None and self._reading is None:
            self._give_up_keep_alive()
            return
        known = self._heads.last
        if known is not None and self._reading is None:
            body = known.body(data)
            if body is not None and len(body) <= self.front.max_body_bytes:
                self._again(known, body)
                return
        fresh = self._reading is None and not self._in_cycle()
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(GatewayError("caller_bad_request", "The request is not valid HTTP/1.1."))
        except httptools.HttpParserUpgrade:
            self._refuse(GatewayError("caller_bad_request", "This server does not upgrade connections."))
        exchange = self._whole
        if exchange is not None:  # not in `on_message_complete`: the parser is not done with `data` there
            self._whole = None
            if fresh and exchange.keep_alive and b"expect" not in exchange.headers and exchange.upload is None:
                exchange.head, self._known_operation = self._heads.learn(data, exchange.headers), exchange.operation
            Running(self.front.handle(exchange), self.tasks).step()
            return
        if self._reading is not None and not self._headers_done and self._head_bytes > self.front.max_header_bytes:
            self._refuse(self._head_too_large())

    def pause_writing(self) -> None:
        """The client reads too slowly: stop what produces its bytes."""
        super().pause_writing()
        if self.exchange is not None:
            self.exchange.paused = True
            if self.exchange.on_pause is not None:
                self.exchange.on_pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self.exchange is not None:
            self.exchange.paused = False
            if self.exchange.on_resume is not None:
                self.exchange.on_resume()

    def shutdown(self) -> None:
        """Graceful stop: close when idle, else after the running answer."""
        if self.exchange is not None:
            self.exchange.keep_alive = False
        else:
            super().shutdown()

    def check_time(self, now: float) -> None:
        """Close the connection if its client exceeds the time for a request, or for idling."""
        front = self.front
        if self._lingers:
            if now > self._lingers:
                self.transport.close()
            return
        if self._in_exchange or (self._in_cycle() and self._reading is None):
            return
        if self.exchange is not None and self.exchange.upload is not None:
            self._check_upload(self.exchange.upload, now)
        elif self._reading is not None:
            if now - self._reading > front.request_timeout:
                text = f"The request did not arrive within {front.request_timeout:g} s."
                self._refuse(GatewayError("caller_slow", text))
        elif now - self._active > front.keepalive_timeout:
            self.transport.close()

    # --- parser callbacks

    def on_message_begin(self) -> None:
        """A request begins to arrive."""
        if self.exchange is not None and self._reading is None:
            self._give_up_keep_alive()
            return
        if self._in_cycle():
            self.cycle.keep_alive = False
            self._ignore = True
            return
        self.url = b""
        self.headers = []
        self._reading = self.loop.time()
        self._headers_done = False
        self._body_bytes = 0

    _headers_done = False

    @property
    def _in_exchange(self) -> bool:
        return self.exchange is not None and self._reading is None

    def _in_cycle(self) -> bool:
        """uvicorn is serving an ordinary request (its type says that a cycle is always there; at first it is not)."""
        cycle: object = self.cycle
        return cycle is not None and not self.cycle.response_complete

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        if not self._ignore:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Decide which way the request goes: the inference pipeline, or uvicorn and Starlette."""
        if self._ignore:
            return
        self._headers_done = True
        if self._head_bytes > self.front.max_header_bytes:  # with the body that came along; so look closer
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.front.max_header_bytes:
                self._refuse(self._head_too_large())
                return
        self._head_bytes = 0
        if self._refusal is not None:
            self._refuse(self._refusal)
            return
        parser = self.parser
        method = parser.get_method()
        if method in (b"POST", b"GET", b"DELETE"):
            front, url = self.front, self.url
            operation = None
            if method == b"POST":
                operation = front.operations.get(url) or front.operations.get(_path(url))
            operation = operation or front.match(method, url)
            if operation is not None and not parser.should_upgrade():
                self._begin(operation)
                return
        self._hand_to_uvicorn()

    def on_body(self, body: bytes) -> None:
        """A piece of the request body."""
        if self._ignore:
            return
        if self.exchange is None:
            super().on_body(body)
            return
        if self.exchange.upload is not None:
            self._reading = self.loop.time()
            self.exchange.upload.feed(body)
            return
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self.front.max_body_bytes:
            self._refuse(self._too_large(self.front.max_body_bytes))

    def on_message_complete(self) -> None:
        """The request is whole: `data_received` starts on it."""
        if self._ignore:
            return
        self._reading = None
        exchange = self.exchange
        if exchange is None:
            super().on_message_complete()
            return
        if exchange.upload is not None:
            exchange.upload.end()
            return
        body = self._body
        exchange.body = body[0] if len(body) == 1 else NO_BODY.join(body)
        self._body = []
        self._whole = exchange

    def exchange_done(self) -> None:
        """The answer went out."""
        exchange, self.exchange = self.exchange, None
        self._active = self.loop.time()
        self.server_state.total_requests += 1
        if self._reading is not None:  # a close now would make the client's kernel throw the answer away
            self._ignore, self._lingers = True, self._active + LINGER
            self.flow.resume_reading()
        elif exchange is not None and not exchange.keep_alive:
            self.transport.close()

    def on_response_complete(self) -> None:
        """uvicorn answered an ordinary request. Its keep-alive timer is put off: only uvicorn's own `data_received`
        would stop it, so it would cut off an inference request that takes longer; `check_time` ends idle connections.
        """
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._active = self.loop.time()

    # --- gateway.server.upload.Client

    def pause_upload(self) -> None:
        """The upstream reads too slowly."""
        self.flow.pause_reading()

    def resume_upload(self) -> None:
        """It has caught up."""
        self.flow.resume_reading()

    # --- details

    def _begin(self, operation: Operation) -> None:
        headers = dict(self.headers)
        keep_alive = self.parser.should_keep_alive()
        # only HTTP/1.1 is kept alive unasked, and asking for the version is dear
        http10 = not (keep_alive and b"connection" not in headers) and self.parser.get_http_version() == "1.0"
        peer = self.client[0] if self.client else ""
        first = self.front.first_lines(headers)
        self.exchange = Exchange(self, operation, headers, peer, http10, keep_alive and not http10, first)
        if len(headers) < len(self.headers) and self._repeated(b"authorization"):
            self._refuse(GatewayError("caller_bad_request", "The request has two Authorization headers."))
        elif b"content-length" in headers and int(headers[b"content-length"]) > self._most(operation):
            self._refuse(self._too_large(self._most(operation)))
        elif operation.form is not None and not self._begin_upload(self.exchange):
            return
        elif b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _begin_upload(self, exchange: Exchange) -> bool:
        """The pipeline starts on it at once; False if it is refused."""
        try:
            form = Form(exchange.headers.get(b"content-type", b""))
        except GatewayError as error:
            self._refuse(error)
            return False
        length = exchange.headers.get(b"content-length")
        size, front = None if length is None else int(length), self.front
        exchange.upload = Upload(self, form, size, front.max_upload_bytes, front.upload_disk, Moment(self.loop))
        self._whole = exchange
        return True

    def _check_upload(self, upload: Upload, now: float) -> None:
        """A client may take as long as it likes for an upload, but not fall silent."""
        if self.flow.read_paused:
            self._reading = now
        elif self._reading is not None and now - self._reading > self.front.request_timeout:
            self._reading = now
            text = f"Nothing of the upload arrived for {self.front.request_timeout:g} s."
            upload.broken(GatewayError("caller_slow", text))

    def _most(self, operation: Operation) -> int:
        return self.front.max_body_bytes if operation.form is None else self.front.max_upload_bytes

    def _again(self, known: SameHead, body: bytes) -> None:
        """Start on a request whose head is the last one's."""
        peer = self.client[0] if self.client else ""
        headers, first = known.headers, self.front.first_lines(known.headers)
        exchange = Exchange(self, self._known_operation, headers, peer, False, True, first, known)
        exchange.body = body
        self.exchange = exchange
        Running(self.front.handle(exchange), self.tasks).step()

    def _hand_to_uvicorn(self) -> None:
        url, headers = self.url, self.headers
        self._heads.last = None
        super().on_message_begin()  # builds the ASGI scope, and resets what has been read
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        try:
            httptools.parse_url(url).path.decode("ascii")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError, AttributeError):
            self._refuse(GatewayError("caller_bad_request", "The request target is not a valid URL path."))
            return
        super().on_headers_complete()

    def _head_too_large(self) -> GatewayError:
        return GatewayError("caller_too_large", f"The headers exceed {self.front.max_header_bytes} bytes.", status=431)

    def _repeated(self, name: bytes) -> bool:
        return sum(header == name for header, _ in self.headers) > 1

    def _too_large(self, limit: int) -> GatewayError:
        return GatewayError("caller_too_large", f"The request body exceeds {limit} bytes. Send less, or in parts.")

    def _give_up_keep_alive(self) -> None:
        """Pipelined requests are not answered: the connection ends after the running answer, as HTTP allows."""
        self._ignore = True
        if self.exchange is not None:
            self.exchange.keep_alive = False

    def _refuse(self, error: GatewayError) -> None:
        """Answer with an error before the request is complete, and close."""
        self._ignore = True
        self._body = []
        body = error.body if self.exchange is None else self.exchange.operation.error(error)
        self.exchange = None
        request_id = new_id()
        peer = self.client[0] if self.client else ""
        self.front.on_reject(error, request_id, peer)
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in error.headers)
        self.transport.write(
            b"%b%bcontent-type: application/json\r\nx-request-id: %b\r\nx-tunegate-error: %b\r\n%b"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b"
            % (
                STATUS_LINES[error.status],
                self.front.first_lines(dict(self.headers or ())),
                request_id.encode(),
                error.code.encode(),
                lines,
                len(body),
                body,
            )
        )
        self.transport.close()


def _path(url: bytes) -> bytes:
    """The path of a request target, which may have a query or be in absolute form."""
    try:
        return httptools.parse_url(url).path or b""
    except httptools.HttpParserInvalidURLError:
        return b""


def bind(front: Front) -> type[InferenceProtocol]:
    """The protocol class for `uvicorn.Config(http=…)`, bound to one Front."""
    return type("BoundInferenceProtocol", (InferenceProtocol,), {"front": front})
