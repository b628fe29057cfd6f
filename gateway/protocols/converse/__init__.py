"""AWS Bedrock's Converse API as a dialect of upstreams."""

from __future__ import annotations

from gateway.protocols.base import UsageOf
from gateway.protocols.canonical import Document, Reply, Request
from gateway.protocols.converse import reply as replies, request as requests
from gateway.protocols.converse.frames import Frames
from gateway.protocols.converse.reply import ConverseReader


class Converse:
    """See `gateway.protocols.base.Outbound`."""

    operation = "converse"
    event_stream = "application/vnd.amazon.eventstream"

    def write_request(self, request: Request, model: str) -> Document:
        """The body for an upstream; its path says the model and whether to stream."""
        return requests.write_request(request, model)

    def read_reply(self, document: Document, usage: UsageOf) -> Reply:
        """A whole answer."""
        return replies.read_reply(document, usage)

    def reader(self, usage: UsageOf) -> ConverseReader:
        """For one streamed answer."""
        return ConverseReader(usage)

    def framer(self, limit: int) -> Frames:
        """AWS's binary frames."""
        return Frames(limit)
