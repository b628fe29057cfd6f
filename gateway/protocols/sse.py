"""Server-sent events as bytes: where they end, and what they may mean to a relay (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import re

_BORDER = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\Z))")
"""The blank line that ends an event; atomic groups keep \\r\\n from counting as two line ends. A \\r that is the last
byte so far may be half of one: it has to wait."""


class EventKind:
    """What a server-sent event of a stream means, before the commit point."""

    PREAMBLE = 0
    """A comment, a role, an empty delta: nothing that a user would see."""
    CONTENT = 1
    ERROR = 2
    DONE = 3


def split(block: bytes) -> list[bytes]:
    """The events of a block that ends at an event's border, each with its blank line; joined they are the block."""
    if b"\r" not in block:
        return [event + b"\n\n" for event in block[:-2].split(b"\n\n")] if block.endswith(b"\n\n") else [block]
    events, start = [], 0
    for border in _BORDER.finditer(block):
        events.append(block[start : border.end()])
        start = border.end()
    if start < len(block):
        events.append(block[start:])
    return events


def last_border(data: bytes | bytearray, start: int = 0) -> int:
    """Offset behind the last event border at or after `start`; 0 if there is none."""
    end = data.rfind(b"\n\n", start) + 2
    if b"\r" not in data:
        return end if end > 1 else 0
    last = 0
    for border in _BORDER.finditer(data, start):
        last = border.end()
    return last


class Framer:
    """Cuts an arriving byte stream at event borders: whole events come out at once, the rest waits for its end."""

    __slots__ = ("_limit", "waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.waiting = bytearray()
        """The beginning of an event that is not complete."""

    def feed(self, data: bytes) -> bytes:
        """All events that are complete now, as one block; empty if none is. ValueError if an event passes the limit."""
        rest = self.waiting
        if not rest:
            if data.endswith(b"\n\n"):
                return data
            end = last_border(data)
            rest += data[end:]
            block = data[:end]
        else:
            start = max(0, len(rest) - 3)
            rest += data
            end = last_border(rest, start)
            block = bytes(rest[:end])
            del rest[:end]
        if len(rest) > self._limit:
            raise ValueError(f"one server-sent event is longer than {self._limit} bytes")
        return block

    def flush(self) -> bytes:
        """What is left when the stream ends: an event that was never finished."""
        rest = bytes(self.waiting)
        self.waiting.clear()
        return rest


class Events:
    """A `gateway.protocols.base.Framer` of server-sent events."""

    __slots__ = ("_framer",)

    def __init__(self, limit: int) -> None:
        self._framer = Framer(limit)

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now. ValueError if one passes the limit."""
        block = self._framer.feed(data)
        return split(block) if block else []

    def rest(self) -> list[bytes]:
        """The last event may lack its blank line: some upstreams end so. What is half of one, its reader finds out."""
        rest = self._framer.flush()
        return [rest] if rest.strip() else []


def event_data(event: bytes) -> bytes:
    """The joined `data:` lines of one server-sent event, whatever its line ends."""
    if event.startswith(b"data: ") and event.find(b"\n", 0, -2) < 0 and b"\r" not in event:
        return event[6:].strip()
    lines = (line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(lines).strip()
