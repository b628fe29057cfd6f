"""Replies that are a stream of server-sent events.

Before the commit point every event is looked at, and a stream that says nothing or says an error is a failure. After
it, blocks of whole events pass untouched; only a block in which the bytes `"usage"` or `"error"` occur is looked into.
A client never gets half an event, so what follows a broken upstream is still a well-formed stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from gateway.errors import UpstreamFailure
from gateway.protocols.sse import EventKind, Framer, event_data, last_border, split
from gateway.streaming import find
from gateway.streaming.body import failure_in

if TYPE_CHECKING:
    from gateway.streaming.reply import Reply

EVENT_BYTES = 16_777_216
"""Longest single event (images travel in them)."""
_NEVER = b"\xff"
"""No event holds this: it is no UTF-8."""
HELD_BYTES = 262_144
"""A stream that goes on without content is committed to after this much: it is the client's to judge then."""


class EventRelay:
    """See the module."""

    tells_events = True

    def __init__(self, reply: Reply) -> None:
        call = reply.ctx.call
        self._reply = reply
        self._framer = Framer(EVENT_BYTES)
        self._wire = wire = reply.wire
        self._usage_key, self._no_usage = wire.usage_key, wire.usage_key + b":null"
        self._end_mark = wire.end_mark or _NEVER
        self._strip = not call.wants_usage and wire.include_usage
        """The usage chunk was our own wish: the client does not get it."""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._events = 0
        self._bytes = 0
        self._envelope = 0
        """Bytes of an event around its text, measured on the first one with content."""
        self._saw_done = False

    def release(self) -> tuple[bytes, int | None]:
        """(events held back so far, no length)."""
        held, self._held = b"".join(self._held), []
        return held, None

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The head came before."""

    def on_data(self, data: bytes) -> None:
        """Frame, inspect where needed, hold or pass on."""
        reply = self._reply
        if reply.over:
            return
        if (
            reply.committed
            and data.endswith(b"\n\n")
            and not self._saw_done
            and not self._framer.waiting
            and (
                data.find(self._usage_key) < 0  # not `in`: see `gateway.protocols.proofs.has_marks`
                or data.count(self._usage_key) == data.count(self._no_usage)  # some vendors say so in every event
            )
            and data.find(b'"error"') < 0
            and data.find(self._end_mark) < 0
        ):  # what all the steps below come to for nearly every chunk, without their calls
            self._events += data.count(b"data:")
            self._bytes += len(data)
            reply.exchange.write(data)  # which does nothing if the client has left
            return
        try:
            block = self._framer.feed(data)
        except ValueError as exc:
            reply.fail(UpstreamFailure("provider_bad_reply", f"The upstream broke its stream: {exc}."))
            return
        if not block:
            return
        if not reply.first.done and not self._inspect(block):
            return
        self._pass(block)

    def on_end(self) -> None:
        """The upstream is through."""
        reply = self._reply
        call, rest = reply.call, self._framer.flush()
        if rest.startswith(b"data:") and self._complete(rest):
            self.on_data(rest + b"\n\n")
        elif rest.strip() and reply.first.done:
            reply.fail(UpstreamFailure("provider_bad_reply", "The upstream's stream ended in the middle of an event."))
        if not reply.first.done:
            self._empty()
        elif not self._saw_done and call is not None and call.cut:
            text = "The upstream closed the connection in the middle of its answer."
            reply.fail(UpstreamFailure("provider_unreachable", text))
        else:
            reply.done()

    def on_failure(self, failure: UpstreamFailure) -> None:
        """Cut short."""
        self._reply.fail(failure)

    def estimate(self) -> int:
        """Output tokens from what was relayed: at least one an event, or a quarter of the text's bytes."""
        text = self._bytes - self._events * self._envelope
        return max(self._events - self._saw_done, text // 4, 0)

    # --- before the commit point

    def _inspect(self, block: bytes) -> bool:
        """Look for content; False if the stream has failed."""
        reply = self._reply
        for event in split(block):
            kind = self._wire.event_kind(event)
            if kind == EventKind.CONTENT:
                self._envelope = max(1, len(event) - self._wire.content_bytes(event))
                reply.ready()
                return True
            if kind == EventKind.ERROR:
                reply.fail(_error_event(event, reply))
                return False
        if b"data:" not in block and block.lstrip()[:1] in (b"<", b"{"):
            reply.fail(UpstreamFailure("provider_bad_reply", "The upstream answered a stream with no event stream."))
            return False
        self._held_bytes += len(block)
        if self._held_bytes > HELD_BYTES:
            reply.ready()
        return True

    def _empty(self) -> None:
        text = "The upstream's stream ended without any content."
        self._reply.fail(UpstreamFailure("provider_bad_reply", text))

    def _complete(self, rest: bytes) -> bool:
        """Whether an event without its blank line is whole all the same: some upstreams end so."""
        data = event_data(rest)
        if data == b"[DONE]":
            return True
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError:
            return False
        return True

    # --- from the commit point on

    def _pass(self, block: bytes) -> None:
        reply = self._reply
        self._events += block.count(b"data:")
        self._bytes += len(block)
        if self._usage_key in block:
            block = self._usage(block)
        if b'"error"' in block and reply.first.done:
            block = self._error(block)
        if self._saw_done or self._end_mark in block:
            # held back until the request is settled: who has read [DONE] has a request that is in the ledger
            border = 0 if self._saw_done else _event_at(block, block.index(self._end_mark))
            self._saw_done = True
            reply.last += block[border:]
            if border:
                self._send(block[:border])
            if reply.first.done and reply.ctx.usage is not None:
                reply.done()  # the client need not wait for the upstream to close its body
        else:
            self._send(block)

    def _send(self, block: bytes) -> None:
        reply = self._reply
        if not reply.committed:
            self._held.append(block)
        elif not reply.client_left:
            reply.exchange.write(block)

    def _usage(self, block: bytes) -> bytes:
        """Note the usage in a block; the block without the chunk that was only ours."""
        kept = []
        for event in split(block):
            raw = find.last_object(event, self._usage_key) if self._usage_key in event else None
            usage = self._wire.usage(raw, self._reply.ctx.usage) if raw is not None else None
            if usage is not None:
                self._reply.ctx.usage = usage
                if self._strip and _only_usage(event):
                    continue
            kept.append(event)
        return b"".join(kept)

    def _error(self, block: bytes) -> bytes:
        """An error event in the middle passes on as it is, unless it quotes our credential; the request has failed."""
        reply, kept = self._reply, []
        for event in split(block):
            if b'"error"' in event and self._wire.event_kind(event) == EventKind.ERROR:
                reply.failure = _error_event(event, reply)
                if any(secret in event for secret in reply.target.endpoint.secrets):
                    continue
                reply.failure_told = True
            kept.append(event)
        return b"".join(kept)


def _event_at(block: bytes, position: int) -> int:
    """Where the event begins that holds this position."""
    return last_border(block[:position])


def _only_usage(event: bytes) -> bool:
    """Whether an event carries usage and no choice."""
    try:
        chunk = orjson.loads(event_data(event))
    except orjson.JSONDecodeError:
        return False
    return isinstance(chunk, dict) and not chunk.get("choices")


def _error_event(event: bytes, reply: Reply) -> UpstreamFailure:
    try:
        chunk = orjson.loads(event_data(event))
    except orjson.JSONDecodeError:
        return UpstreamFailure("provider_bad_reply", "The upstream's stream holds an event that is not JSON.")
    return failure_in(chunk.get("error") if isinstance(chunk, dict) else None, reply)
