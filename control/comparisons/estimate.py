"""What a run is likely to cost, before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons import prompt
from control.comparisons.run_schemas import CandidateEstimate, RunEstimate
from control.knowledge.chunking import estimated
from control.models import Route
from control.prices import service as prices
from control.prices.schemas import CostQuestion

GUESS = 500
"""Tokens of an answer that nothing limits."""
VERDICT = 100
"""Tokens of what a judge says."""
FRAME = 250
"""Tokens of what a judge is told besides the rubric, the question and the answer."""
_LIMITS = ("max_completion_tokens", "max_tokens")


async def of(
    session: AsyncSession,
    content: Mapping[str, Any],
    cases: Sequence[Mapping[str, Any]],
    candidates: Sequence[Mapping[str, Any]],
    repeats: int,
) -> RunEstimate:
    """Tokens are counted as they are where no tokenizer is known, and prices are those of the dearest target."""
    found, limited = [], True
    asked_by_judges: dict[str, list[int]] = {}
    for candidate in candidates:
        messages = next(one["messages"] for one in content["prompts"] if one["name"] == candidate["prompt"])
        sizes = estimated([_text(prompt.messages(messages, case)) for case in cases])
        parameters = {**content.get("parameters", {}), **candidate["parameters"]}
        limit = next((parameters[name] for name in _LIMITS if isinstance(parameters.get(name), int)), None)
        limited = limited and limit is not None
        answer = GUESS if limit is None else limit
        requests = len(cases) * repeats
        found.append(
            await _one(
                session, candidate["name"], candidate["route"], requests, sum(sizes) * repeats, answer * requests
            )
        )
        for spec in content.get("scorers", ()):
            if "route" in spec:
                told = sum(sizes) + len(cases) * (answer + FRAME + sum(estimated([spec.get("rubric", "")])))
                held = asked_by_judges.setdefault(f"{spec['kind']}: {spec['route']}", [0, 0])
                held[0] += requests
                held[1] += told * repeats
    for name, (requests, told) in asked_by_judges.items():
        kind, route = name.split(": ", 1)
        said = 0 if kind == "similarity" else VERDICT * requests
        found.append(await _one(session, name, route, requests, told, said))
    return RunEstimate(
        cells=len(cases) * len(candidates) * repeats, cost_nano=sum(one.cost_nano for one in found),
        output_basis="limit" if limited else "guess", candidates=found,
    )  # fmt: skip


async def _one(
    session: AsyncSession, name: str, route: str, requests: int, asked: int, answered: int
) -> CandidateEstimate:
    row = await session.scalar(select(Route).where(Route.name == route))
    question = CostQuestion.model_construct(route=route, input_tokens=asked, output_tokens=answered)
    targets = [] if row is None else await prices.costs(session, row, question)
    return CandidateEstimate(
        candidate=name, route=route, requests=requests, input_tokens=asked, output_tokens=answered,
        cost_nano=max((one.cost_nano for one in targets), default=0),
        priced=bool(targets) and all(one.origin != "none" for one in targets),
    )  # fmt: skip


def _text(messages: Sequence[Mapping[str, Any]]) -> str:
    """All text of messages; pictures are not counted."""
    parts: list[str] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            parts.append(content)
        elif isinstance(content, list):
            parts += [str(part.get("text", "")) for part in content if isinstance(part, dict)]
    return "\n".join(parts)
