"""Where the request log is kept: by control, or for a stand-alone gateway in files that are named by their last day."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
from pydantic import ValidationError

from gateway.contract.internal import BodyAck
from gateway.copies.keeper import Kept, Refused
from gateway.internal import Control, ControlError, Line

ACK_BYTES = 4096
SILENT, TOTAL = 10.0, 20.0
"""Seconds, as for usage events."""
SWEEP = 3600.0
"""Seconds between looks for files whose day is over."""
log = logging.getLogger("gateway.request_log")
_FOR_GOOD = frozenset({"http_400", "http_404", "http_413", "http_422"})
"""Answers that the same entries would get again."""


class FileBodies:
    """Appends entries to `<directory>/<last UTC day>.<slot>.jsonl`, and deletes the files whose day is over."""

    def __init__(self, directory: Path, slot: str) -> None:
        self._directory = directory
        self._slot = slot

    async def deliver(self, entries: Sequence[Kept]) -> None:
        """See `gateway.copies.keeper.BodySink.deliver`."""
        await asyncio.to_thread(self.store, entries)

    def store(self, entries: Sequence[Kept]) -> None:
        """Append; blocks."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        days: dict[str, list[bytes]] = {}
        for entry in entries:
            days.setdefault(f"{datetime.fromtimestamp(entry.until, UTC):%Y-%m-%d}", []).append(entry.payload)
        for day, payloads in days.items():
            path = self._directory / f"{day}.{self._slot}.jsonl"
            with open(path, "ab", opener=_private) as file:
                file.write(b"\n".join(payloads) + b"\n")

    async def run(self) -> None:
        """Sweep now and every hour, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.sweep, time.time())
            except OSError as exc:
                log.error("request_log.not_deleted", extra={"data": {"error": str(exc)}})
            await asyncio.sleep(SWEEP)

    def sweep(self, now: float) -> None:
        """Delete what is kept long enough; `now` in Unix seconds."""
        today = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
        for path in self._directory.glob(f"*.{self._slot}.jsonl"):
            if path.name[:10] < today:
                path.unlink()


class HttpBodies:
    """`POST /internal/v1/request-log`."""

    def __init__(self, control: Control, gateway: str) -> None:
        self._control = control
        self._gateway = orjson.dumps(gateway)
        self.line = Line("request_log")

    async def deliver(self, entries: Sequence[Kept]) -> None:
        """See `gateway.copies.keeper.BodySink.deliver`."""
        body = b'{"gateway":%b,"entries":[%b]}' % (self._gateway, b",".join(entry.payload for entry in entries))
        try:
            answer = await self._control.call(
                "POST", "/request-log", most=ACK_BYTES, silent=SILENT, total=TOTAL,
                headers={"content-type": "application/json"}, body=body,
            )  # fmt: skip
            if answer.status != 200:
                raise ControlError("bad_reply", f"control answered {answer.status} to entries of the request log")
            try:
                BodyAck.model_validate_json(answer.body)
            except ValidationError as exc:
                raise ControlError("bad_reply", "the answer to entries of the request log is no BodyAck") from exc
        except ControlError as exc:
            self.line.failed(exc)
            if exc.kind in _FOR_GOOD:
                raise Refused(str(exc)) from exc
            raise
        self.line.worked()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
