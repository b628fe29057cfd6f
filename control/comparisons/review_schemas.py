"""Bodies of what people say of a run's answers, one by one and blind."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from control.comparisons.report_schemas import Figure
from control.kit.schemas import Body, Flag, example

Scale = Literal["", "points", "passed"]
Text = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]


class RatingCreate(Body):
    """What somebody thinks of an answer: points from 1 (worst) to 5, or whether it passes."""

    model_config = example(points=4, note="Right, but long")

    points: Annotated[int, Field(strict=True, ge=1, le=5)] | None = None
    passed: Flag | None = None
    note: Text = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.points is None) == (self.passed is None):
            raise ValueError("say either points or passed")
        return self


class ReviewItem(BaseModel):
    """An answer that is to be rated. Whose it is nobody says."""

    item: str
    """Its name, for this person."""
    messages: list[dict[str, Any]]
    """What was asked."""
    expected: str | None
    text: str
    tool_calls: list[dict[str, Any]]


class Review(BaseModel):
    """How far a person is with a run's answers, and the next one."""

    model_config = example(
        scale="points", total=120, rated=7,
        item={
            "item": "9f86d081884c7d65", "messages": [{"role": "user", "content": "6 × 7?"}], "expected": "42",
            "text": "It is 42.", "tool_calls": [],
        },
    )  # fmt: skip

    scale: Scale
    """That of the run's first rating, which all others have, too; empty while there is none."""
    total: int
    """Answers that there are."""
    rated: int
    """By this person."""
    item: ReviewItem | None
    """Null: all are rated."""


class CandidateReview(BaseModel):
    """What people think of a candidate."""

    name: str
    rating: Figure | None
    """Mean over cases, from 0 (1 point, or failed) to 1 (5 points, or passed)."""


class RaterPair(BaseModel):
    """Two people."""

    first: str
    second: str
    n: int
    """Answers that both rated."""
    kappa: float | None
    """Cohen's, of what passes (3 points and more); null where chance explains all."""


class ScorerAgreement(BaseModel):
    """A scorer against the mean of people's ratings, on the answers that both have."""

    scorer: str
    n: int
    correlation: float | None
    """Pearson's, of the values."""
    agreed: Figure | None
    """Share of the answers of which both say that they pass, or both that they fail."""
    kappa: float | None
    """Cohen's, of the same."""


class PairAgreement(BaseModel):
    """A judge of pairs against people."""

    scorer: str
    source: Literal["ratings", "votes"]
    """`ratings`: which of the two answers people rate higher. `votes`: which route's answer to the same messages they
    found better side by side."""
    n: int
    agreed: Figure
    kappa: float | None


class ReviewReport(BaseModel):
    """What people say of a run."""

    model_config = example(
        scale="points", raters={"alice": 120, "bob": 80}, cells=120, alpha=0.71, raters_in_pairs=[], candidates=[],
        scorers=[], pairs=[],
    )  # fmt: skip

    scale: Scale
    raters: dict[str, int]
    """How many answers each has rated."""
    cells: int
    """Answers that somebody has rated."""
    alpha: float | None
    """Krippendorff's, of all raters, with squared differences; null where fewer than two rated the same answer, or all
    ratings are equal."""
    raters_in_pairs: list[RaterPair]
    candidates: list[CandidateReview]
    scorers: list[ScorerAgreement]
    pairs: list[PairAgreement]
