"""Answers of the Messages API that pass through: what must be known of them is found on the side."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols.anthropic.reply import usage_of
from gateway.protocols.canonical import Usage
from gateway.protocols.sse import EventKind, event_data

_TEXTS = ("text", "partial_json", "thinking")


class AnthropicWire:
    """See `gateway.providers.base.Wire`."""

    usage_key = b'"usage"'
    end_mark = b"event: message_stop"
    include_usage = False

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """A stream tells the input first and the output last."""
        return usage_of(raw, before)

    def event_kind(self, event: bytes) -> int:
        """Content is whatever opens or fills a block, and the reason why the message stops."""
        data = event_data(event)
        if not data:
            return EventKind.PREAMBLE
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return EventKind.ERROR
        kind = document.get("type") if isinstance(document, dict) else "error"
        if kind == "error":
            return EventKind.ERROR
        if kind == "message_stop":
            return EventKind.DONE
        if kind in ("message_start", "ping", "content_block_stop"):
            return EventKind.PREAMBLE
        block = document.get("content_block")
        return EventKind.PREAMBLE if isinstance(block, dict) and block.get("type") == "text" else EventKind.CONTENT

    def content_bytes(self, event: bytes) -> int:
        """Length of the text of one event, or of a whole reply."""
        try:
            document = orjson.loads(event if event.startswith(b"{") else event_data(event))
        except orjson.JSONDecodeError:
            return 0
        if not isinstance(document, dict):
            return 0
        content, delta = document.get("content"), document.get("delta")
        parts = content if isinstance(content, list) else [delta]
        return sum(_size(part) for part in parts if isinstance(part, dict))


def _size(part: dict[str, Any]) -> int:
    size = sum(len(text.encode()) for name in _TEXTS if isinstance(text := part.get(name), str))
    return size + (len(orjson.dumps(part["input"])) if part.get("input") else 0)
