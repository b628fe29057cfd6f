"""What a run is likely to cost, before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons import prompt
from control.comparisons.run_schemas import CandidateEstimate, RunEstimate
from control.comparisons.scoring import IN_PAIRS
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
    shown: list[int] = []
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
        shown.append(sum(sizes) + len(cases) * answer)
        for spec in content.get("scorers", ()):
            if "route" in spec and spec["kind"] != IN_PAIRS:
                told = sum(sizes) + len(cases) * (answer + FRAME + sum(estimated([spec.get("rubric", "")])))
                held = asked_by_judges.setdefault(f"{spec['kind']}: {spec['route']}", [0, 0])
                held[0] += requests
                held[1] += told * repeats
    for spec in content.get("scorers", ()):
        if spec["kind"] == IN_PAIRS and len(candidates) > 1:  # every answer is shown beside each other one, twice
            requests = 2 * matches({"scorers": [spec]}, len(cases), len(candidates), repeats)
            beside = 2 * (len(candidates) - 1) * repeats * sum(shown)
            asked_by_judges[f"{spec['kind']} {spec['name']}: {spec['route']}"] = [
                requests, beside + requests * (FRAME + sum(estimated([spec["rubric"]])))
            ]  # fmt: skip
    for name, (requests, told) in asked_by_judges.items():
        kind, route = name.rsplit(": ", 1)
        said = 0 if kind == "similarity" else VERDICT * requests
        found.append(await _one(session, name, route, requests, told, said))
    return RunEstimate(
        cells=len(cases) * len(candidates) * repeats, cost_nano=sum(one.cost_nano for one in found),
        output_basis="limit" if limited else "guess", candidates=found,
    )  # fmt: skip


def matches(content: Mapping[str, Any], cases: int, candidates: int, repeats: int) -> int:
    """Pairs of answers that judges compare, if every case has the variables of every scorer."""
    judges: int = sum(one["kind"] == IN_PAIRS for one in content.get("scorers", ()))
    return judges * cases * repeats * candidates * (candidates - 1) // 2


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
