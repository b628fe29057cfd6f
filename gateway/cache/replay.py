"""An answer that is given again: as it was, or in the other form of its dialect, a stream for a whole and back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from gateway.cache.entry import Entry
from gateway.cache.key import CONVERSATIONS, Dialect
from gateway.context import Context
from gateway.errors import GatewayError
from gateway.protocols.answers import mapping, objects
from gateway.protocols.base import BadReply, Origin
from gateway.protocols.canonical import Broken, Delta, Finished, Reply as Answer, Usage, UsageNow
from gateway.protocols.collect import Collector, deltas_of
from gateway.protocols.sse import event_data, last_border, split
from gateway.routing.health import TargetHealth
from gateway.server.exchange import Exchange
from gateway.streaming.body import Told
from gateway.streaming.events import EVENT_BYTES
from gateway.streaming.reply import Reply

_UNREADABLE = (BadReply, ValueError, GatewayError)
"""What reading an answer, or the request that it is told by, may end with: the model is asked then."""


class Replayed(Reply):
    """The reply that a kept answer is: at its commit point, at its end, and from no upstream."""

    __slots__ = ()

    def __init__(
        self, ctx: Context, exchange: Exchange, body: bytes, events: bool, loop: asyncio.AbstractEventLoop
    ) -> None:
        # the first target stands for the one that is not asked: its health, which a reply reports, is not the real one
        super().__init__(ctx, exchange, ctx.route.tiers[0][0], TargetHealth(), time.monotonic(), loop)
        self.status, self.whole = 200, not events
        if events:
            border = last_border(body[: last_border(body) - 1])  # the last event is sent once the request is settled
            body, self.last = body[:border], body[border:]
        kind = b"text/event-stream" if events else b"application/json"
        self.passed_lines = b"content-type: %b\r\n" % kind
        self.relay = Told(body, events)
        exchange.on_gone = self.gone
        self.done()
        self.ready()


def told(ctx: Context, entry: Entry) -> tuple[bytes, bool] | None:
    """(the body that answers a request, it is a stream of events); None if there is no way to tell it so."""
    call = ctx.call
    dialect = CONVERSATIONS.get(ctx.operation.name)
    same = entry.events == call.stream and (not call.stream or entry.wants_usage == call.wants_usage)
    if same or dialect is None:
        return entry.body, entry.events
    try:
        request = dialect.read_request(call.document if ctx.document is None else ctx.document)
        request.stream, request.include_usage = call.stream, call.wants_usage
        origin = Origin(ctx.id, call.model, int(ctx.ts))
        if not call.stream:
            return dialect.write_reply(_collected(_streamed(dialect, entry)), request, origin), False
        writer = dialect.writer(request, origin)
        deltas = _streamed(dialect, entry) if entry.events else deltas_of(_whole(dialect, entry))
        return b"".join([*map(writer.write, deltas), writer.end()]), True
    except _UNREADABLE:
        return None


def finished(operation: str, entry: Entry) -> bool:
    """Whether an answer came to its own end, without an error inside: nothing else is worth to be given again."""
    dialect = CONVERSATIONS.get(operation)
    try:
        if operation == "completions":
            return _completed([entry.body] if not entry.events else map(event_data, split(entry.body)))
        if dialect is None:
            return not mapping(orjson.loads(entry.body)).get("error", False)
        if entry.events:
            deltas = _streamed(dialect, entry)
            ended = {delta.choice for delta in deltas if isinstance(delta, Finished)}
            return {getattr(delta, "choice", 0) for delta in deltas} <= ended
        choices = _whole(dialect, entry).choices
        return bool(choices) and all(choice.finish is not None for choice in choices)
    except _UNREADABLE:
        return False


def _usage(entry: Entry) -> Any:
    """What the counts of the answer are, however its vendor tells them."""
    known: Usage | None = entry.usage if entry.source == "provider" else None
    return lambda _raw: known


def _streamed(dialect: Dialect, entry: Entry) -> list[Delta]:
    """What a stream said. BadReply: it was not a whole one."""
    framer, reader = dialect.framer(EVENT_BYTES), dialect.reader(_usage(entry))
    deltas = [delta for event in framer.feed(entry.body) + framer.rest() for delta in reader.read(event)]
    deltas += reader.end()
    if any(isinstance(delta, Broken) for delta in deltas):
        raise BadReply("holds an error")
    if entry.source == "provider" and not any(isinstance(delta, UsageNow) for delta in deltas):
        deltas.append(UsageNow(entry.usage))  # its client had not asked for it
    return deltas


def _whole(dialect: Dialect, entry: Entry) -> Answer:
    return dialect.read_reply(mapping(orjson.loads(entry.body)), _usage(entry))


def _collected(deltas: list[Delta]) -> Answer:
    collector = Collector()
    for delta in deltas:
        collector.add(delta)
    return collector.reply


def _completed(chunks: Any) -> bool:
    """The same of the older text interface, whose chunks are shaped like its whole answers."""
    begun, ended = set(), set()
    for data in chunks:
        if not data or data == b"[DONE]":
            continue
        document = mapping(orjson.loads(data))
        if document.get("error"):
            return False
        for choice in objects(document.get("choices")):
            begun.add(choice.get("index", 0))
            if choice.get("finish_reason"):
                ended.add(choice.get("index", 0))
    return bool(ended) and begun == ended
