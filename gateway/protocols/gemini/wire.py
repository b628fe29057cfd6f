"""Answers of the Gemini API that pass through: what must be known of them is found on the side."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols.canonical import Usage
from gateway.protocols.gemini.reply import read_usage
from gateway.protocols.sse import EventKind, event_data


class GeminiWire:
    """See `gateway.providers.base.Wire`. Only the end of the body tells the end of a stream."""

    usage_key = b'"usageMetadata"'
    end_mark = b""
    include_usage = False

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Each event has the counts so far."""
        return read_usage(raw)

    def event_kind(self, event: bytes) -> int:
        """Content is a part, a reason to finish, or a reason not to begin."""
        data = event_data(event)
        if not data:
            return EventKind.PREAMBLE
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return EventKind.ERROR
        if not isinstance(document, dict) or document.get("error"):
            return EventKind.ERROR
        said = any(_parts(one) or one.get("finishReason") for one in _candidates(document))
        return EventKind.CONTENT if said or document.get("promptFeedback") else EventKind.PREAMBLE

    def content_bytes(self, event: bytes) -> int:
        """Length of the text of one event, or of a whole reply."""
        try:
            document = orjson.loads(event if event.startswith(b"{") else event_data(event))
        except orjson.JSONDecodeError:
            return 0
        if not isinstance(document, dict):
            return 0
        return sum(_size(part) for one in _candidates(document) for part in _parts(one))


def _candidates(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = document.get("candidates")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _parts(candidate: dict[str, Any]) -> list[dict[str, Any]]:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _size(part: dict[str, Any]) -> int:
    text, call = part.get("text"), part.get("functionCall")
    return (len(text.encode()) if isinstance(text, str) else 0) + (len(orjson.dumps(call)) if call else 0)
