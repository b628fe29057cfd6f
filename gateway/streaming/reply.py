"""One upstream answer on its way to the client: held back until it is worth committing to, then relayed.

`first` resolves at the commit point: the whole body of an ordinary reply (up to HOLD_BYTES), the first content of a
stream. Until then a failure is an exception that another attempt may follow; after it, nothing is retried.
`finished()` resolves when there is nothing more to relay but `last`, the bytes that go out once the request is settled.
"""

from __future__ import annotations

import asyncio
import time
import zlib

from gateway.context import Context
from gateway.contract.snapshot import Breaker
from gateway.errors import GatewayError, UpstreamFailure
from gateway.protocols.canonical import Usage
from gateway.protocols.tasks.base import Task
from gateway.protocols.translation import Translation
from gateway.providers.base import Wire
from gateway.routing.health import TargetHealth
from gateway.runtime import Target
from gateway.server.exchange import Exchange
from gateway.server.running import Moment
from gateway.streaming.body import BodyRelay, ErrorBody, Told
from gateway.streaming.events import EventRelay
from gateway.streaming.raw import RawRelay
from gateway.streaming.translated import TaskBody, TranslatedBody, TranslatedEvents, WrittenAnew
from gateway.upstream.call import Sink, UpstreamCall

PASSED_ON = frozenset(
    {b"content-type", b"content-disposition", b"content-language", b"cache-control", b"openai-processing-ms",
     b"openai-version"}
)  # fmt: skip
"""Reply headers that reach the client. Rate limits of the company's account, cookies and the like do not."""


_WITH_BODY = (BodyRelay, Told, WrittenAnew)
OPENING = 4096
"""Bytes in which the id of an answer is found."""


class ClientGone(Exception):
    """The client closed its connection before the commit point."""


class Reply:
    """See the module. It is the sink of its upstream call until the head tells which relay takes over."""

    __slots__ = (
        "_finished", "_health", "_probe", "call", "client_left", "closed", "committed", "content_at", "ctx", "exchange",
        "failure", "failure_told", "first", "headers", "is_event_stream", "last", "loop", "opening", "over",
        "passed_lines", "relay", "status", "target", "task", "translation", "whole", "wire",
    )  # fmt: skip

    def __init__(
        self,
        ctx: Context,
        exchange: Exchange,
        target: Target,
        health: TargetHealth,
        now: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.ctx = ctx
        self.exchange = exchange
        self.target = target
        self._health = health
        self._probe = health.begin(now)
        self.translation: Translation | None = None
        """Set if the target's dialect is not the client's."""
        self.task: Task | None = None
        """The same of what is no conversation."""
        self.loop = loop
        self.call: UpstreamCall | None = None
        self.first = Moment(loop)
        self.relay: EventRelay | BodyRelay | RawRelay | Told | TranslatedEvents | WrittenAnew | None = None
        self.wire: Wire
        """Reads the answer; set if there is no translation."""
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.committed = False
        self.is_event_stream = False
        """Events are relayed, so that an error can be told as one more."""
        self.last = b""
        """What remains to be sent when the request has been settled."""
        self.content_at = 0.0
        """Monotonic time of the first content."""
        self.failure: GatewayError | None = None
        """What ended the reply after the commit point."""
        self.failure_told = False
        """The upstream's own error event has reached the client."""
        self.client_left = False
        self.opening = b""
        """The first bytes of an answer that is kept, if it is not `whole`."""
        self.whole = False
        """The body is complete and was never begun: it goes out in one piece."""
        self.passed_lines = b""
        """The upstream's header lines that reach the client."""
        self.over = False
        """Nothing more will be relayed."""
        self.closed = False
        self._finished: Moment | None = None

    # --- the pipeline's side

    @property
    def body(self) -> bytes:
        """The body of a `whole` reply."""
        assert isinstance(self.relay, _WITH_BODY)
        return self.relay.body

    def succeeded(self) -> None:
        """The reply came to its end: its target is well."""
        self._health.succeeded()

    def broke(self, breaker: Breaker, error: str) -> None:
        """The reply failed after its first content: its target is to blame."""
        self._health.failed(time.monotonic(), breaker, error)

    def commit(self, lines: bytes) -> None:
        """Begin the client's answer with all that was held back; from now on bytes flow as they come."""
        self.committed = True
        self.exchange.on_pause, self.exchange.on_resume = self._pause, self._resume
        assert self.relay is not None
        self.is_event_stream = self.relay.tells_events
        held, length = self.relay.release()
        if self.ctx.call.kept:
            self.opening = held[:OPENING]
        self.exchange.begin(self.status, lines + self.passed_lines, held, length)
        if self.exchange.paused:
            self._pause()

    def follow(self, earlier: Reply) -> None:
        """Go on where another reply has ended, which gave the client no answer, or the beginning of its stream."""
        earlier.close()
        self.exchange = earlier.exchange
        self.exchange.on_gone = self.gone
        if not earlier.committed:
            return
        self.committed = self.is_event_stream = True
        self.exchange.on_pause, self.exchange.on_resume = self._pause, self._resume
        assert self.relay is not None
        held, _ = self.relay.release()
        self.exchange.write(held)
        if self.exchange.paused:
            self._pause()

    def finished(self) -> Moment:
        """Comes when nothing more will be relayed."""
        self._finished = Moment(self.loop)
        self._finished.done = self.over
        return self._finished

    def gone(self) -> None:
        """The client left: stop the upstream, or let it run to its usage where the endpoint says `drain`."""
        self.client_left = True
        if not self.first.done:
            self.stop()
            self.first.come(ClientGone())
        elif not self.over:
            spec = self.target.endpoint.spec
            if spec.on_client_gone == "drain" and self.call is not None and not self.call.done:
                self.call.resume()
                self.loop.call_later(spec.drain_seconds, self._end_drain)
            else:
                self.stop()
                self.done()

    def close(self) -> None:
        """The reply is over for this request, however it ended. A second call changes nothing."""
        if self.closed:
            return
        self.closed = True
        exchange = self.exchange
        exchange.on_gone = exchange.on_pause = exchange.on_resume = None
        if not self.over:
            self.over = True
            self.stop()
        self.first.done = True
        self._health.done(self._probe)
        # no cycles: a request's objects go when it goes, and the next one finds their memory warm
        self.relay = self.call = None

    def stop(self) -> None:
        """Close the upstream's connection if it is still answering."""
        if self.call is not None:
            self.call.abort()

    def _end_drain(self) -> None:
        if not self.over:
            self.stop()
            self.done()

    def _pause(self) -> None:
        if self.call is not None and not self.call.done:
            self.call.pause()

    def _resume(self) -> None:
        if self.call is not None and not self.call.done:
            self.call.resume()

    # --- the relays' side

    def ready(self) -> None:
        """The commit point is reached."""
        if not self.first.done:
            self.content_at = time.monotonic()
            if self.call is not None:
                self.call.content_seen = True
            self.first.come()

    def done(self) -> None:
        """Nothing more will be relayed."""
        if not self.over:
            self.over = True
            if self.ctx.usage is None and self.relay is not None:
                self.ctx.relayed_tokens = self.relay.estimate()
            if self._finished is not None:
                self._finished.come()

    def fail(self, failure: UpstreamFailure) -> None:
        """The upstream failed: an exception before the commit point, the end of the relay after it."""
        self.stop()
        if not self.first.done:
            failure.upstream_status = failure.upstream_status or self.status
            self.first.come(failure)
        elif not self.over:
            self.failure = failure
            self.done()

    def blocked(self, error: GatewayError) -> None:
        """The guard lets no more of the answer pass. What the model has done by now is charged; it is not to blame."""
        self.stop()
        self.ctx.first_content = self.ctx.first_content or time.monotonic()
        if self.first.done:
            self.failure = self.failure or error
            self.done()
        else:
            self.done()
            self.first.come(UpstreamFailure(error.code, error.message, retriable=False, blames_target=False))

    def told(self, body: bytes) -> None:
        """The gateway's own answer: an estimate, which costs nothing."""
        self.status = 200
        self.passed_lines = b"content-type: application/json\r\nx-tunegate-estimated: true\r\n"
        self.ctx.usage = Usage()
        self.relay, self.whole = Told(body), True
        self.done()
        self.ready()

    def broken(self, error: GatewayError) -> None:
        """The client's upload will not come to its end."""
        self.fail(upload_broken(error))

    # --- upstream.call.Sink, until the head is known

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Choose the relay that fits the answer."""
        self.status = status
        self.headers = headers
        for name in PASSED_ON.intersection(headers):
            self.passed_lines += b"%b: %b\r\n" % (name, headers[name])
        sink: Sink
        if status != 200:
            sink = ErrorBody(self)
        elif self.translation is not None:
            sink = self.relay = self._translated(self.translation)
        elif self.task is not None:
            self.passed_lines = b"content-type: application/json\r\n"
            sink = self.relay = TaskBody(self, self.task)
        elif self.wire.content != "object" and self._is_raw(headers):
            sink = self.relay = RawRelay(self)
        elif self._is_stream(headers):
            sink = self.relay = EventRelay(self)
        else:
            sink = self.relay = BodyRelay(self)
        if b"content-encoding" in headers:
            encoding = headers[b"content-encoding"].strip().lower()
            if encoding not in (b"", b"identity"):
                sink = Inflate(self, sink, encoding)
        assert self.call is not None
        self.call.sink = sink

    def _is_stream(self, headers: dict[bytes, bytes]) -> bool:
        if self.wire.content == "media":  # whether it streams may be said where nobody looks: behind a form's file
            return _is(headers, b"text/event-stream")
        return self.ctx.call.stream and not _is(headers, b"application/json")

    def _is_raw(self, headers: dict[bytes, bytes]) -> bool:
        told = _is(headers, b"application/json") or _is(headers, b"text/event-stream")
        return self.wire.content == "bytes" or not told

    def _translated(self, translation: Translation) -> TranslatedEvents | TranslatedBody:
        stream = translation.request.stream
        self.passed_lines = b"content-type: text/event-stream\r\n" if stream else b"content-type: application/json\r\n"
        whole = not stream or _is(self.headers, b"application/json")
        return TranslatedBody(self, translation) if whole else TranslatedEvents(self, translation)

    def on_data(self, data: bytes) -> None:
        """Cannot come before the head."""
        raise AssertionError("body before head")

    def on_end(self) -> None:
        """Cannot come before the head."""
        raise AssertionError("end before head")

    def on_failure(self, failure: UpstreamFailure) -> None:
        """No answer came at all."""
        self.fail(failure)


def upload_broken(error: GatewayError) -> UpstreamFailure:
    """What has become of a client's upload, as the end of an attempt: no other one would end better."""
    return UpstreamFailure(error.code, error.message, retriable=False, blames_target=False, status=error.status)


def _is(headers: dict[bytes, bytes], media_type: bytes) -> bool:
    return headers.get(b"content-type", b"").lower().startswith(media_type)


class Inflate:
    """Decodes a reply that was compressed although nobody asked for it, since its usage and events must be seen.

    Bounded: one read of input may not become more than a megabyte of output.
    """

    MOST = 1_048_576

    def __init__(self, reply: Reply, sink: Sink, encoding: bytes) -> None:
        self._reply = reply
        self._sink = sink
        known = encoding in (b"gzip", b"x-gzip", b"deflate")
        self._decoder = zlib.decompressobj(wbits=47 if encoding != b"deflate" else 15) if known else None
        self._encoding = encoding

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The head came before."""

    def on_data(self, data: bytes) -> None:
        """Decode and hand on."""
        if self._decoder is None:
            self._bad(f"is encoded as {self._encoding[:20].decode('latin-1')!r}, which nobody asked for")
            return
        try:
            out = self._decoder.decompress(data, self.MOST)
        except zlib.error:
            self._bad("claims to be compressed and is not")
            return
        if self._decoder.unconsumed_tail:
            self._bad("expands beyond all measure")
        elif out:
            self._sink.on_data(out)

    def on_end(self) -> None:
        """Hand on, if the compressed data came to its own end too."""
        if self._decoder is not None and not self._decoder.eof:
            self._bad("breaks off in the middle of its compressed data")
        else:
            self._sink.on_end()

    def on_failure(self, failure: UpstreamFailure) -> None:
        """Hand on."""
        self._sink.on_failure(failure)

    def _bad(self, what: str) -> None:
        self._reply.fail(UpstreamFailure("provider_bad_reply", f"The upstream's reply {what}."))
