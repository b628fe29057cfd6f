"""Pairs of answers that a judge compares, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from control.comparisons.scorers.judges import Winner


class Match(NamedTuple):
    """Two answers to one case that one scorer compares."""

    case: int
    """Number, from 1."""
    first: int
    """Place of a candidate; `second` is larger."""
    second: int
    repeat: int
    scorer: int
    """Place in the version's scorers."""


@dataclass(slots=True)
class Verdict:
    """What became of a match."""

    case: int
    first: int
    second: int
    repeat: int
    scorer: int
    forward: Winner | None
    """Who is better, asked with the first answer shown first; None: the judge did not say."""
    backward: Winner | None
    """Likewise with the second answer shown first."""
    winner: Winner | None
    """What both orders together say: a tie where they differ."""
    note: str
    """Why there is none."""
    request_ids: list[str]
    """Of the last try in each order."""
    finished_at: str
    """ISO 8601."""


def question(
    case: dict[str, Any], first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What both were asked: a judge must not take the prompt of the one for the question of both."""
    both = [message for message in first if message in second]
    if any(message.get("role") == "user" for message in both):
        return both
    told = "\n".join(f"{name}: {value}" for name, value in case["variables"].items())
    return [*both, *([{"role": "user", "content": told}] if told else [])]
