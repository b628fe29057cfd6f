"""Usage events for spool tests."""

from __future__ import annotations

import orjson


def identity(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012d}"


def event(number: int, end: str = "success", padding: int = 0) -> bytes:
    """A payload as the spool expects it: an object whose first member is a 36-character id."""
    return orjson.dumps({"id": identity(number), "end": end, "padding": "x" * padding})


def ids(payloads: list[bytes]) -> list[str]:
    return [orjson.loads(payload)["id"] for payload in payloads]
