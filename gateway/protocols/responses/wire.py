"""Answers of the Responses API that pass through: what must be known of them is found on the side."""

from __future__ import annotations

from typing import Any

from gateway.protocols import answers
from gateway.protocols.canonical import Usage
from gateway.protocols.responses.reply import read_usage
from gateway.protocols.sse import EventKind
from gateway.protocols.wire import ObjectWire

_PREAMBLE = frozenset(
    {"response.created", "response.in_progress", "response.queued", "response.output_item.added",
     "response.content_part.added", "response.reasoning_summary_part.added"}
)  # fmt: skip


class ResponsesWire(ObjectWire):
    """See `gateway.providers.base.Wire`. The last event has three names and no mark of its own but its usage."""

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Counts of the whole response, in its last event."""
        return read_usage(raw)

    def kind_of(self, document: dict[str, Any]) -> int:
        """Content is any delta, any finished item and the end."""
        kind = document.get("type")
        if kind in ("error", "response.failed"):
            return EventKind.ERROR
        return EventKind.PREAMBLE if kind in _PREAMBLE else EventKind.CONTENT

    def size_of(self, document: dict[str, Any]) -> int:
        """Texts and arguments."""
        if "output" in document:
            return sum(map(_size, answers.objects(document["output"])))
        return len(answers.text(document, "delta").encode())


def _size(item: dict[str, Any]) -> int:
    texts = sum(len(answers.text(part, "text").encode()) for part in answers.objects(item.get("content")))
    return texts + len(answers.text(item, "arguments").encode())
