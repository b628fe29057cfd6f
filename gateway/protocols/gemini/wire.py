"""Answers of the Gemini API that pass through: what must be known of them is found on the side."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols import answers
from gateway.protocols.canonical import Usage
from gateway.protocols.gemini.reply import read_usage
from gateway.protocols.sse import EventKind
from gateway.protocols.wire import ObjectWire


class GeminiWire(ObjectWire):
    """See `gateway.providers.base.Wire`. Only the end of the body tells the end of a stream."""

    usage_key = b'"usageMetadata"'

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Each event has the counts so far."""
        return read_usage(raw)

    def kind_of(self, document: dict[str, Any]) -> int:
        """Content is a part, a reason to finish, or a reason not to begin."""
        if document.get("error"):
            return EventKind.ERROR
        said = any(_parts(one) or one.get("finishReason") for one in _candidates(document))
        return EventKind.CONTENT if said or document.get("promptFeedback") else EventKind.PREAMBLE

    def size_of(self, document: dict[str, Any]) -> int:
        """Texts and arguments."""
        return sum(_size(part) for one in _candidates(document) for part in _parts(one))


def _candidates(document: dict[str, Any]) -> list[dict[str, Any]]:
    return answers.objects(document.get("candidates"))


def _parts(candidate: dict[str, Any]) -> list[dict[str, Any]]:
    return answers.objects(answers.mapping(candidate.get("content")).get("parts"))


def _size(part: dict[str, Any]) -> int:
    call = part.get("functionCall")
    return len(answers.text(part, "text").encode()) + (len(orjson.dumps(call)) if call else 0)
