"""Finds the usage object in a reply by searching bytes: nothing is parsed but the object itself.

In JSON the bytes `"usage"` can only be a whole string, never a part of one: inside a string its quotes are escaped.
"""

from __future__ import annotations

from typing import Any

import orjson

KEY = b'"usage"'


def last_object(data: bytes) -> dict[str, Any] | None:
    """The last `"usage": {…}` in some bytes, decoded; None if there is none (null does not count)."""
    position = data.rfind(KEY)
    while position >= 0:
        found = _object_after(data, position + len(KEY))
        if found is not None:
            return found
        position = data.rfind(KEY, 0, position)
    return None


def _object_after(data: bytes, position: int) -> dict[str, Any] | None:
    start = data.find(b"{", position)
    if start < 0 or data[position:start].strip() != b":":
        return None
    end = data.find(b"}", start)
    # usage objects hold numbers and further objects: counting braces is enough, and a misfit fails to decode
    while end >= 0 and data.count(b"{", start, end) > data.count(b"}", start, end + 1):
        end = data.find(b"}", end + 1)
    try:
        found = orjson.loads(data[start : end + 1]) if end >= 0 else None
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
