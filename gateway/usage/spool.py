"""The durable outbox: every admitted request is opened in it, settled in it, and leaves it only when delivered.

kill -9 loses nothing: the next start reads the files again, delivers what was settled, and settles as `interrupted`
what was only opened. Full means full: `open` refuses new work, it never drops a record.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import orjson

from gateway.errors import GatewayError
from gateway.usage.segment import HEADER, OPENED, OVERHEAD, SETTLED, Segment

log = logging.getLogger("gateway.spool")

RESERVE = 1024
"""Bytes kept free per opened request, so that its settlement finds room even when the disk has none."""


class SpoolInUse(Exception):
    """Another living process writes to the same spool directory."""


class Spool:
    """One worker's spool directory. Not thread-safe: the event loop writes, `deliverable` is called from it too."""

    def __init__(self, directory: Path, segment_bytes: int, max_bytes: int) -> None:
        self.directory = directory
        self._segment_bytes = segment_bytes
        self._max_bytes = max(max_bytes, 2 * segment_bytes)  # the full file and the one that follows it
        self._segments: list[Segment] = []
        self._number = 0
        self._lock: IO[bytes] | None = None
        """Held open: the lock ends with the process, however it ends."""
        self.open_entries = 0
        self.refused = 0
        """Requests turned away because the spool was full."""
        self.recovered = 0
        """Requests that a dead process had left open."""

    def start(self) -> None:
        """Take over what an earlier process left behind, then begin a fresh segment.

        SpoolInUse if that process still lives; OSError if the disk is full.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(self.directory / "lock")
        opened: dict[bytes, tuple[Segment, bytes]] = {}
        for path in sorted(self.directory.glob("[0-9]*.spool")):
            if path.stem.isdigit():
                self._number = max(self._number, int(path.stem))
            if path.stat().st_size <= HEADER:  # its process died between making the file and filling it
                path.unlink()
                continue
            segment = Segment(path)
            if not segment.valid():
                segment.close()
                path.rename(path.with_suffix(".damaged"))
                log.error("spool.damaged_file", extra={"data": {"file": path.name}})
                continue
            self._adopt(segment, opened)
        self._add_segment()
        for segment, payload in opened.values():
            event = interrupted(payload)
            self.settle(segment, event, counted=False)
            self.recovered += 1

    def _adopt(self, segment: Segment, opened: dict[bytes, tuple[Segment, bytes]]) -> None:
        for kind, payload, end in segment.read(HEADER):
            segment.position = end
            identity = payload[ID_START:ID_END]
            if kind == OPENED:
                opened[identity] = (segment, payload)
                segment.live += 1
            elif found := opened.pop(identity, None):
                found[0].live -= 1
        self._segments.append(segment)

    @property
    def max_bytes(self) -> int:
        """Disk space that it may hold before new work is refused."""
        return self._max_bytes

    @property
    def bytes_used(self) -> int:
        """Bytes of disk that the spool holds now."""
        return sum(segment.size for segment in self._segments)

    @property
    def backlog(self) -> int:
        """Bytes of records that were not delivered yet."""
        return sum(segment.position - segment.delivered for segment in self._segments)

    def open(self, payload: bytes) -> Segment:
        """Record that a request was admitted; the result goes to `settle`. GatewayError(tunegate_spool_full) if
        its end might find no room.

        `payload` is the beginning of the JSON of a usage event, from {"id":"…36 characters…" to the last member that
        is known yet, with a comma behind it: what the event would end with now is added only if it is ever needed.
        """
        segment = self._segments[-1]
        room = segment.size - segment.position - (self.open_entries + 1) * RESERVE
        if room < len(payload) + OVERHEAD:
            segment = self._rotate()
        if not segment.append(OPENED, payload):
            raise self._full("the record is larger than a segment")
        segment.live += 1
        self.open_entries += 1
        return segment

    def settle(self, opened_in: Segment, payload: bytes, counted: bool = True) -> None:
        """Record how an opened request ended; `open` kept room for it.

        OSError only if an event far above the reserve meets a full disk: then the request stays opened in the spool
        and the next start settles it as `interrupted`.
        """
        if not self._segments[-1].append(SETTLED, payload):
            self._add_segment().append(SETTLED, payload)  # may pass max_bytes: a fact is never dropped for a limit
        opened_in.live -= 1
        if counted:
            self.open_entries -= 1

    def deliverable(self, max_bytes: int) -> tuple[list[bytes], list[tuple[Segment, int]]]:
        """The next settled payloads, oldest first, and what `delivered` takes once the sink has them."""
        payloads: list[bytes] = []
        marks: list[tuple[Segment, int]] = []
        for segment in self._segments:
            start = segment.delivered
            found, offset = segment.settled(start, max_bytes)
            payloads += found
            max_bytes -= sum(map(len, found))
            if offset != start:
                marks.append((segment, offset))
            if max_bytes <= 0:
                break
        return payloads, marks

    def delivered(self, marks: list[tuple[Segment, int]]) -> None:
        """Acknowledge: these records are safe elsewhere. Files with nothing left in them are removed."""
        for segment, offset in marks:
            segment.delivered = offset
        for segment in self._segments[:-1]:
            if not segment.live and segment.delivered >= segment.position:
                self._segments.remove(segment)
                segment.delete()

    def segments(self) -> Iterator[Segment]:
        """The files that hold records now, oldest first."""
        return iter(tuple(self._segments))

    def close(self) -> None:
        """Close all files; remove those with nothing left in them."""
        for segment in self._segments:
            if not segment.live and segment.delivered >= segment.position:
                segment.delete()
            else:
                segment.sync()
                segment.close()
        self._segments.clear()
        if self._lock is not None:
            self._lock.close()

    @property
    def _next_bytes(self) -> int:
        """Size of the next file: room for the requests that are open now, and for new ones."""
        return self._segment_bytes + 2 * self.open_entries * RESERVE

    def _rotate(self) -> Segment:
        if self.bytes_used + self._next_bytes > self._max_bytes:
            raise self._full("undelivered records fill it")
        try:
            return self._add_segment()
        except OSError as exc:
            raise self._full(f"the disk refused ({exc.strerror})") from exc

    def _add_segment(self) -> Segment:
        self._number += 1
        segment = Segment(self.directory / f"{self._number:012d}.spool", self._next_bytes)
        self._segments.append(segment)
        return segment

    def _full(self, why: str) -> GatewayError:
        self.refused += 1
        return GatewayError(
            "tunegate_spool_full",
            f"The gateway cannot record usage now: {why}. Tell your administrator, and try again later.",
            headers=((b"retry-after", b"5"),),
        )


def _lock(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415  (exists on Windows only)

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415  (does not exist on Windows)

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        text = f"another gateway is using {path.parent}; give each its own [gateway] data_dir"
        raise SpoolInUse(text) from exc
    return file


ID_START, ID_END = len(b'{"id":"'), len(b'{"id":"') + 36


_UNSETTLED = (
    b'"endpoint":null,"upstream_model":null,"end":"interrupted","status":0,"error":"","tokens":{"input":0,'
    b'"cache_read":0,"cache_write":0,"output":0,"reasoning":0},"usage_source":"none","cost_nano":0,"ttft_ms":null,'
    b'"duration_ms":0.0,"attempts":[]}'
)
"""How an event ends that was only begun."""


def interrupted(opened: bytes) -> bytes:
    """The final event of a request whose process died: what was known at admission, and no charge."""
    event = orjson.loads(opened + _UNSETTLED if opened.endswith(b",") else opened)
    event["end"] = "interrupted"
    return orjson.dumps(event)
