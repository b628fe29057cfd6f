"""From the bytes of a body to the text that the request log keeps: redacted, and no longer than the route allows.

JSON is redacted value by value, as it reads and not as it is spelt, so no escape hides anything. A stream is put
together first: what a model says comes in pieces of a few letters, and no piece of a phone number looks like one.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

from gateway.copies.recording import is_event
from gateway.protocols.sse import split
from gateway.redact import Redactor

_GROWS = frozenset({"content", "reasoning_content", "reasoning", "refusal", "text", "arguments", "data"})
"""Members whose pieces are appended to each other; of all others the last value counts."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
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
        text = redactor.redact(_readable(raw), counts)
    kept = text.encode()[:most].decode(errors="ignore")
    return Rendered(kept, cut or len(kept) < len(text))


def assembled(raw: bytes) -> dict[str, Any]:
    """One object from the events of a stream: `choices` with whole messages, other members as they came last.

    What is no JSON is kept under `unreadable`, but for the marks of the protocol itself.
    """
    whole: dict[str, Any] = {}
    choices: dict[Any, dict[str, Any]] = {}
    unreadable: list[str] = []
    for event in split(raw):
        for line in event.splitlines():
            data = line.removeprefix(b"data:").strip()
            if not line.startswith(b"data:") or data in (b"", b"[DONE]"):
                continue
            try:
                chunk = orjson.loads(data)
            except orjson.JSONDecodeError:
                chunk = None
            if not isinstance(chunk, dict):
                unreadable.append(_readable(data))
                continue
            found = chunk.pop("choices", None)
            whole.update(chunk)
            for choice in found if isinstance(found, list) else ():
                if isinstance(choice, dict):
                    _merge(choices.setdefault(str(choice.get("index", 0)), {}), choice)
    if choices:
        whole["choices"] = list(choices.values())
    if unreadable:
        whole["unreadable"] = unreadable
    return whole


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        held = into.get(name)
        if isinstance(held, str) and isinstance(value, str) and name in _GROWS:
            into[name] = held + value
        elif isinstance(held, dict) and isinstance(value, dict):
            _merge(held, value)
        elif isinstance(held, list) and isinstance(value, list):
            _merge_lists(held, value)
        elif value is not None or name not in into:
            into[name] = value


def _merge_lists(into: list[Any], more: list[Any]) -> None:
    """Items with an `index` (tool calls) grow, all others are added."""
    for item in more:
        index = item.get("index") if isinstance(item, dict) else None
        held = None
        if index is not None:
            held = next((one for one in into if isinstance(one, dict) and one.get("index") == index), None)
        if held is None:
            into.append(item)
        else:
            _merge(held, item)


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


def _readable(raw: bytes) -> str:
    """Text that is not JSON, or only the beginning of it: escapes become what they mean."""
    text = _ESCAPE.sub(_unescaped, raw.decode(errors="replace"))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(match: re.Match[str]) -> str:
    code, plain = match.groups()
    return chr(int(code, 16)) if code else _PLAIN.get(plain, plain)
