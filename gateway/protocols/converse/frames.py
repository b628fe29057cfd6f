"""The binary frames in which AWS streams events (application/vnd.amazon.eventstream).

    total length (4) | headers length (4) | CRC-32 of these (4) | headers | payload | CRC-32 of all before (4)

https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html (read 2026-11); numbers are big-endian.
"""

from __future__ import annotations

import struct
from binascii import crc32
from typing import NamedTuple

from gateway.protocols.base import BadReply

_PRELUDE, _CRC = 12, 4
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Kinds of header values of a fixed size: true, false, byte, short, int, long, timestamp, UUID."""
_TEXT, _BYTES = 7, 6


class Frame(NamedTuple):
    """One event: its textual headers and what it carries."""

    headers: dict[str, str]
    payload: bytes


class Frames:
    """A `gateway.protocols.base.Framer`; what it gives out is whole and as it was sent: both sums are checked."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now. ValueError if one is too long, too short or damaged."""
        waiting = self._waiting
        waiting += data
        frames: list[bytes] = []
        start = 0
        while len(waiting) - start >= _PRELUDE:
            length = self._length(waiting[start : start + _PRELUDE])
            if len(waiting) - start < length:
                break
            frame = bytes(waiting[start : start + length])
            if crc32(frame[:-_CRC]) != int.from_bytes(frame[-_CRC:], "big"):
                raise ValueError("a frame of the stream was damaged on its way")
            frames.append(frame)
            start += length
        del waiting[:start]
        return frames

    def rest(self) -> list[bytes]:
        """Nothing: what was left is half a frame."""
        if self._waiting:
            raise ValueError("the stream ended in the middle of a frame")
        return []

    def _length(self, prelude: bytearray) -> int:
        length, headers, checksum = struct.unpack(">III", prelude)
        if crc32(prelude[:-_CRC]) != checksum:
            raise ValueError("the head of a frame was damaged on its way")
        if length > self._limit:
            raise ValueError(f"one frame is longer than {self._limit} bytes")
        if headers > length - _PRELUDE - _CRC:
            raise ValueError("the headers of a frame are longer than the frame")
        return int(length)


def read_frame(frame: bytes) -> Frame:
    """What a whole frame says. Raises BadReply."""
    if len(frame) < _PRELUDE + _CRC:
        raise BadReply("holds a frame that is too short")
    end = _PRELUDE + int.from_bytes(frame[4:8], "big")
    if end > len(frame) - _CRC:
        raise BadReply("holds a frame that is shorter than its headers")
    headers: dict[str, str] = {}
    at = _PRELUDE
    try:
        while at < end:
            name_end = at + 1 + frame[at]
            name, kind = frame[at + 1 : name_end].decode(), frame[name_end]
            at = name_end + 1
            if kind in (_TEXT, _BYTES):
                size = int.from_bytes(frame[at : at + 2], "big")
                if kind == _TEXT:
                    headers[name] = frame[at + 2 : at + 2 + size].decode()
                at += 2 + size
            else:
                at += _SIZES[kind]
    except (KeyError, UnicodeDecodeError, IndexError) as exc:
        raise BadReply("holds a frame with a header that cannot be read") from exc
    if at != end:
        raise BadReply("holds a frame whose headers do not fit")
    return Frame(headers, frame[end:-_CRC])
