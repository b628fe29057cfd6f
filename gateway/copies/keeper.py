"""The request log of one worker: bodies wait in memory, are redacted in a thread, and go where they are kept.

Best effort on purpose: bodies are not money. What finds no room, and what the other side refuses, is dropped and
counted; nothing here delays a request, fills the disk or outlives a killed process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

import orjson

from gateway.contract.internal import BODIES_PER_BATCH, BODY_BATCH_BYTES
from gateway.copies.recording import Recording
from gateway.copies.render import render
from gateway.runtime import LogRule

log = logging.getLogger("gateway.request_log")

INTERVAL, PATIENCE = 0.25, 2.0
"""Seconds between deliveries, and after one that failed."""
DAY = 86_400.0


class Refused(Exception):
    """The other side will never take these entries."""


class Kept(NamedTuple):
    """An entry as it is delivered."""

    until: float
    """Unix time at which it must be deleted."""
    payload: bytes
    """`gateway.contract.internal.Bodies` as JSON."""


class BodySink(Protocol):
    """Where entries go."""

    async def deliver(self, entries: Sequence[Kept]) -> None:
        """Take a batch: OSError if it should be tried again later, Refused if not."""
        ...


class Draft(NamedTuple):
    """What is recorded of one request. `answer` is None if only the request is kept."""

    rule: LogRule
    request: bytes | None
    request_cut: bool
    answer: Recording | None
    reserved: int
    """Bytes that it was promised."""
    masks: Mapping[str, str]
    """What a guard has masked in the request, and its masks: in the answer they stand again."""


class Waiting(NamedTuple):
    """A draft whose request has ended."""

    id: str
    ts: float
    draft: Draft
    held: int


class Keeper:
    """See the module. `outcomes` counts entries by what became of them."""

    def __init__(self, sink: BodySink, max_bytes: int) -> None:
        self._sink = sink
        self._max_bytes = max_bytes
        self._queue: deque[Waiting] = deque()
        self._batch: list[Kept] = []
        self._batch_held = 0
        self._failing = False
        self._flushing: asyncio.Task[None] | None = None
        self.held = 0
        """Bytes that are recorded, promised or waiting now."""
        self.outcomes = dict.fromkeys(("kept", "full", "refused", "failed"), 0)

    def begin(self, rule: LogRule, body: bytes | None, masks: Mapping[str, str] | None = None) -> Draft | None:
        """Promise room for what a request and its answer may need; None (and counted) if there is none.

        `body` is the request's, or None to keep the answer alone.
        """
        most = rule.spec.max_bytes
        request = body if rule.request and body is not None else None
        answer = Recording(most) if rule.response else None
        reserved = (min(len(request), most) if request is not None else 0) + (most if answer is not None else 0)
        if self.held + reserved > self._max_bytes:
            self.outcomes["full"] += 1
            return None
        self.held += reserved
        cut = request is not None and len(request) > most
        return Draft(rule, request[:most] if request is not None else None, cut, answer, reserved, masks or {})

    def keep(self, identity: str, ts: float, draft: Draft) -> None:
        """The request has ended: what was recorded may be redacted and delivered."""
        held = (len(draft.request) if draft.request is not None else 0) + (draft.answer.size if draft.answer else 0)
        self.held += held - draft.reserved
        self._queue.append(Waiting(identity, ts, draft, held))

    async def run(self) -> None:
        """Deliver what waits, until cancelled; a delivery that is under way then goes on, see `close`."""
        while True:
            await asyncio.sleep(PATIENCE if self._failing else INTERVAL)
            self._flushing = asyncio.create_task(self._flush())
            await asyncio.shield(self._flushing)

    async def close(self, patience: float) -> int:
        """Deliver what waits, for at most that many seconds; bytes that were not delivered. Call it after `run`."""
        end = asyncio.get_running_loop().time() + patience
        if self._flushing is not None:  # cut off and begun again, a file would get its entries twice
            await asyncio.wait({self._flushing}, timeout=patience)
        if self._flushing is None or self._flushing.done():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await self._flush()
        return self.held

    async def _flush(self) -> None:
        """Deliver everything that waits now, up to the first failure."""
        while self._batch or self._queue:
            if not self._batch:
                taken = self._take()
                self._batch_held = sum(waiting.held for waiting in taken)
                self._batch = await asyncio.to_thread(self._rendered, taken)
            outcome = "kept"
            if self._batch:
                try:
                    await self._sink.deliver(self._batch)
                except Refused as exc:
                    outcome = "refused"
                    log.error("request_log.refused", extra={"data": {"entries": len(self._batch), "error": str(exc)}})
                except OSError as exc:
                    if not self._failing:  # said once: an outage may be long
                        log.warning("request_log.delivery_failed", extra={"data": {"error": str(exc)}})
                    self._failing = True
                    return
                self._failing = False
            self.outcomes[outcome] += len(self._batch)
            self.held -= self._batch_held
            self._batch, self._batch_held = [], 0

    def _take(self) -> list[Waiting]:
        taken: list[Waiting] = []
        size = 0
        while self._queue and len(taken) < BODIES_PER_BATCH and size < BODY_BATCH_BYTES:
            taken.append(self._queue.popleft())
            size += taken[-1].held
        return taken

    def _rendered(self, taken: Sequence[Waiting]) -> list[Kept]:
        """In a thread."""
        kept = []
        for waiting in taken:
            time.sleep(0)  # lets the event loop go first: it waits for the interpreter
            try:
                kept.append(_entry(waiting))
            except Exception as exc:  # noqa: BLE001  (a bug here must not end the gateway; its text may quote a body)
                self.outcomes["failed"] += 1
                data = {"id": waiting.id, "error": type(exc).__name__}
                log.error("request_log.bug", extra={"data": data})
        return kept


def _entry(waiting: Waiting) -> Kept:
    draft, spec = waiting.draft, waiting.draft.rule.spec
    counts: dict[str, int] = {}
    request = response = None
    if draft.request is not None:
        request = render(draft.request, draft.request_cut, draft.rule.redactor, spec.max_bytes, counts)
    if draft.answer is not None:
        raw = b"".join(draft.answer.pieces)
        redactor = draft.rule.redactor.knowing(draft.masks) if draft.masks else draft.rule.redactor
        response = render(raw, draft.answer.cut, redactor, spec.max_bytes, counts)
    payload = orjson.dumps(
        {
            "id": waiting.id,
            "ts": waiting.ts,
            "keep_days": spec.keep_days,
            "request": request.text if request is not None else None,
            "response": response.text if response is not None else None,
            "request_cut": request is not None and request.cut,
            "response_cut": response is not None and response.cut,
            "redacted": counts,
        }
    )
    return Kept(waiting.ts + spec.keep_days * DAY, payload)
