"""Scorers of figures: thresholds and expressions."""

from __future__ import annotations

import re
from typing import Any

from control.comparisons.scorers import specs
from control.comparisons.scorers.base import Answer, Case, Score, unscored, verdict

_LITERAL = re.compile(r"'[^']*'|\"[^\"]*\"")
_COST = re.compile(r"(?<![\w.])cost\b")


def looks_at_cost(spec: specs.ScorerSpec) -> bool:
    """Whether the score depends on what the answer has cost."""
    if spec.kind == "expression":
        return _COST.search(_LITERAL.sub("", spec.expression)) is not None
    return spec.kind == "threshold" and spec.of == "cost"


def threshold(spec: specs.Threshold, _case: Case, answer: Answer) -> Score:
    """Whether the figure is at most so much."""
    if spec.of in ("latency_ms", "ttft_ms"):
        value: float | None = getattr(answer, spec.of)
    elif spec.of == "cost":
        value = None if answer.cost is None else float(answer.cost)
    else:
        value = answer.usage.get(spec.of)
    if value is None:
        return unscored(f"{spec.of} is not known")
    return verdict(value <= spec.at_most, f"{value:g}")


def expression(spec: specs.Expression, case: Case, answer: Answer) -> Score:
    """What the expression says: a number is the score, true and false are 1 and 0."""
    if answer.cost is None and looks_at_cost(spec):
        return unscored("cost is not known")
    import cel  # noqa: PLC0415  (it brings a command line of its own, half a second of every start)

    try:
        value = cel.compile(spec.expression).execute(_facts(case, answer))
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError) as exc:
        return unscored(str(exc).splitlines()[0][:300])
    if isinstance(value, bool):
        return verdict(value)
    if isinstance(value, int | float) and 0 <= value <= 1:
        return Score(float(value), None)
    return unscored(f"the expression is {str(value)[:100]!r}: neither true, false, nor a number from 0 to 1")


def _facts(case: Case, answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "expected": case.expected or "",
        "variables": dict(case.variables),
        "tags": list(case.tags),
        "finish_reason": answer.finish_reason or "",
        "tool_calls": [str((call.get("function") or {}).get("name")) for call in answer.tool_calls],
        "citations": [str(one.get("filename", "")) for one in answer.citations],
        "tokens": answer.usage.get("completion_tokens", 0),
        "cost": float(answer.cost or 0),
        "latency_ms": float(answer.latency_ms),
        "ttft_ms": float(answer.ttft_ms or 0),
    }
