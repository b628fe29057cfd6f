"""What answers must reach on a suite: thresholds of scorers, and no worse than another route. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from control.comparisons.report_schemas import CandidateReport, Report
from control.comparisons.run_schemas import Nano
from control.comparisons.scorers.specs import Label
from control.kit.schemas import Body, Slug, example
from gateway.contract.base import Name

A_GATE: dict[str, Any] = {
    "suite": "support-questions", "thresholds": [{"scorer": "right", "at_least": 0.9}], "not_worse_than": "gpt-4o",
}  # fmt: skip


class Reach(Body):
    """A scorer's mean that must be reached."""

    scorer: Label
    at_least: Annotated[float, Field(strict=True, ge=0, le=1)]
    """Mean of the scorer's values."""


class Gate(Body):
    """A suite, and what answers to it must reach."""

    model_config = example(**A_GATE)

    suite: Slug
    version: Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)] | None = None
    """Of the suite; the newest one whenever it is asked, if absent."""
    thresholds: Annotated[tuple[Reach, ...], Field(max_length=20)] = ()
    not_worse_than: Name | None = None
    """A route that is asked, too: no scorer may find the answers worse than its own, or be unable to tell."""
    repeats: Annotated[int, Field(strict=True, ge=1, le=20)] = 1
    key: Annotated[str, StringConstraints(min_length=1, max_length=250)] | None = None
    """API key that pays; absent: the one named `comparisons` of whoever publishes."""
    budget_nano: Nano | None = None
    """The run pauses once it has cost as much."""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.thresholds and self.not_worse_than is None:
            raise ValueError("needs thresholds, or a route than which it is not worse")
        return self


def missed(one: CandidateReport, wanted: Sequence[Reach]) -> list[str]:
    """What a candidate has not reached."""
    found = []
    for reach in wanted:
        mean = one.scores.get(reach.scorer)
        if mean is None or mean.value < reach.at_least:
            told = "no score" if mean is None else f"{mean.value:.3f}"
            found.append(f"{one.name}: {reach.scorer}: {told}, at least {reach.at_least} is wanted")
    return found


def why_not(gate: Gate, route: str, asked: Sequence[Mapping[str, Any]], made: Report) -> list[str]:
    """What the answers of `route` have not reached; empty: they pass. `asked`: candidates of the run, each with `name`,
    `route` and `prompt`.
    """
    found = [line for one in made.candidates if one.route == route for line in missed(one, gate.thresholds)]
    if gate.not_worse_than is None:
        return found
    of = {(one["route"], one["prompt"]): str(one["name"]) for one in asked}
    wanted = [(name, of[gate.not_worse_than, prompt]) for (each, prompt), name in of.items() if each == route]
    for scorer in made.scorers:
        seen = next((one for one in made.comparisons if one.scorer == scorer), None)
        verdicts = {(pair.first, pair.second): pair.verdict for pair in seen.pairs} if seen is not None else {}
        for pair in wanted:
            verdict = verdicts.get(pair, "too_small_to_tell")
            if verdict in ("worse", "too_small_to_tell"):
                said = "worse than" if verdict == "worse" else "too few scored cases to tell it from"
                found.append(f"{pair[0]}: {scorer}: {said} {pair[1]}")
    return found
