"""Recognises an HTTP/1.1 message whose head was parsed before, so that it need not be parsed again.

Whoever sends many messages on one connection sends nearly always the same head, except for the length of the body. What
the strict parser has accepted once means the same again, byte for byte; so a message that came whole in one read, with
that head and its own true length in it, is cut by comparing. Everything else goes to the parser, as ever.
"""

from __future__ import annotations

from typing import NamedTuple

_LENGTH = b"\r\ncontent-length:"
_DIGITS = 20
"""Most of a length: more bytes than there are in the world."""
_IN_VAIN, _PAUSE = 3, 64
"""So many heads in a row are learnt in vain until none is for the rest of so many messages: where each head has an id
of its own, learning would cost a tenth of a request.
"""


class Credential(NamedTuple):
    """What a caller proves itself by."""

    token: bytes
    digest: bytes
    """SHA-256 of it."""


class SameHead:
    """The head of one parsed message."""

    __slots__ = ("_after", "_before", "_farthest", "_start", "credential", "headers", "used")

    def __init__(self, before: bytes, after: bytes, headers: dict[bytes, bytes]) -> None:
        self._before = before
        """Up to the digits of the content-length."""
        self._after = after
        """Behind them, with the empty line."""
        self._start = len(before)
        self._farthest = len(before) + _DIGITS + len(after)
        self.headers = headers
        """As the parser read them, but for the content-length, which may be another one in each message."""
        self.credential: Credential | None = None
        """What a caller proves itself by in it, once somebody has read that."""
        self.used = False
        """A message was recognised by it."""

    def body(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole message with this head and nothing else."""
        start, after = self._start, self._after
        end = data.find(after, start, self._farthest)
        if end < 0 or not data.startswith(self._before):
            return None
        border = end + len(after)
        if data[start:end] != b"%d" % (len(data) - border):
            return None
        self.used = True
        return data[border:]


class Heads:
    """What one connection's next message may be recognised by."""

    __slots__ = ("_vain", "last")

    def __init__(self) -> None:
        self.last: SameHead | None = None
        """The head of the last message that a parser read, if it was learnt."""
        self._vain = 0

    def learn(self, data: bytes, headers: dict[bytes, bytes]) -> SameHead | None:
        """As the function, unless the heads of this connection are other ones each time."""
        last = self.last
        self._vain = 0 if last is not None and last.used else (self._vain + 1) % _PAUSE
        self.last = learn(data, headers) if self._vain <= _IN_VAIN else None
        return self.last


def learn(data: bytes, headers: dict[bytes, bytes]) -> SameHead | None:
    """What to recognise the next message by. `data` is all that a parser was fed for a message that is complete now,
    and `headers` what it read; None if the length is not stated, or not as one would write it.
    """
    length = headers.get(b"content-length")
    border = data.find(b"\r\n\r\n") + 4
    if length is None or length != b"%d" % (len(data) - border):
        return None
    after_name = data[:border].lower().find(_LENGTH) + len(_LENGTH)
    start = data.find(length, after_name, border)
    end = start + len(length)
    if start < after_name or data[after_name:start].strip(b" \t") or not data.startswith(b"\r\n", end):
        return None
    others = {name: value for name, value in headers.items() if name != b"content-length"}
    return SameHead(data[:start], data[end:border], others)
