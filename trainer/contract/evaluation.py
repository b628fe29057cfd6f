"""What multiple-choice questions say about a model: how often the right choice is its likeliest."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

_Z = 1.959963984540054
"""Of a 95 % interval."""


class Accuracy(BaseModel):
    """A share of right answers with its 95 % interval (Wilson's, which holds for few questions, too)."""

    model_config = ConfigDict(frozen=True)

    right: int
    share: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class Side(BaseModel):
    """One model's answers."""

    model_config = ConfigDict(frozen=True)

    plain: Accuracy
    """By the log-likelihood of each choice."""
    normalised: Accuracy
    """By the log-likelihood per character of it: long choices are not worse off."""


class Evaluated(BaseModel):
    """The answers of the base model and of the result to the same questions."""

    model_config = ConfigDict(frozen=True)

    questions: int = Field(ge=1)
    cut: int = 0
    """Questions whose beginning did not fit into the model's context."""
    base: Side
    result: Side
    won: int
    """Questions that the result has right and the base model wrong (plain)."""
    lost: int
    """The other way round."""


def accuracy(right: int, questions: int) -> Accuracy:
    """Of so many right answers to so many questions (one at least)."""
    share = right / questions
    middle = share + _Z**2 / (2 * questions)
    wide = _Z * math.sqrt(share * (1 - share) / questions + _Z**2 / (4 * questions**2))
    whole = 1 + _Z**2 / questions
    low, high = max(0.0, (middle - wide) / whole), min(1.0, (middle + wide) / whole)
    return Accuracy(right=right, share=share, low=min(low, share), high=max(high, share))
