"""OpenAI's Chat Completions API as a dialect."""

from __future__ import annotations

from gateway.errors import GatewayError
from gateway.protocols.base import Origin, UsageOf
from gateway.protocols.canonical import Document, Reply, Request
from gateway.protocols.chat import reply as replies, request as requests
from gateway.protocols.chat.stream import ChatReader, ChatWriter
from gateway.protocols.chat.style import Style
from gateway.protocols.sse import Events


class Chat:
    """See `gateway.protocols.base.Inbound` and `Outbound`; `style` is what an upstream wants said differently."""

    operation = "chat"
    event_stream = "text/event-stream"

    def __init__(self, style: Style | None = None) -> None:
        self._style = style or Style()

    def read_request(self, document: Document) -> Request:
        """The request of a body."""
        return requests.read_request(document)

    def write_request(self, request: Request, model: str) -> Document:
        """The body for an upstream; its streams tell their usage if they are asked to."""
        document = requests.write_request(request, model, self._style)
        if request.stream and self._style.include_usage:
            document["stream_options"] = {"include_usage": True}
        return document

    def read_reply(self, document: Document, usage: UsageOf) -> Reply:
        """A whole answer."""
        return replies.read_reply(document, usage)

    def write_reply(self, reply: Reply, request: Request, origin: Origin) -> bytes:
        """The body of a whole answer."""
        return replies.write_reply(reply, request, origin)

    def reader(self, usage: UsageOf) -> ChatReader:
        """For one streamed answer."""
        return ChatReader(usage)

    def writer(self, request: Request, origin: Origin) -> ChatWriter:
        """For one streamed answer."""
        return ChatWriter(request, origin)

    def framer(self, limit: int) -> Events:
        """Server-sent events."""
        return Events(limit)

    def error(self, error: GatewayError) -> bytes:
        """OpenAI's error body."""
        return error.body

    def error_event(self, error: GatewayError) -> bytes:
        """The same as an event without a name."""
        return error.event

    def with_system(self, document: Document, text: str) -> Document:
        """A system message in front; the client's own system messages stay where they are."""
        return {**document, "messages": [{"role": "system", "content": text}, *document["messages"]]}
