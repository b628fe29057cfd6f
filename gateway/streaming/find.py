"""Finds the usage object in a reply by searching bytes: nothing is parsed but the object itself.

In JSON the bytes `"usage"` can only be a whole string, never a part of one: inside a string its quotes are escaped.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

_FLAT = rb"[^{}]*+"
_NESTED = rb"%b(?:\{%b(?:\{%b\}%b)*+\}%b)*+" % ((_FLAT,) * 5)
_OBJECT = re.compile(rb"\s*+:\s*+(\{%b\})" % _NESTED)
"""A colon and an object of numbers and further objects, two levels deep: more than any vendor's usage has. Nothing in
it is ever taken back (`*+`), so nothing is noted for that: a third of the time.
"""


def last_object(data: bytes, key: bytes = b'"usage"') -> dict[str, Any] | None:
    """The last `"usage": {…}` in some bytes, decoded; None if there is none (null does not count)."""
    position = data.rfind(key)
    while position >= 0:
        found = _object_after(data, position + len(key))
        if found is not None:
            return found
        position = data.rfind(key, 0, position)
    return None


def _object_after(data: bytes, position: int) -> dict[str, Any] | None:
    found = _OBJECT.match(data, position)
    if found is None:
        return None
    try:
        usage: dict[str, Any] = orjson.loads(found[1])
    except orjson.JSONDecodeError:
        return None
    return usage
