"""Multipart forms, as clients send them."""

from __future__ import annotations

from dataclasses import dataclass

BOUNDARY = b"XyZ"
TYPE = b"multipart/form-data; boundary=" + BOUNDARY


@dataclass(frozen=True)
class File:
    """A file in a form."""

    content: bytes
    name: str = "a.wav"
    kind: str = "audio/wav"


def form(*pairs: tuple[str, str | File], **fields: str | File) -> bytes:
    """The body, parts in the given order."""
    parts = b""
    for name, value in (*pairs, *fields.items()):
        head = f'Content-Disposition: form-data; name="{name}"'
        if isinstance(value, File):
            head += f'; filename="{value.name}"\r\nContent-Type: {value.kind}'
        content = value.content if isinstance(value, File) else value.encode()
        parts += b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY, head.encode(), content)
    return parts + b"--%b--\r\n" % BOUNDARY
