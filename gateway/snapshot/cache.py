"""The last good configuration on disk, as control sent it: a gateway starts from it while control is down.

One directory a worker, 0700, files 0600: `head` and one file for each page of keys, named by its SHA-256. Secrets in
it are still sealed. The head carries an HMAC under the service token, so what was damaged, changed by somebody else or
sealed for another token is treated as absent. Blocks: call it in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Collection
from pathlib import Path

log = logging.getLogger("gateway.snapshot")

_LABEL = b"tunegate snapshot cache v1\n"


class Cache:
    """The directory of one worker; a second one must not write to it."""

    def __init__(self, directory: Path, token: str) -> None:
        self._directory = directory
        self._secret = token.encode()

    def head(self) -> bytes | None:
        """The last good head, or None if there is none that can be trusted."""
        path = self._directory / "head"
        try:
            mac, _, head = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as exc:
            log.error("snapshot.cache_unreadable", extra={"data": {"error": exc.strerror}})
            return None
        if not hmac.compare_digest(mac, self._mac(head)):
            text = "damaged, or written with another service token: treated as absent"
            log.error("snapshot.cache_refused", extra={"data": {"file": path.name, "error": text}})
            return None
        return head

    def page(self, digest: str) -> bytes | None:
        """A page of keys, or None if it is absent or damaged."""
        try:
            page = self._path(digest).read_bytes()
        except OSError:
            return None
        return page if hashlib.sha256(page).hexdigest() == digest else None

    def keep_page(self, digest: str, page: bytes) -> None:
        """Write a page; it counts only once a head names it. OSError if the disk refuses."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(self._path(digest), page)

    def keep_head(self, head: bytes, pages: Collection[str]) -> None:
        """Write the head after all its pages, then remove the pages that it does not name. OSError as above."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(self._directory / "head", self._mac(head) + b"\n" + head)
        _sync_directory(self._directory)
        named = {self._path(digest).name for digest in pages}
        for path in self._directory.iterdir():
            if path.suffix in (".page", ".new") and path.name not in named:
                path.unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}.page"

    def _mac(self, head: bytes) -> bytes:
        return hmac.new(self._secret, _LABEL + head, hashlib.sha256).hexdigest().encode()


def _replace(path: Path, data: bytes) -> None:
    """All or nothing, also when the power goes: a new file, synced, takes the name."""
    fresh = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _sync_directory(directory: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
