"""Changes the few bytes of a JSON body that must change, and leaves all others as they came.

Re-encoding a parsed body would lose what JSON libraries do not keep: number formats, key order, duplicate keys. So a
value is replaced, or a member inserted, in the client's own bytes. The common body is handled by searching; one that
could be ambiguous (a key that occurs twice, or is spelt with escapes) is scanned member by member.
"""

from __future__ import annotations

import json
import re

from gateway.errors import GatewayError

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*"((?:[^"\\]|\\.)*)"')


def rewrite(body: bytes, replace: dict[str, bytes], insert: bytes = b"") -> list[bytes]:
    """`body` in pieces, with the values of top-level members replaced and `insert` put behind the opening brace.

    `replace` maps member names to encoded values; a member that is absent is left absent. `insert` is encoded members
    with a trailing comma. Raises GatewayError(caller_bad_request) if a member to be replaced occurs twice.
    """
    pieces: list[bytes] = []
    position = 0
    if insert:
        position = body.index(b"{") + 1
        pieces += [body[:position], insert]
    for start, end, value in sorted(_spans(body, replace)):
        pieces += [body[position:start], value]
        position = end
    pieces.append(body[position:] if position else body)
    return pieces


def _spans(body: bytes, replace: dict[str, bytes]) -> list[tuple[int, int, bytes]]:
    if not replace:
        return []
    if len(replace) == 1 and "model" in replace and (found := _plain_model(body)) is not None:
        return [(*found, replace["model"])]
    try:
        return [(start, end, replace[name]) for name, start, end in _scan(body, set(replace))]
    except RecursionError as exc:
        raise GatewayError("caller_bad_json", "The JSON body is nested too deeply.") from exc


def _plain_model(body: bytes) -> tuple[int, int] | None:
    """Where the value of `"model"` stands, if its spelling occurs exactly once and cannot hide behind escapes.

    Any escaped spelling of one of its letters is \\u006X: without those, the only `"model"` is the parsed member.
    """
    if body.count(b'"model"') != 1 or b"\\u006" in body:
        return None
    found = _MODEL.search(body)
    return (found.start(1) - 1, found.end(1) + 1) if found else None


def _scan(body: bytes, names: set[str]) -> list[tuple[str, int, int]]:
    """(name, start, end) in bytes of each top-level member among `names`. The body is known to be a JSON object."""
    text = body.decode("utf-8")
    ascii_only = len(text) == len(body)
    spans: list[tuple[str, int, int]] = []
    position = _skip(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = json.decoder.scanstring(text, position + 1, True)  # type: ignore[attr-defined]
        position = _skip(text, _skip(text, position) + 1)
        _, end = _DECODER.raw_decode(text, position)
        if name in names:
            if any(name == seen for seen, _, _ in spans):
                raise GatewayError("caller_bad_request", f"The member {name!r} occurs twice in the body.", param=name)
            spans.append((name, position, end))
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    if ascii_only:
        return spans
    return [(n, len(text[:s].encode()), len(text[:e].encode())) for n, s, e in spans]


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()
