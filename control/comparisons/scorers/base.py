"""What scorers are given, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answered in one cell."""

    text: str
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """As in an OpenAI message: `{"id", "type": "function", "function": {"name", "arguments"}}`."""
    finish_reason: str | None = None
    citations: Sequence[Mapping[str, Any]] = ()
    """As the gateway writes them: `index`, `file_id`, `filename`, `page`, `chunk_id` among others."""
    usage: Mapping[str, int] = field(default_factory=dict)
    """Tokens, named as in an OpenAI `usage`."""
    cost: Decimal | None = None
    """Of this request, in the ledger's currency; None where the route has no price."""
    latency_ms: float = 0.0
    ttft_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One question of a suite."""

    messages: Sequence[Mapping[str, Any]]
    expected: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    document: str | None = None
    """Where the answer should come from: the name of a document of a knowledge base."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one scorer says of one answer."""

    value: float | None
    """From 0 (worst) to 1; None: this answer cannot be scored, and `note` says why."""
    passed: bool | None = None
    """None where the scorer has no line to pass."""
    note: str = ""
    """Why, in a sentence for people."""


def verdict(good: bool, note: str = "") -> Score:
    """The score of a scorer that knows only right and wrong."""
    return Score(1.0 if good else 0.0, good, note)


def unscored(note: str) -> Score:
    """No score, and why."""
    return Score(None, None, note)
