"""Writes the frames that `gateway.protocols.converse.frames` reads, from the format's description."""

from __future__ import annotations

import struct
from binascii import crc32


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One event."""
    packed = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    body = prelude + struct.pack(">I", crc32(prelude)) + packed + payload
    return body + struct.pack(">I", crc32(body))


def _header(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value


def event(kind: str, payload: bytes) -> bytes:
    """An event as Bedrock heads it."""
    return frame({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(kind: str, payload: bytes) -> bytes:
    """An exception as Bedrock heads it."""
    return frame({":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}, payload)
