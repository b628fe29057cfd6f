"""Fills the cells of a run: asks every candidate about every case, tries again where that may help, scores answers.

It knows no database: control's runner and `tunegate compare` both give it holes, and take the cells that it makes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from control.comparisons import prompt
from control.comparisons.asking import Asker, Reply
from control.comparisons.scorers.base import Answer
from control.comparisons.scoring import Scoring, Unjudged

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before another try where the answer does not say how long; the last one again and again."""
LONGEST_PAUSE = 120.0
"""Most seconds that an answer's retry-after counts."""


class Hole(NamedTuple):
    """A cell that is not there yet."""

    case: int
    """Number, from 1."""
    candidate: int
    repeat: int


@dataclass(slots=True)
class Cell:
    """What became of a hole."""

    case: int
    candidate: int
    repeat: int
    ok: bool
    request_id: str
    request: dict[str, Any]
    answer: dict[str, Any] | None
    error: dict[str, Any] | None
    scores: dict[str, Any]
    tries: int
    finished_at: str
    """ISO 8601."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of whom."""

    run: str
    """Begins the ids of its requests."""
    prompts: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    scoring: Scoring
    cases: Sequence[Mapping[str, Any]]
    candidates: Sequence[Mapping[str, Any]]
    """Each with `route`, `prompt` (a name) and `parameters`."""
    repeats: int
    concurrency: int
    """Of each route."""
    tries: int
    seed: int | None
    stream: bool

    def holes(self, there: Iterable[tuple[int, int, int]] = ()) -> list[Hole]:
        """What is not there yet, case by case: a run that stops half-way has compared something."""
        known = set(there)
        every = (
            Hole(case, candidate, repeat)
            for repeat in range(self.repeats)
            for case in range(1, len(self.cases) + 1)
            for candidate in range(len(self.candidates))
        )
        return [hole for hole in every if hole not in known]

    def request(self, hole: Hole) -> dict[str, Any]:
        """The body that is sent."""
        candidate = self.candidates[hole.candidate]
        asked = next(one["messages"] for one in self.prompts if one["name"] == candidate["prompt"])
        body = {
            "model": candidate["route"], "messages": prompt.messages(asked, self.cases[hole.case - 1]),
            **self.parameters, **candidate.get("parameters", {}),
        }  # fmt: skip
        if self.seed is not None:
            body["seed"] = self.seed + hole.repeat
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if self.stream else {})

    def request_id(self, hole: Hole, attempt: int) -> str:
        """The same whenever the cell is asked for: what has been billed for it can be found."""
        return f"{self.run}.{hole.case}.{hole.candidate}.{hole.repeat}.{attempt}"


@dataclass(slots=True)
class _Lane:
    """One route: what waits for it, and until when nobody asks it."""

    waiting: deque[Hole] = field(default_factory=deque)
    not_before: float = 0.0


class Engine:
    """Fills holes until there are none or somebody stops it."""

    def __init__(
        self, plan: Plan, asker: Asker, on_cell: Callable[[Cell], None], first_attempt: Callable[[Hole], int]
    ) -> None:
        self._plan, self._asker, self._on_cell, self._first = plan, asker, on_cell, first_attempt
        self._lanes: dict[str, _Lane] = defaultdict(_Lane)
        self._stopping = asyncio.Event()
        self.refused: Reply | None = None
        """Why nothing can be asked at all: the key is no good, or a route is not there."""
        self.under_way = 0

    async def fill(self, holes: Iterable[Hole]) -> None:
        """Ask until every hole is filled, `stop` was called and what was asked is answered, or all is refused."""
        for hole in holes:
            self._lanes[self._plan.candidates[hole.candidate]["route"]].waiting.append(hole)
        workers = [
            asyncio.create_task(self._work(lane))
            for lane in list(self._lanes.values())
            for _ in range(min(self._plan.concurrency, len(lane.waiting)))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def stop(self) -> None:
        """Begin nothing more; what was asked is still answered."""
        self._stopping.set()

    async def _work(self, lane: _Lane) -> None:
        while lane.waiting and not self._stopping.is_set():
            hole = lane.waiting.popleft()
            self.under_way += 1
            try:
                cell = await self._cell(lane, hole)
            finally:
                self.under_way -= 1
            if cell is not None:
                self._on_cell(cell)

    async def _cell(self, lane: _Lane, hole: Hole) -> Cell | None:
        """The cell; None if it was stopped before there was an answer."""
        body, first = self._plan.request(hole), self._first(hole)
        reply, tries = await self._tried(lane, body, lambda attempt: self._plan.request_id(hole, first + attempt))
        if reply is None:
            return None
        if reply.status in (401, 403, 404):
            self.refused = reply
            self.stop()
            return None
        request_id = self._plan.request_id(hole, first + tries - 1)
        scores: dict[str, Any] = {}
        if reply.answer is not None:

            async def ask(route: str, messages: Sequence[Mapping[str, Any]], what: str) -> Answer:
                return await self._judged(route, messages, f"{request_id}.{what}")

            async def embed(route: str, texts: Sequence[str], what: str) -> Sequence[Sequence[float]]:
                return await self._embedded(route, texts, f"{request_id}.{what}")

            scores = await self._plan.scoring.of(self._plan.cases[hole.case - 1], body, reply.answer, ask, embed)
        error = {"status": reply.status, "code": reply.code, "message": reply.message}
        return Cell(
            case=hole.case, candidate=hole.candidate, repeat=hole.repeat, ok=reply.answer is not None,
            request_id=request_id, request=body, answer=_kept(reply), error=None if reply.answer else error,
            scores=scores, tries=tries, finished_at=datetime.now(UTC).isoformat(),
        )  # fmt: skip

    async def _tried(
        self, lane: _Lane, body: Mapping[str, Any], request_id: Callable[[int], str]
    ) -> tuple[Reply | None, int]:
        """The last reply and how many tries it took; None if it was stopped between two tries."""
        for attempt in range(self._plan.tries):
            while (wait := lane.not_before - time.monotonic()) > 0:
                if await self._stopped_within(wait):
                    return None, attempt
            reply = await self._asker.ask(body, request_id(attempt))
            if not reply.passes or attempt + 1 == self._plan.tries:
                return reply, attempt + 1
            pause = min(reply.retry_after or 0.0, LONGEST_PAUSE) or PAUSES[min(attempt, len(PAUSES) - 1)]
            if reply.status == 429:  # it holds for the whole route
                lane.not_before = max(lane.not_before, time.monotonic() + pause)
            elif await self._stopped_within(pause * random.uniform(0.75, 1.25)):
                return None, attempt + 1
        raise AssertionError("there is at least one try")

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def _judged(self, route: str, messages: Sequence[Mapping[str, Any]], request_id: str) -> Answer:
        """What a judge says. Raises Unjudged after as many tries as any request has."""
        body = {"model": route, "messages": list(messages), "temperature": 0}
        reply, _ = await self._tried(self._lanes[route], body, lambda attempt: f"{request_id}.{attempt}")
        if reply is None or reply.answer is None:
            raise Unjudged(f"{route}: {reply.code}: {reply.message}" if reply else "stopped before it was judged")
        return reply.answer

    async def _embedded(self, route: str, texts: Sequence[str], request_id: str) -> Sequence[Sequence[float]]:
        said = ""
        for attempt in range(self._plan.tries):
            found = await self._asker.embed({"model": route, "input": list(texts)}, f"{request_id}.{attempt}")
            if not isinstance(found, Reply):
                return found
            said = f"{route}: {found.code}: {found.message}"
            if not found.passes or await self._stopped_within(PAUSES[min(attempt, len(PAUSES) - 1)]):
                break
        raise Unjudged(said)


def _kept(reply: Reply) -> dict[str, Any] | None:
    if reply.answer is None:
        return None
    answer = reply.answer
    return {
        "text": answer.text, "tool_calls": answer.tool_calls, "finish_reason": answer.finish_reason,
        "citations": answer.citations, "usage": answer.usage, "latency_ms": round(answer.latency_ms, 3),
        "ttft_ms": None if answer.ttft_ms is None else round(answer.ttft_ms, 3), "headers": dict(reply.headers),
    }  # fmt: skip
