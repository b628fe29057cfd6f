"""Answers of the Responses API that pass through: what must be known of them is found on the side."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols.canonical import Usage
from gateway.protocols.responses.reply import read_usage
from gateway.protocols.sse import EventKind, event_data

_PREAMBLE = frozenset(
    {"response.created", "response.in_progress", "response.queued", "response.output_item.added",
     "response.content_part.added", "response.reasoning_summary_part.added"}
)  # fmt: skip


class ResponsesWire:
    """See `gateway.providers.base.Wire`. The last event has three names and no mark of its own but its usage."""

    usage_key = b'"usage"'
    end_mark = b""
    include_usage = False

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Counts of the whole response, in its last event."""
        return read_usage(raw)

    def event_kind(self, event: bytes) -> int:
        """Content is any delta, any finished item and the end."""
        data = event_data(event)
        if not data:
            return EventKind.PREAMBLE
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return EventKind.ERROR
        kind = document.get("type") if isinstance(document, dict) else "error"
        if kind in ("error", "response.failed"):
            return EventKind.ERROR
        return EventKind.PREAMBLE if kind in _PREAMBLE else EventKind.CONTENT

    def content_bytes(self, event: bytes) -> int:
        """Length of the text of one event, or of a whole reply."""
        try:
            document = orjson.loads(event if event.startswith(b"{") else event_data(event))
        except orjson.JSONDecodeError:
            return 0
        if not isinstance(document, dict):
            return 0
        delta, output = document.get("delta"), document.get("output")
        if isinstance(output, list):
            return sum(_size(item) for item in output if isinstance(item, dict))
        return len(delta.encode()) if isinstance(delta, str) else 0


def _size(item: dict[str, Any]) -> int:
    parts = item.get("content")
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return sum(len(text.encode()) for text in (*texts, item.get("arguments")) if isinstance(text, str))
