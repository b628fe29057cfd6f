"""What a worker says to control, over HTTP: `trainer.contract.worker`."""

from __future__ import annotations

import hashlib
import http.client
import secrets
import ssl
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from trainer.contract.worker import AdapterFiles, EventBatch, Orders, Taken, WorkerStatus
from trainer.hashes import sha256

_PIECE = 1 << 20
TIMEOUT = 60.0
"""Seconds that one piece of an answer may take."""
HEARTBEAT_TIMEOUT = 10.0
"""The same for the heartbeat: a worker must know in time that control is gone."""

M = TypeVar("M", bound=BaseModel)


class Unreachable(Exception):
    """Control did not answer, or not with sense: try again."""


class Over(Exception):
    """Control says that this attempt is over: end it."""


class WrongOffset(Exception):
    """Control has less of a log than was thought: begin again."""


class Refused(Exception):
    """Control will never take it, however often it is sent."""


class TooLarge(Exception):
    """Control will not take so much."""


class Client:
    """One control plane. Every call opens a connection of its own: there are few, and proxies come and go."""

    def __init__(self, url: str, token: str, ca_file: Path | None = None) -> None:
        parts = urllib.parse.urlsplit(url.rstrip("/"))
        self._secure, self._host, self._prefix = parts.scheme == "https", parts.netloc, parts.path
        self._token = token
        self._context = ssl.create_default_context(cafile=ca_file) if self._secure else None

    def sync(self, status: WorkerStatus) -> Orders:
        """The heartbeat."""
        return self._told(Orders, "POST", "/sync", status.model_dump_json().encode(), timeout=HEARTBEAT_TIMEOUT)

    def events(self, attempt: str, first: int, lines: list[dict[str, Any]]) -> int:
        """Lines of a run; the number of the line that should come next."""
        batch = EventBatch(first=first, lines=lines).model_dump_json().encode()
        return self._told(Taken, "POST", f"/attempts/{attempt}/events", batch).next

    def log(self, attempt: str, offset: int, piece: bytes) -> int:
        """More of a log; the offset that should come next."""
        path = f"/attempts/{attempt}/log?offset={offset}"
        return self._told(Taken, "POST", path, piece, "application/octet-stream").next

    def put_file(self, attempt: str, name: str, path: Path) -> None:
        """A file of what came out of a run."""
        headers = {"x-sha256": sha256(path), "content-length": str(path.stat().st_size)}
        with path.open("rb") as file:
            target = f"/attempts/{attempt}/files/{urllib.parse.quote(name)}"
            self._call("PUT", target, file, "application/octet-stream", lambda answer: answer.read(), headers)

    def get_data(self, version: str, split: str, target: Path, digest: str) -> None:
        """Rows of a dataset version, whole, in place, and of this hash."""
        self._download(f"/data/{version}/{split}", target, digest)

    def get_adapter(self, one: AdapterFiles, folder: Path) -> None:
        """The files of an adapter that are not in its folder yet, each whole, in place, and of its hash.

        Raises:
            ValueError: a file would lie outside of the folder.
        """
        for name, digest in one.files.items():
            target = folder / name
            if not target.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"its file {name!r} would lie outside of its folder")
            if not target.exists() or sha256(target) != digest:
                self._download(f"/adapters/{one.adapter}/files/{urllib.parse.quote(name)}", target, digest)

    def _download(self, path: str, target: Path, digest: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")  # two may want it at once

        def keep(answer: http.client.HTTPResponse) -> None:
            found = hashlib.sha256()
            with partial.open("wb") as file:
                for piece in _pieces(answer):
                    found.update(piece)
                    file.write(piece)
            if found.hexdigest() != digest:
                raise Unreachable(f"{path}: what arrived has another hash")

        try:
            self._call("GET", path, b"", "", keep)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _told(
        self,
        answer: type[M],
        method: str,
        path: str,
        body: bytes,
        kind: str = "application/json",
        timeout: float = TIMEOUT,
    ) -> M:
        text = self._call(method, path, body, kind, lambda reply: reply.read(), timeout=timeout)
        try:
            return answer.model_validate_json(text)
        except ValidationError as exc:
            raise Unreachable(f"{method} {path}: no answer of control: {exc.errors()[0]['msg']}") from exc

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO,
        kind: str,
        take: Callable[[http.client.HTTPResponse], Any],
        headers: dict[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> Any:
        if self._secure:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, timeout=timeout, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self._host, timeout=timeout)
        sent = {"authorization": f"Bearer {self._token}", **({"content-type": kind} if kind else {}), **(headers or {})}
        try:
            connection.request(method, f"{self._prefix}/internal/v1/trainer{path}", body, sent)
            answer = connection.getresponse()
            if answer.status >= 300:
                problem = answer.read(4000).decode(errors="replace")
                raise _refusal(f"{method} {path}: {answer.status} {problem}", answer.status, path)
            return take(answer)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise Unreachable(f"{method} {path}: {type(exc).__name__}: {exc}") from exc
        finally:
            connection.close()


def _refusal(said: str, status: int, path: str) -> Exception:
    """What an answer that is no success means."""
    if path.startswith("/attempts/") and (status == 404 or '"attempt_over"' in said):
        return Over(said)
    if '"wrong_offset"' in said:
        return WrongOffset(said)
    if '"bad_path"' in said:
        return Refused(said)
    return TooLarge(said) if status == 413 else Unreachable(said)


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := answer.read(_PIECE):
        yield piece
