"""Follows the parts of a multipart/form-data body while it passes, without keeping its files.

The gateway must know which model a form asks for, and an upstream must not read another one out of the same bytes. So
this is strict where parsers differ: every part has one plain `name`, lines end in CRLF, the boundary occurs nowhere
but between parts, and no field that was asked for comes twice. RFC 7578, RFC 2046 section 5.1.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.errors import GatewayError

HEAD_BYTES = 8_192
"""Longest head of a part."""
FIELD_BYTES = 262_144
"""Longest value of a field that is no file."""
MOST_PARTS = 1_000
_BOUNDARY = re.compile(
    rb"multipart/form-data\s*;(?:[^\"]*;)?\s*boundary=(?:\"([^\"\r\n]{1,70})\"|([^\s;\"]{1,70}))\s*(?:;.*)?", re.I
)
_DISPOSITION = re.compile(r'form-data((?:\s*;\s*[a-z*]+=(?:"(?:[^"\\]|\\.)*"|[^\s;"]+))*)\s*', re.I)
_PARAMETER = re.compile(r';\s*([a-z*]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.I)


class Span(NamedTuple):
    """Where a value is in the body: from its first byte to behind its last."""

    start: int
    end: int


class Form:
    """One body. `feed` raises GatewayError(caller_bad_request) for what is no form, or an ambiguous one."""

    def __init__(self, content_type: bytes) -> None:
        found = _BOUNDARY.fullmatch(content_type)
        if found is None:
            text = "Send the body as content-type: multipart/form-data with a boundary."
            raise GatewayError("caller_bad_request", text, status=415)
        self._mark = b"--" + (found[1] or found[2])
        self._buffer = b"\r\n"  # so that the first boundary follows a line end like all others
        self._at = -2
        """Place in the body of the buffer's first byte."""
        self._name = ""
        self._file = True
        """What comes now is kept by nobody: a file, or what stands before the first boundary."""
        self._begun = False
        self._parts = 0
        self._seen: set[str] = set()
        self.fields: dict[str, str] = {}
        """Fields that are no files, as far as they have come; of a repeated one (`include[]`) the last."""
        self.spans: dict[str, Span] = {}
        """Where the values of these are."""
        self.file_begun = False
        """A file has begun to arrive."""
        self.ended = False
        """The last boundary has passed."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._buffer += data
        while not self.ended and self._step():
            pass

    def end(self) -> None:
        """The body is over: it must have come to its own end."""
        if not self.ended:
            raise _bad("the form breaks off before its last boundary")

    def _step(self) -> bool:
        """Take one part's content and the next one's head; False if more must come."""
        at = self._buffer.find(self._mark)
        if at < 0:
            self._wait()
            return False
        after = at + len(self._mark)
        follows = self._buffer[after : after + 2]
        if len(follows) < 2:
            return False
        if not self._begun and at != 2:
            raise _bad("the form does not begin with its boundary")
        if at < 2 or not self._buffer.startswith(b"\r\n", at - 2) or follows not in (b"\r\n", b"--"):
            raise _bad("the boundary occurs inside a part")
        head = self._buffer.find(b"\r\n\r\n", after) if follows == b"\r\n" else after
        if (head if head >= 0 else len(self._buffer)) - after > HEAD_BYTES:
            raise _bad("the head of a part is too long")
        if head < 0:
            return False
        self._close(at - 2)
        if follows == b"--":
            self.ended = True
            return False
        self._open(self._buffer[after + 2 : head])
        self._drop(head + 4)
        return True

    def _wait(self) -> None:
        """The boundary is not there yet: forget what cannot be a part of it."""
        if not self._begun and len(self._buffer) > len(self._mark) + 2:
            raise _bad("the form does not begin with its boundary")
        if self._file and self._begun:
            self._drop(max(0, len(self._buffer) - len(self._mark) - 1))
        else:
            self._check_length(len(self._buffer) - len(self._mark) - 2)

    def _drop(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self._at += count

    def _close(self, end: int) -> None:
        """The part that was open ends here, in the buffer."""
        if not self._file:
            self._check_length(end)
            try:
                self.fields[self._name] = self._buffer[:end].decode()
            except UnicodeDecodeError as exc:
                raise _bad(f"the field {self._name!r} is not UTF-8") from exc
            self.spans[self._name] = Span(self._at, self._at + end)
        self._begun = True

    def _check_length(self, length: int) -> None:
        if length > FIELD_BYTES:
            raise _bad(f"the field {self._name[:50]!r} is longer than {FIELD_BYTES} bytes")

    def _open(self, head: bytes) -> None:
        """A part begins."""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise _bad(f"the form has more than {MOST_PARTS} parts")
        name, self._file = _told(head)
        if name in self._seen and not name.endswith("[]"):
            raise _bad(f"the field {name[:50]!r} occurs twice")
        if name == "model" and self._file:
            raise _bad("`model` must be a field, not a file")
        self._seen.add(name)
        self._name = name
        self.file_begun = self.file_begun or self._file


def _told(head: bytes) -> tuple[str, bool]:
    """(name of a part, whether it is a file)."""
    disposition = ""
    for line in head.decode("utf-8", "surrogateescape").split("\r\n"):
        field, colon, value = line.partition(":")
        field = field.lower()
        if not colon or field != field.strip() or "\n" in line or "\r" in line or "\0" in line:
            raise _bad("the head of a part is malformed")
        if field == "content-transfer-encoding":
            raise _bad("Content-Transfer-Encoding is not taken: parts are sent as they are")
        if field == "content-disposition":
            if disposition:
                raise _bad("a part has two Content-Disposition lines")
            disposition = value.strip()
    found = _DISPOSITION.fullmatch(disposition)
    parameters = [(k.lower(), a or b) for k, a, b in _PARAMETER.findall(found[1])] if found else []
    names = [value for key, value in parameters if key == "name"]
    if len(names) != 1 or not names[0] or any(key == "name*" for key, _ in parameters) or "\\" in names[0]:
        raise _bad("a part has no plain `name` in its Content-Disposition")
    return names[0], any(key in ("filename", "filename*") for key, _ in parameters)


def _bad(what: str) -> GatewayError:
    return GatewayError("caller_bad_request", f"The multipart form cannot be read: {what}.")
