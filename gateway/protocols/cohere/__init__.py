"""Cohere's Chat API, version 2, as a dialect of upstreams."""

from __future__ import annotations

from gateway.protocols.base import UsageOf
from gateway.protocols.canonical import Document, Reply, Request
from gateway.protocols.cohere import reply as replies, request as requests
from gateway.protocols.cohere.reply import CohereReader
from gateway.protocols.sse import Events


class Cohere:
    """See `gateway.protocols.base.Outbound`."""

    operation = "cohere"
    event_stream = "text/event-stream"

    def write_request(self, request: Request, model: str) -> Document:
        """The body for an upstream."""
        return requests.write_request(request, model)

    def read_reply(self, document: Document, usage: UsageOf) -> Reply:
        """A whole answer."""
        return replies.read_reply(document, usage)

    def reader(self, usage: UsageOf) -> CohereReader:
        """For one streamed answer."""
        return CohereReader(usage)

    def framer(self, limit: int) -> Events:
        """Server-sent events."""
        return Events(limit)
