"""What a report of a run says."""

from __future__ import annotations

from pydantic import BaseModel

from control.comparisons.statistics import Interval, Verdict
from control.kit.schemas import example


class Figure(BaseModel):
    """A mean and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float
    n: int
    """Cases that it rests on."""
    few: bool
    """Below 20 cases: too small to tell."""

    @classmethod
    def of(cls, interval: Interval) -> Figure:
        """An interval of `statistics`."""
        return cls(value=interval.value, low=interval.low, high=interval.high, n=interval.n, few=interval.few)


class CandidateReport(BaseModel):
    """How a candidate did."""

    candidate: int
    name: str
    route: str
    answered: int
    """Cells with an answer."""
    failed: int
    finish_reasons: dict[str, int]
    """Answers by what they say of their end; an empty name: nothing."""
    errors: dict[str, int]
    """Cells without an answer by the code of the last try."""
    refused: Figure | None
    """Share of the cells whose answer was withheld, with Wilson's interval: the finish reason `content_filter` or
    `refusal`, or a request that was turned down with 4xx for good."""
    limited: Figure | None
    """Share of the cells for which a try was answered 429, though a later one may have helped."""
    scores: dict[str, Figure]
    """By scorer: mean over cases of the mean over repeats; of one that compares in pairs the share of the points."""
    passed: dict[str, Figure]
    """By scorer with a line to pass: share of the cells that pass it, with Wilson's interval."""
    unscored: dict[str, int]
    """By scorer: answers that it could not score."""
    spread: dict[str, float]
    """By scorer: mean over cases of the standard deviation between repeats."""
    latency_ms: dict[str, float]
    """`mean`, `p50` and `p95`."""
    ttft_ms: dict[str, float]
    """Likewise, of streams."""
    tokens_per_second: float | None
    """Output tokens by time after the first one; by the whole time where there is no stream."""
    input_tokens: int
    output_tokens: int
    cost_nano: float | None
    """Mean of an answer; null while the ledger has none."""
    unpriced: int
    """Answers of which the ledger has said nothing yet."""
    quality: float | None
    """Mean of its scorers' means."""
    front: bool
    """No other is as good, as cheap and as fast, and better in one of it."""


class JudgedPair(BaseModel):
    """How often a judge has found which answer better; every case and repeat counts once."""

    first: int
    second: int
    tie: int
    """Those where the order changed what it said among them."""
    swayed: int
    """The order changed what it said."""
    unjudged: int
    """It did not say."""


class Pair(BaseModel):
    """Two candidates on the same cases."""

    first: str
    second: str
    difference: Figure
    """Mean of the first less that of the second."""
    p: float
    """Of a sign-flip permutation test, two-sided."""
    verdict: Verdict
    """Of the first."""
    points: float
    """Cases that the first won, ties half."""
    met: int
    judged: JudgedPair | None = None
    """By a scorer that compares answers in pairs; null by others."""


class RatingFigure(BaseModel):
    """Strength by Bradley and Terry, on Elo's scale around 1000."""

    name: str
    elo: Figure


class ScorerReport(BaseModel):
    """The candidates against each other, by one scorer."""

    scorer: str
    pairs: list[Pair]
    """Each pair once."""
    ratings: list[RatingFigure]
    """Strongest first."""
    swayed: Figure | None = None
    """Of a scorer that compares answers in pairs: share of the pairs where their order changed what it said."""


class TagReport(BaseModel):
    """The cases with one tag."""

    tag: str
    cases: int
    scores: dict[str, dict[str, Figure]]
    """By candidate and scorer."""


class Regression(BaseModel):
    """A case that was better in the other run."""

    case: int
    candidate: str
    scorer: str
    before: float
    now: float


class Change(BaseModel):
    """A candidate against itself in the other run, over the cases that both have."""

    candidate: str
    scorer: str
    difference: Figure
    """Now less before."""
    p: float
    verdict: Verdict


class Against(BaseModel):
    """This run against an earlier one. Candidates are matched by name, cases by their content."""

    run: str
    cases: int
    """That both have."""
    changes: list[Change]
    regressions: list[Regression]
    """The largest first, 500 at most."""


class Report(BaseModel):
    """What a run shows. The same cells give the same figures."""

    model_config = example(
        cases=0, repeats=1, complete=True, resampling_seed=0, scorers=[], candidates=[], comparisons=[], tags=[],
        against=None,
    )  # fmt: skip

    cases: int
    repeats: int
    complete: bool
    """Whether every cell is there."""
    resampling_seed: int
    """Of all intervals."""
    scorers: list[str]
    candidates: list[CandidateReport]
    comparisons: list[ScorerReport]
    tags: list[TagReport]
    against: Against | None
