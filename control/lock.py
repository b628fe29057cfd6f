"""One `tunegate up` for one data directory: the lock that says so, and who holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class Locked(Exception):
    """Another process uses the data directory; the message names it."""


class DataLock:
    """Context manager; the kernel releases the lock even when its holder is killed."""

    def __init__(self, data: Path) -> None:
        self._path = data / "lock"
        self._file = -1

    def __enter__(self) -> DataLock:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise Locked(f"{self._path.parent} is in use by another `tunegate up` (process {holder})") from exc
        os.truncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
