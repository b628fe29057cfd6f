"""Where usage events go from the spool: for a stand-alone gateway, daily JSONL files.

A batch may be handed over twice (the process died between writing and acknowledging), so a sink is idempotent: this
one remembers the ids of its last lines, which is all that a second delivery can repeat.
"""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from gateway.usage.spool import ID_END, ID_START

MAX_BATCH_BYTES = 524_288
_REMEMBERED = 4 * MAX_BATCH_BYTES


class JsonlSink:
    """Appends events to `<directory>/<UTC date>.<slot>.jsonl`; each slot has one writer."""

    def __init__(self, directory: Path, slot: str) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._slot = slot
        self._lock = threading.Lock()
        self._recent: set[bytes] = set()
        self._mended: set[Path] = set()
        for path in sorted(directory.glob(f"*.{slot}.jsonl"))[-2:]:
            self._recent.update(line[ID_START:ID_END] for line in _tail(path))

    async def deliver(self, payloads: list[bytes]) -> None:
        """See `gateway.usage.shipper.Sink.deliver`."""
        await asyncio.to_thread(self.store, payloads)

    def store(self, payloads: list[bytes]) -> None:
        """Append a batch and force it to disk. OSError leaves everything to a later, repeated delivery.

        Blocks: call it in a thread. A second call waits for the first, so a batch that is handed over again while its
        first delivery still runs is found among the last lines.
        """
        with self._lock:
            self._store(payloads)

    def _store(self, payloads: list[bytes]) -> None:
        fresh = [p for p in payloads if p[ID_START:ID_END] not in self._recent]
        if fresh:
            path = self._directory / f"{datetime.now(UTC):%Y-%m-%d}.{self._slot}.jsonl"
            self._mend(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _write_whole(descriptor, b"\n".join(fresh) + b"\n")
                os.fsync(descriptor)
            except OSError:
                self._mended.discard(path)
                raise
            finally:
                os.close(descriptor)
        self._recent = {p[ID_START:ID_END] for p in payloads}

    def _mend(self, path: Path) -> None:
        """Cut off the torn last line of a writer that died or met a full disk."""
        if path in self._mended:
            return
        self._mended = {path}
        try:
            with path.open("rb+") as file:
                size = file.seek(0, os.SEEK_END)
                start = max(0, size - _REMEMBERED)
                file.seek(start)
                tail = file.read()
                if tail and not tail.endswith(b"\n"):
                    file.truncate(start + tail.rfind(b"\n") + 1)
        except FileNotFoundError:
            return
        self._recent.update(line[ID_START:ID_END] for line in _tail(path))


def _write_whole(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _tail(path: Path) -> list[bytes]:
    """The complete lines among the last bytes of a file."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _REMEMBERED))
        lines = file.read().split(b"\n")
    return lines[1 if size > _REMEMBERED else 0 : -1]
