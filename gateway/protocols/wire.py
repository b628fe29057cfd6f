"""What the wires of dialects share: each event, and each whole body, is one JSON object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import orjson

from gateway.protocols.sse import EventKind, event_data

Content = Literal["object", "media", "bytes"]
"""What whole replies are: JSON objects; these, or sound and text, by their content-type; or anything at all."""


class ObjectWire(ABC):
    """See `gateway.providers.base.Wire`; a dialect says what its objects mean."""

    usage_key = b'"usage"'
    end_mark = b""
    include_usage = False
    content: Content = "object"
    instead_of_model: bytes | None = None

    @abstractmethod
    def kind_of(self, document: dict[str, Any]) -> int:
        """The `EventKind` of an event's object."""

    @abstractmethod
    def size_of(self, document: dict[str, Any]) -> int:
        """Bytes of generated text in an event's object, or a whole reply."""

    def event_kind(self, event: bytes) -> int:
        """Comments are a preamble; what is no object is an error."""
        data = event_data(event)
        if not data:
            return EventKind.PREAMBLE
        document = _object(data)
        return EventKind.ERROR if document is None else self.kind_of(document)

    def content_bytes(self, event: bytes) -> int:
        """Of one event, or of a whole reply."""
        document = _object(event if event.startswith(b"{") else event_data(event))
        return 0 if document is None else self.size_of(document)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
