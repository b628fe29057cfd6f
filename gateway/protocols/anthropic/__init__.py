"""Anthropic's Messages API as a dialect."""

from __future__ import annotations

from gateway.errors import GatewayError
from gateway.protocols.anthropic.reply import read_reply, write_reply, written_error, written_error_event
from gateway.protocols.anthropic.request import read_request
from gateway.protocols.anthropic.stream import AnthropicReader, AnthropicWriter
from gateway.protocols.anthropic.written import write_request
from gateway.protocols.base import Origin, UsageOf
from gateway.protocols.canonical import Document, Reply, Request
from gateway.protocols.sse import Events


class Anthropic:
    """See `gateway.protocols.base.Inbound` and `Outbound`."""

    operation = "messages"
    event_stream = "text/event-stream"

    def read_request(self, document: Document) -> Request:
        """The request of a body."""
        return read_request(document)

    def write_request(self, request: Request, model: str) -> Document:
        """The body for an upstream."""
        return write_request(request, model)

    def read_reply(self, document: Document, usage: UsageOf) -> Reply:
        """A whole answer."""
        return read_reply(document, usage)

    def write_reply(self, reply: Reply, request: Request, origin: Origin) -> bytes:
        """The body of a whole answer."""
        return write_reply(reply, origin)

    def reader(self, usage: UsageOf) -> AnthropicReader:
        """For one streamed answer."""
        return AnthropicReader(usage)

    def writer(self, request: Request, origin: Origin) -> AnthropicWriter:
        """For one streamed answer."""
        return AnthropicWriter(origin)

    def framer(self, limit: int) -> Events:
        """Server-sent events."""
        return Events(limit)

    def error(self, error: GatewayError) -> bytes:
        """Its error body."""
        return written_error(error)

    def error_event(self, error: GatewayError) -> bytes:
        """The same as an event of a stream."""
        return written_error_event(error)

    def with_system(self, document: Document, text: str) -> Document:
        """Before the client's own system prompt, which may have cache borders."""
        system = document.get("system")
        if not system:
            return {**document, "system": text}
        rest = [{"type": "text", "text": system}] if isinstance(system, str) else system
        return {**document, "system": [{"type": "text", "text": text}, *rest]}
