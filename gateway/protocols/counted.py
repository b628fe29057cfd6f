"""Answers that are no conversations pass untouched; what was counted is found in them, if the vendor says it."""

from __future__ import annotations

from typing import Any

from gateway.protocols.canonical import Usage
from gateway.protocols.sse import EventKind
from gateway.protocols.wire import Content, ObjectWire

_INPUT = ("input_tokens", "prompt_tokens", "total_tokens")
_OUTPUT = ("output_tokens", "completion_tokens")


class CountedWire(ObjectWire):
    """See `gateway.providers.base.Wire`. Audio is told in tokens or in seconds; only tokens are counted."""

    def __init__(self, *, usage_key: bytes = b'"usage"', content: Content = "object") -> None:
        self.usage_key = usage_key
        self.content = content

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """By either family of names; a total alone is input."""
        given, made = _first(raw, _INPUT), _first(raw, _OUTPUT)
        return None if given is None else Usage(input=given, output=made or 0)

    def kind_of(self, document: dict[str, Any]) -> int:
        """Anything but an error is content."""
        return EventKind.ERROR if document.get("error") or document.get("type") == "error" else EventKind.CONTENT

    def size_of(self, document: dict[str, Any]) -> int:
        """Only a transcript is text."""
        text = document.get("delta", document.get("text"))
        return len(text.encode()) if isinstance(text, str) else 0


class UncountedWire(CountedWire):
    """Files and batches: what a batch has used was not used by whoever looks at it."""

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """None."""
        return None


def _first(raw: dict[str, Any], names: tuple[str, ...]) -> int | None:
    return next((value for name in names if type(value := raw.get(name)) is int and value >= 0), None)
