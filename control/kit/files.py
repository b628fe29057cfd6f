"""Files of the training plane: written piece by piece with their hash, and never outside of their folder."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from control.errors import Problem

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,119}")
PIECE = 1_048_576
"""Bytes that are read at a time."""
SPARE = 268_435_456
"""Bytes that stay free on the disk, for the database."""
BYTES = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
"""`openapi_extra=` of an operation that takes a file as its body."""


def a_file(media_type: str = "application/octet-stream") -> dict[int | str, dict[str, Any]]:
    """`responses=` of an operation that answers with a file."""
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as it was written."""

    size: int
    sha256: str


class Files:
    """A folder for files that other machines and people send."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, *parts: str) -> Path:
        """The path below the folder; each part may have slashes itself.

        Raises:
            Problem: 422 `bad_path` for a part that could lead out of the folder.
        """
        pieces = [piece for part in parts for piece in part.split("/")]
        if not pieces or len(pieces) > 8 or not all(_PART.fullmatch(piece) for piece in pieces):
            raise Problem(422, "bad_path", f"{'/'.join(parts)[:200]!r} is no path of letters, digits, `_`, `-` and `.`")
        return self.root.joinpath(*pieces)

    async def write(self, path: Path, pieces: AsyncIterator[bytes], limit: int, sha256: str = "") -> Stored:
        """A whole file, in place only once all of it is there, its hash is right and it is on the disk.

        Raises:
            Problem: 413 above `limit` bytes, 422 `wrong_hash`, 507 when the disk is full.
        """
        partial = path.with_name(path.name + ".partial")
        digest, size = hashlib.sha256(), 0
        try:
            await asyncio.to_thread(self._ready, path)
            with partial.open("wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    if size > limit:
                        raise Problem(413, "too_large", f"the file is larger than {limit} bytes")
                    digest.update(piece)
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(_sync, file)
            if sha256 and digest.hexdigest() != sha256:
                raise Problem(422, "wrong_hash", f"what arrived has the SHA-256 {digest.hexdigest()}: send it again")
            await asyncio.to_thread(partial.replace, path)
        except OSError as exc:
            raise _full(exc) from exc
        finally:
            await asyncio.to_thread(partial.unlink, missing_ok=True)
        return Stored(size, digest.hexdigest())

    async def append(self, path: Path, offset: int, pieces: AsyncIterator[bytes], limit: int) -> int:
        """More of a file; its new size. What was there from `offset` on goes: a piece may come twice.

        Raises:
            Problem: 409 `wrong_offset` beyond the end, 413 above `limit` bytes, 507 when the disk is full.
        """
        try:
            await asyncio.to_thread(self._ready, path)
            with await asyncio.to_thread(path.open, "ab") as file:
                if offset > (there := file.tell()):
                    raise Problem(409, "wrong_offset", f"there are {there} bytes: send what follows from there")
                await asyncio.to_thread(file.truncate, offset)
                async for piece in pieces:
                    if offset + len(piece) > limit:
                        raise Problem(413, "too_large", f"the file is larger than {limit} bytes")
                    offset += len(piece)
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(_sync, file)
        except OSError as exc:
            raise _full(exc) from exc
        return offset

    def remove(self, *parts: str) -> None:
        """Delete a file or folder, if it is there."""
        path = self.path(*parts)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _ready(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if shutil.disk_usage(path.parent).free < SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def reading(path: Path, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
    """A file, piece by piece: all of it, or `size` bytes from `offset` on."""
    with await asyncio.to_thread(path.open, "rb") as file:
        file.seek(offset)
        while size is None or size > 0:
            piece = await asyncio.to_thread(file.read, PIECE if size is None else min(PIECE, size))
            if not piece:
                return
            size = None if size is None else size - len(piece)
            yield piece


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _full(exc: OSError) -> Problem:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(507, "disk_full", "the disk of the control plane is full: make room, then send it again")
    return Problem(500, "disk", f"the disk of the control plane fails: {exc.strerror}")
