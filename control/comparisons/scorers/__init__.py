"""Scorers: what says how good an answer is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from control.comparisons.scorers import bounds, specs, structure, text
from control.comparisons.scorers.base import Answer, Case, Score

_SCORERS: dict[str, Callable[[Any, Case, Answer], Score]] = {
    "exact": text.exact,
    "contains": text.contains,
    "regex": text.matches,
    "numeric": text.numeric,
    "bleu": text.bleu,
    "chrf": text.chrf,
    "rouge_l": text.rouge_l,
    "json_schema": structure.json_schema,
    "json_field": structure.json_field,
    "tool_call": structure.tool_call,
    "citation": structure.citation,
    "threshold": bounds.threshold,
    "expression": bounds.expression,
}
ASKING = ("similarity", "judge", "pairwise_judge")
"""Kinds that ask a route: `scorers.judges`."""


def score(spec: specs.ScorerSpec, case: Case, answer: Answer) -> Score:
    """What a scorer says that asks nobody; KeyError for the kinds in `ASKING`. Takes up to 0.2 s of one core."""
    return _SCORERS[spec.kind](spec, case, answer)
