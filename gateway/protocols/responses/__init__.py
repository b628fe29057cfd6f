"""OpenAI's Responses API as a dialect."""

from __future__ import annotations

import orjson

from gateway.errors import GatewayError
from gateway.protocols import fields
from gateway.protocols.base import Origin, UsageOf
from gateway.protocols.canonical import Document, Reply, Request
from gateway.protocols.responses import reply as replies, request as requests, writer as writers, written
from gateway.protocols.responses.reader import ResponsesReader
from gateway.protocols.responses.writer import ResponsesWriter
from gateway.protocols.sse import Events


class Responses:
    """See `gateway.protocols.base.Inbound` and `Outbound`."""

    operation = "responses"
    event_stream = "text/event-stream"

    def read_request(self, document: Document) -> Request:
        """The request of a body."""
        return requests.read_request(document)

    def write_request(self, request: Request, model: str) -> Document:
        """The body for an upstream."""
        return written.write_request(request, model)

    def read_reply(self, document: Document, usage: UsageOf) -> Reply:
        """A whole answer."""
        return replies.read_reply(document, usage)

    def write_reply(self, reply: Reply, request: Request, origin: Origin) -> bytes:
        """The body of a whole answer."""
        return writers.write_reply(reply, request, origin)

    def reader(self, usage: UsageOf) -> ResponsesReader:
        """For one streamed answer."""
        return ResponsesReader(usage)

    def writer(self, request: Request, origin: Origin) -> ResponsesWriter:
        """For one streamed answer."""
        return ResponsesWriter(request, origin)

    def framer(self, limit: int) -> Events:
        """Server-sent events."""
        return Events(limit)

    def error(self, error: GatewayError) -> bytes:
        """OpenAI's error body."""
        return error.body

    def error_event(self, error: GatewayError) -> bytes:
        """An `error` event. Its number is not that of the stream, which only the writer knows: it comes last anyway."""
        told = orjson.loads(error.body)["error"]
        event = {"type": "error", "code": told["code"], "message": told["message"], "param": told["param"]}
        return b"event: error\ndata: %b\n\n" % orjson.dumps({**event, "sequence_number": 0})

    def with_system(self, document: Document, text: str) -> Document:
        """Before the client's `instructions`; its own system messages stay where they are."""
        own = fields.text(document, "instructions")
        return {**document, "instructions": f"{text}\n\n{own}" if own else text}
