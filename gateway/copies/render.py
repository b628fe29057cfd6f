"""From the bytes of a body to the text that the request log keeps: redacted, and no longer than the route allows.

JSON is redacted value by value, as it reads and not as it is spelt, so no escape hides anything. A stream is put
together first: what a model says comes in pieces of a few letters, and no piece of a phone number looks like one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from gateway.copies.assemble import assembled, readable
from gateway.copies.recording import is_event
from gateway.redact import Redactor

_LONGEST_NUMBER = 10**9


class Rendered(NamedTuple):
    """One body, ready to be kept."""

    text: str
    cut: bool
    """Something was left out at the end."""


def render(raw: bytes, cut: bool, redactor: Redactor, most: int, counts: dict[str, int]) -> Rendered:
    """The text of a body, or of its beginning if it is `cut`; `most` in bytes. `counts` grows by what was replaced."""
    try:
        document = orjson.loads(raw) if not cut else None
    except orjson.JSONDecodeError:
        document = None
    if document is None and is_event(raw):
        document = assembled(raw)
    text = None if document is None else _redacted(document, redactor, counts)
    if text is None:
        text = redactor.redact(readable(raw), counts)
    kept = text.encode()[:most].decode(errors="ignore")
    return Rendered(kept, cut or len(kept) < len(text))


def _redacted(document: Any, redactor: Redactor, counts: dict[str, int]) -> str | None:
    """The document as JSON; None if it is nested more deeply than anybody could read."""
    found: dict[str, int] = {}
    try:
        text = orjson.dumps(_walk(document, redactor, found)).decode()
    except (RecursionError, orjson.JSONEncodeError):
        return None
    for kind, times in found.items():
        counts[kind] = counts.get(kind, 0) + times
    return text


def _walk(value: Any, redactor: Redactor, counts: dict[str, int]) -> Any:
    if isinstance(value, str):
        return redactor.redact(value, counts)
    if isinstance(value, dict):
        return {redactor.redact(name, counts): _walk(item, redactor, counts) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, redactor, counts) for item in value]
    if type(value) is int and value >= _LONGEST_NUMBER:
        digits = str(value)
        return value if (found := redactor.redact(digits, counts)) == digits else found
    return value
