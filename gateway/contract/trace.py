"""W3C Trace Context: which trace a request belongs to, in the header `traceparent` that planes hand to each other."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
HEADER = "traceparent"


class Trace(NamedTuple):
    """A span of a trace that is recorded."""

    id: int
    """128 bits."""
    span: int
    """64 bits."""
    parent: int = 0
    """The span that it is part of; 0: none."""

    def child(self) -> Trace:
        """A new span that is part of this one."""
        return Trace(self.id, _new_span(), self.span)

    @property
    def header(self) -> str:
        """What tells the next one of this span."""
        return f"00-{self.id:032x}-{self.span:016x}-01"


def continued(header: str) -> Trace | None:
    """A new span below the caller's; None where the header is empty or wrong, or the caller's trace is not recorded."""
    found = _read(header)
    return Trace(found[0], _new_span(), found[1]) if found is not None and found[2] else None


def begun(header: str, share: float) -> Trace | None:
    """The same, where a request without a good header begins a trace by itself, with this probability."""
    if _read(header) is not None:
        return continued(header)
    return Trace(random.getrandbits(128) or 1, _new_span()) if random.random() < share else None


def _read(header: str) -> tuple[int, int, bool] | None:
    """Trace, span, and whether it is recorded."""
    match = _HEADER.fullmatch(header)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None) or not int(trace, 16) or not int(span, 16):
        return None
    return int(trace, 16), int(span, 16), bool(int(flags, 16) & 1)


def _new_span() -> int:
    return random.getrandbits(64) or 1
