"""Answers of the Messages API that pass through: what must be known of them is found on the side."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols import answers
from gateway.protocols.anthropic.reply import usage_of
from gateway.protocols.canonical import Usage
from gateway.protocols.sse import EventKind
from gateway.protocols.wire import ObjectWire

_TEXTS = ("text", "partial_json", "thinking")


class AnthropicWire(ObjectWire):
    """See `gateway.providers.base.Wire`."""

    end_mark = b"event: message_stop"

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """A stream tells the input first and the output last."""
        return usage_of(raw, before)

    def kind_of(self, document: dict[str, Any]) -> int:
        """Content is whatever opens or fills a block, and the reason why the message stops."""
        kind = document.get("type")
        if kind == "error":
            return EventKind.ERROR
        if kind == "message_stop":
            return EventKind.DONE
        if kind in ("message_start", "ping", "content_block_stop"):
            return EventKind.PREAMBLE
        block = document.get("content_block")
        return EventKind.PREAMBLE if isinstance(block, dict) and block.get("type") == "text" else EventKind.CONTENT

    def size_of(self, document: dict[str, Any]) -> int:
        """Texts and arguments."""
        if "content" in document:
            return sum(map(_size, answers.objects(document["content"])))
        return _size(answers.mapping(document.get("delta")))


def _size(part: dict[str, Any]) -> int:
    size = sum(len(answers.text(part, name).encode()) for name in _TEXTS)
    return size + (len(orjson.dumps(part["input"])) if part.get("input") else 0)
