"""Scores an answer by every scorer of a version."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter, ValidationError

from control.comparisons import prompt
from control.comparisons.scorers import bounds, judges, score
from control.comparisons.scorers.base import Answer, Case, Score, unscored
from control.comparisons.scorers.specs import ScorerSpec

_SPEC: TypeAdapter[Any] = TypeAdapter(ScorerSpec)
IN_PAIRS = "pairwise_judge"
"""The kind that sees two answers; `Scoring.of` leaves it out."""
QUICK = ("exact", "contains", "numeric", "tool_call", "citation", "threshold")
"""Kinds that take microseconds; the others would keep the process from its other work."""
Ask = Callable[[str, Sequence[Mapping[str, Any]], str], Awaitable[Answer]]
"""A route's answer to messages, asked under a name that its request id has. Raises Unjudged."""
Embed = Callable[[str, Sequence[str], str], Awaitable[Sequence[Sequence[float]]]]
"""Vectors of texts by a route, likewise."""


class Unjudged(Exception):
    """What was asked has said nothing; the message says why."""


class Stopped(Unjudged):
    """Nothing was asked, since somebody stopped the run: it is to be asked later."""


class Scoring:
    """The scorers of a version. Texts in their specs may have places for variables of the case; a case that does not
    have such a variable is not scored."""

    def __init__(self, scorers: Sequence[Mapping[str, Any]]) -> None:
        self._scorers = [(one, None if prompt.names([one]) else _SPEC.validate_python(one)) for one in scorers]

    async def of(
        self, case: Mapping[str, Any], request: Mapping[str, Any], answer: Answer, ask: Ask, embed: Embed
    ) -> dict[str, dict[str, Any]]:
        """Scores by name. A scorer that cannot decide says why in `note`."""
        asked = _case(case, request)
        found: dict[str, dict[str, Any]] = {}
        for number, (written, ready) in enumerate(self._scorers):
            if written["kind"] == IN_PAIRS:
                continue
            if ready is None and prompt.names([written]) - set(asked.variables):
                continue
            given = await _one(written, ready, asked, answer, _Asking(f"s{number}", ask, embed))
            found[written["name"]] = _told(given)
        return found

    @property
    def looks_at_cost(self) -> bool:
        """Whether a score depends on what an answer has cost, which the ledger says later."""
        return any(ready is not None and bounds.looks_at_cost(ready) for _, ready in self._scorers)

    async def priced(
        self, case: Mapping[str, Any], request: Mapping[str, Any], kept: Mapping[str, Any], cost_nano: int
    ) -> dict[str, dict[str, Any]]:
        """Scores by those scorers, of an answer as a cell keeps it."""
        fields = ("text", "tool_calls", "finish_reason", "citations", "usage", "latency_ms", "ttft_ms")
        answer = Answer(**{name: kept[name] for name in fields}, cost=Decimal(cost_nano) / 10**9)
        asked = _case(case, request)
        return {
            written["name"]: _told(await asyncio.to_thread(score, ready, asked, answer))
            for written, ready in self._scorers
            if ready is not None and bounds.looks_at_cost(ready)
        }

    def in_pairs(self, variables: Mapping[str, str] | None = None) -> list[int]:
        """Places of the scorers that compare two answers; with `variables` of those that the case has all for."""
        return [
            number
            for number, (written, _) in enumerate(self._scorers)
            if written["kind"] == IN_PAIRS and (variables is None or not prompt.names([written]) - set(variables))
        ]

    def judge_of(self, number: int, case: Mapping[str, Any]) -> str:
        """The route that a scorer asks about a case."""
        return str(prompt.filled(self._scorers[number][0]["route"], case["variables"]))

    async def pair(
        self, number: int, case: Mapping[str, Any], messages: Sequence[Mapping[str, Any]],
        answers: tuple[Answer, Answer], ask: judges.Ask,
    ) -> tuple[judges.Winner | None, judges.Winner | None]:  # fmt: skip
        """Who is better in either order. Raises Unjudged."""
        written, ready = self._scorers[number]
        asked = Case(messages=messages, expected=case.get("expected"), variables=case["variables"])
        try:
            spec: Any = ready or _SPEC.validate_python(prompt.filled(written, asked.variables))
        except ValidationError as exc:
            raise Unjudged(f"with this case's variables it is no scorer: {exc.errors()[0]['msg']}") from exc
        return await judges.pair(spec, asked, answers, ask, secrets.token_hex(8))


def _case(case: Mapping[str, Any], request: Mapping[str, Any]) -> Case:
    return Case(
        messages=request["messages"], expected=case.get("expected"), variables=case["variables"],
        tags=case.get("tags") or (), document=case.get("document"),
    )  # fmt: skip


def _told(given: Score) -> dict[str, Any]:
    return {"value": given.value, "passed": given.passed, "note": given.note[:2000]}


class _Asking:
    """What one scorer asks, under a name that request ids have."""

    def __init__(self, what: str, ask: Ask, embed: Embed) -> None:
        self._what, self._ask, self._embed = what, ask, embed

    async def ask(self, route: str, messages: list[dict[str, Any]]) -> Answer:
        """A route's answer."""
        return await self._ask(route, messages, self._what)

    async def embed(self, route: str, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Vectors of texts."""
        return await self._embed(route, texts, self._what)


async def _one(
    written: Mapping[str, Any], ready: ScorerSpec | None, case: Case, answer: Answer, asking: _Asking
) -> Score:
    try:
        spec: Any = ready or _SPEC.validate_python(prompt.filled(written, case.variables))
    except ValidationError as exc:
        return unscored(f"with this case's variables it is no scorer: {exc.errors()[0]['msg']}")
    try:
        match spec.kind:
            case "judge":
                return await judges.rubric(spec, case, answer, asking.ask, secrets.token_hex(8))
            case "similarity":
                return await judges.similarity(spec, case, answer, asking.embed)
            case kind if kind in QUICK:
                return score(spec, case, answer)
            case _:
                return await asyncio.to_thread(score, spec, case, answer)
    except Unjudged as exc:
        return unscored(str(exc))
