"""One spool file: a preallocated, memory-mapped run of checksummed records.

A record is a plain copy into the mapping: no system call on the request path, and the page cache keeps it when the
process is killed. Space is allocated on disk before use, so a full disk is noticed here and not as a SIGBUS later.

    header   8 bytes magic, 8 bytes little-endian offset up to which records were delivered
    record   4 bytes length, 4 bytes CRC-32 of kind and payload, 1 byte kind (O opened, S settled), payload
    end      a zero length

A torn last record fails its checksum, and reading stops there: it was never acknowledged to anyone.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

MAGIC = b"tgspool1"
HEADER = 16
OPENED, SETTLED = b"O", b"S"
_FRAME = struct.Struct("<IIc")
_OFFSET = struct.Struct("<Q")
OVERHEAD = _FRAME.size


class Segment:
    """One file of the spool. `live` counts opened requests in it that have not settled yet."""

    __slots__ = ("_map", "live", "path", "position", "size")

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Open an existing file, or create one of `size` bytes. OSError if the disk has no room."""
        self.path = path
        self.live = 0
        flags = os.O_RDWR if size is None else os.O_RDWR | os.O_CREAT | os.O_EXCL
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
        try:
            if size is not None:
                _allocate(descriptor, size)
            self.size = os.fstat(descriptor).st_size
            self._map = mmap.mmap(descriptor, self.size)
        except BaseException:
            if size is not None:
                path.unlink()
            raise
        finally:
            os.close(descriptor)
        if size is not None:
            self._map[:HEADER] = MAGIC + _OFFSET.pack(HEADER)
        self.position = HEADER
        """Where the next record goes; after opening an old file, set by reading it through."""

    @property
    def delivered(self) -> int:
        """Offset up to which all settled records were acknowledged by the sink."""
        return int(_OFFSET.unpack_from(self._map, 8)[0])

    @delivered.setter
    def delivered(self, offset: int) -> None:
        _OFFSET.pack_into(self._map, 8, offset)

    def append(self, kind: bytes, payload: bytes) -> bool:
        """Write one record; False if it does not fit any more."""
        length, start = len(payload), self.position
        end = start + OVERHEAD + length
        if end + 4 > self.size:  # four zero bytes must remain as the end mark
            return False
        self._map[start:end] = _FRAME.pack(length, crc32(payload, kind[0]), kind) + payload
        self.position = end
        return True

    def read(self, start: int) -> Iterator[tuple[bytes, bytes, int]]:
        """(kind, payload, offset behind it) of the records from `start`, up to the first damaged one."""
        view, size = self._map, self.size
        while start + OVERHEAD <= size:
            length, checksum, kind = _FRAME.unpack_from(view, start)
            end = start + OVERHEAD + length
            if not length or end > size:
                return
            payload = view[start + OVERHEAD : end]
            if crc32(payload, kind[0]) != checksum:
                return
            yield kind, payload, end
            start = end

    def settled(self, start: int, most: int) -> tuple[list[bytes], int]:
        """(payloads of the settled records from `start`, offset behind the last one read); about `most` bytes.

        Nothing is verified again: what lies before `position` was written or read by this process.
        """
        payloads, view, stop = [], self._map, self.position
        while start < stop and most > 0:
            length, _, kind = _FRAME.unpack_from(view, start)
            end = start + OVERHEAD + length
            if kind == SETTLED:
                payloads.append(view[start + OVERHEAD : end])
                most -= length
            start = end
        return payloads, start

    def valid(self) -> bool:
        """Whether the file is a spool segment at all."""
        return self.size > HEADER and self._map[: len(MAGIC)] == MAGIC

    def sync(self) -> None:
        """Force what was written to the disk (power loss, not only a killed process)."""
        self._map.flush()

    def close(self) -> None:
        """Unmap the file; it stays on disk."""
        self._map.close()

    def delete(self) -> None:
        """Unmap and remove the file."""
        self._map.close()
        self.path.unlink()


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    zeros = bytes(1 << 16)  # macOS and Windows: writing the blocks is what reserves them
    for start in range(0, size, len(zeros)):
        os.write(descriptor, zeros[: min(len(zeros), size - start)])
