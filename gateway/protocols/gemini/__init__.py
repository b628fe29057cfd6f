"""Google's Gemini API as a dialect: `generateContent` and `streamGenerateContent` of AI Studio and Vertex AI."""

from __future__ import annotations

import orjson

from gateway.errors import GatewayError
from gateway.protocols import fields
from gateway.protocols.base import Origin, UsageOf
from gateway.protocols.canonical import Document, Reply, Request
from gateway.protocols.gemini import reply as replies, request as requests, writer as writers, written
from gateway.protocols.gemini.names import camel
from gateway.protocols.gemini.reply import GeminiReader
from gateway.protocols.gemini.writer import GeminiWriter
from gateway.protocols.sse import Events

_RPC = "type.googleapis.com/google.rpc."
_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED", 413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL",
    502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


class Gemini:
    """See `gateway.protocols.base.Inbound` and `Outbound`. Streams are asked for with `alt=sse`."""

    operation = "gemini"
    event_stream = "text/event-stream"

    def read_request(self, document: Document) -> Request:
        """The request of a body."""
        return requests.read_request(document)

    def write_request(self, request: Request, model: str) -> Document:
        """The body for an upstream; its path says the model and whether to stream."""
        return written.write_request(request, model)

    def read_reply(self, document: Document, usage: UsageOf) -> Reply:
        """A whole answer."""
        return replies.read_reply(document, usage)

    def write_reply(self, reply: Reply, request: Request, origin: Origin) -> bytes:
        """The body of a whole answer."""
        return writers.write_reply(reply, origin)

    def reader(self, usage: UsageOf) -> GeminiReader:
        """For one streamed answer."""
        return GeminiReader(usage)

    def writer(self, request: Request, origin: Origin) -> GeminiWriter:
        """For one streamed answer."""
        return GeminiWriter(origin)

    def framer(self, limit: int) -> Events:
        """Server-sent events."""
        return Events(limit)

    def error(self, error: GatewayError) -> bytes:
        """Google's error body."""
        if error.passed is not None:
            return error.passed
        status = _STATUS.get(error.status, "UNKNOWN")
        details: list[Document] = [{"@type": f"{_RPC}ErrorInfo", "reason": error.code.upper(), "domain": "tunegate"}]
        wait = dict(error.headers).get(b"retry-after", b"")
        if wait.isdigit():
            details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": f"{wait.decode()}s"})
        if error.code.startswith("policy_") and error.status == 429:
            violation = {"subject": error.code, "description": error.message}
            details.append({"@type": f"{_RPC}QuotaFailure", "violations": [violation]})
        told = {"code": error.status, "message": error.message, "status": status, "details": details}
        return orjson.dumps({"error": told})

    def error_event(self, error: GatewayError) -> bytes:
        """The same as an event."""
        return b"data: %b\r\n\r\n" % self.error(error)

    def with_system(self, document: Document, text: str) -> Document:
        """Before the client's own system instruction."""
        document = camel(document)
        own = document.get("systemInstruction")
        own = {"parts": [{"text": own}]} if isinstance(own, str) else fields.mapping(own, "systemInstruction")
        parts = [{"text": text}, *fields.objects(own.get("parts"), "systemInstruction.parts")]
        return {**document, "systemInstruction": {**own, "parts": parts}}
