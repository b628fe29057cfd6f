"""Fills the cells of a run: asks every candidate about every case, tries again where that may help, scores answers.

It knows no database: control's runner and `tunegate compare` both give it holes, and take the cells that it makes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Any, NamedTuple, TypeVar

from control.comparisons import prompt
from control.comparisons.asking import Asker, Reply
from control.comparisons.matches import Match, Verdict, question
from control.comparisons.reuse import Kept
from control.comparisons.scorers.base import Answer
from control.comparisons.scorers.judges import agreed
from control.comparisons.scoring import Scoring, Stopped, Unjudged

T = TypeVar("T")
Answered = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Request and answer of a cell."""

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
    limited: int = 0
    """Of the tries, those that were answered 429."""
    kept: tuple[str, str, int | None] | None = None
    """(request id, snapshot, cost) of the answer of an earlier run, if nobody was asked."""


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

    def matches(
        self, answered: Iterable[tuple[int, int, int]], judged: Iterable[tuple[int, int, int, int, int]] = ()
    ) -> list[Match]:
        """Pairs of answers that are not judged yet. `answered`: cells with an answer."""
        of_case: dict[tuple[int, int], list[int]] = defaultdict(list)
        for case, candidate, repeat in answered:
            of_case[case, repeat].append(candidate)
        known = set(judged)
        every = (
            Match(case, first, second, repeat, scorer)
            for case, repeat in sorted(of_case, key=lambda place: place[::-1])
            for scorer in self.scoring.in_pairs(self.cases[case - 1]["variables"])
            for first, second in combinations(sorted(of_case[case, repeat]), 2)
        )
        return [match for match in every if match not in known]

    def match_id(self, match: Match, order: str, attempt: int) -> str:
        """Likewise of what a judge is asked about a pair; the order is `a` or `b`."""
        pair = f"{match.first}-{match.second}"
        return f"{self.run}.p{match.scorer}.{match.case}.{pair}.{match.repeat}.{order}.{attempt}"


class _Tried(NamedTuple):
    """What the tries for one answer came to."""

    reply: Reply | None
    """The last one; None if it was stopped between two tries."""
    tries: int
    limited: int


@dataclass(slots=True)
class _Lane:
    """One route: until when nobody asks it."""

    not_before: float = 0.0


class Engine:
    """Fills holes until there are none or somebody stops it."""

    def __init__(
        self, plan: Plan, asker: Asker, on_cell: Callable[[Cell], None],
        first_attempt: Callable[[Hole | Match], int],
        known: Callable[[Hole, Mapping[str, Any]], Awaitable[Kept | None]] | None = None,
    ) -> None:  # fmt: skip
        """`known` finds the answer of an earlier run to a request."""
        self._plan, self._asker, self._on_cell, self._first = plan, asker, on_cell, first_attempt
        self._known = known
        self._lanes: dict[str, _Lane] = defaultdict(_Lane)
        self._stopping = asyncio.Event()
        self.refused: Reply | None = None
        """Why nothing can be asked at all: the key is no good, or a route is not there."""
        self.under_way = 0
        """Cells that are asked for."""
        self.judging = 0
        """Matches that a judge sees."""

    async def fill(self, holes: Iterable[Hole]) -> None:
        """Ask until every hole is filled, `stop` was called and what was asked is answered, or all is refused."""
        await self._over(((self._plan.candidates[hole.candidate]["route"], hole) for hole in holes), self._fill)

    async def judge(
        self, matches: Iterable[Match], answers: Callable[[Match], Awaitable[tuple[Answered, Answered]]],
        on_verdict: Callable[[Verdict], None],
    ) -> None:  # fmt: skip
        """Have pairs of answers compared, likewise. `answers` fetches what the two candidates were asked and said."""

        async def one(match: Match) -> None:
            self.judging += 1
            try:
                verdict = await self._verdict(match, await answers(match))
            finally:
                self.judging -= 1
            if verdict is not None:
                on_verdict(verdict)

        scoring, cases = self._plan.scoring, self._plan.cases
        routed = ((scoring.judge_of(match.scorer, cases[match.case - 1]), match) for match in matches)
        await self._over(routed, one)

    async def _over(self, work: Iterable[tuple[str, T]], do: Callable[[T], Awaitable[None]]) -> None:
        """Do all of it, so much at a time for each route."""
        waiting: dict[str, deque[T]] = defaultdict(deque)
        for route, one in work:
            waiting[route].append(one)
        workers = [
            asyncio.create_task(self._work(queue, do))
            for queue in waiting.values()
            for _ in range(min(self._plan.concurrency, len(queue)))
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

    async def _work(self, queue: deque[T], do: Callable[[T], Awaitable[None]]) -> None:
        while queue and not self._stopping.is_set():
            await do(queue.popleft())

    async def _fill(self, hole: Hole) -> None:
        self.under_way += 1
        try:
            cell = await self._cell(self._lanes[self._plan.candidates[hole.candidate]["route"]], hole)
        finally:
            self.under_way -= 1
        if cell is not None:
            self._on_cell(cell)

    async def _cell(self, lane: _Lane, hole: Hole) -> Cell | None:
        """The cell; None if it was stopped before there was an answer."""
        body, first = self._plan.request(hole), self._first(hole)
        kept = await self._known(hole, body) if self._known is not None else None
        if kept is not None:
            reply: Reply | None = Reply(kept.read(), 200, kept.answer["headers"])
            tries = limited = 0
        else:
            reply, tries, limited = await self._tried(
                lane, body, lambda attempt: self._plan.request_id(hole, first + attempt)
            )
        if reply is None:
            return None
        if reply.status in (401, 403, 404):
            self.refused = reply
            self.stop()
            return None
        request_id = self._plan.request_id(hole, first + max(0, tries - 1))
        scores: dict[str, Any] = {}
        if reply.answer is not None:

            async def ask(route: str, messages: Sequence[Mapping[str, Any]], what: str) -> Answer:
                return await self._judged(route, messages, lambda attempt: f"{request_id}.{what}.{attempt}")

            async def embed(route: str, texts: Sequence[str], what: str) -> Sequence[Sequence[float]]:
                return await self._embedded(route, texts, f"{request_id}.{what}")

            case, scoring = self._plan.cases[hole.case - 1], self._plan.scoring
            scores = await scoring.of(case, body, reply.answer, ask, embed)
            if kept is not None and kept.cost_nano is not None and scoring.looks_at_cost:
                scores |= await scoring.priced(case, body, kept.answer, kept.cost_nano)
        error = {"status": reply.status, "code": reply.code, "message": reply.message}
        return Cell(
            case=hole.case, candidate=hole.candidate, repeat=hole.repeat, ok=reply.answer is not None,
            request_id=request_id, request=body, answer=_kept(reply), error=None if reply.answer else error,
            scores=scores, tries=tries, limited=limited, finished_at=datetime.now(UTC).isoformat(),
            kept=None if kept is None else (kept.request_id, kept.snapshot, kept.cost_nano),
        )  # fmt: skip

    async def _verdict(self, match: Match, answered: tuple[Answered, Answered]) -> Verdict | None:
        """What a judge says of a pair in both orders; None if it was stopped before it had said both."""
        case, first = self._plan.cases[match.case - 1], self._first(match)
        (asked, answer), (other_asked, other) = answered
        ids: dict[str, str] = {}

        async def ask(route: str, messages: Sequence[Mapping[str, Any]]) -> Answer:
            order = "ab"[len(ids)]

            def named(attempt: int) -> str:
                ids[order] = self._plan.match_id(match, order, first + attempt)
                return ids[order]

            return await self._judged(route, messages, named)

        told = question(dict(case), asked["messages"], other_asked["messages"])
        forward = backward = None
        note = ""
        try:
            both = (Answer(text=answer["text"]), Answer(text=other["text"]))
            forward, backward = await self._plan.scoring.pair(match.scorer, case, told, both, ask)
        except Stopped:
            return None
        except Unjudged as exc:
            note = str(exc).replace("\0", "")[:1000]
        winner = agreed(forward, backward)
        if winner is None and not note:
            note = "the judge did not say which is better"
        return Verdict(
            *match, forward=forward, backward=backward, winner=winner, note=note, request_ids=list(ids.values()),
            finished_at=datetime.now(UTC).isoformat(),
        )  # fmt: skip

    async def _tried(self, lane: _Lane, body: Mapping[str, Any], request_id: Callable[[int], str]) -> _Tried:
        """Ask until there is an answer, or no further try may help."""
        limited = 0
        for attempt in range(self._plan.tries):
            while (wait := lane.not_before - time.monotonic()) > 0:
                if await self._stopped_within(wait):
                    return _Tried(None, attempt, limited)
            reply = await self._asker.ask(body, request_id(attempt))
            limited += reply.status == 429
            if not reply.passes or attempt + 1 == self._plan.tries:
                return _Tried(reply, attempt + 1, limited)
            pause = min(reply.retry_after or 0.0, LONGEST_PAUSE) or PAUSES[min(attempt, len(PAUSES) - 1)]
            if reply.status == 429:  # it holds for the whole route
                lane.not_before = max(lane.not_before, time.monotonic() + pause)
            elif await self._stopped_within(pause * random.uniform(0.75, 1.25)):
                return _Tried(None, attempt + 1, limited)
        raise AssertionError("there is at least one try")

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def _judged(
        self, route: str, messages: Sequence[Mapping[str, Any]], request_id: Callable[[int], str]
    ) -> Answer:
        """What a judge says. Raises Unjudged after as many tries as any request has, and Stopped."""
        body = {"model": route, "messages": list(messages), "temperature": 0}
        reply = (await self._tried(self._lanes[route], body, request_id)).reply
        if reply is None:
            raise Stopped("stopped before it was judged")
        if reply.answer is None:
            raise Unjudged(f"{route}: {reply.code}: {reply.message}")
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
