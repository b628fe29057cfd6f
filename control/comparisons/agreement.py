"""How far those who rate answers agree: people among themselves, and with what scored the same answers. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np

from control.comparisons import statistics
from control.comparisons.pairs import POINTS, Judged
from control.comparisons.report_schemas import Figure
from control.comparisons.review_schemas import CandidateReview, PairAgreement, RaterPair, ScorerAgreement

Cell = tuple[int, int, int]
"""Case, candidate and repeat."""
Ratings = Mapping[Cell, Mapping[str, float]]
"""By cell and rater, from 0 to 1."""
LINE = 0.5
"""Ratings from here on pass: three of five points."""


def krippendorff(units: Sequence[Sequence[float]]) -> float | None:
    """Krippendorff's alpha with squared differences: 1 is full agreement, 0 that of chance. Any number of raters may
    have left out any unit. None where fewer than two rated the same, or all ratings are equal.
    """
    together = [np.asarray(unit, float) for unit in units if len(unit) > 1]
    if not together:
        return None
    expected = _squares(np.concatenate(together)) / (sum(len(unit) for unit in together) - 1)
    if expected < statistics.SAME:
        return None
    return 1 - sum(_squares(unit) / (len(unit) - 1) for unit in together) / expected


def _squares(values: Any) -> float:
    """Sum of the squared differences of all ordered pairs."""
    return float(2 * (len(values) * (values**2).sum() - values.sum() ** 2))


def raters(ratings: Ratings) -> list[RaterPair]:
    """Cohen's kappa of every two people, of what passes."""
    found = []
    for one, other in combinations(sorted({rater for given in ratings.values() for rater in given}), 2):
        both = [(given[one], given[other]) for given in ratings.values() if one in given and other in given]
        first, second = ([_passes(pair[place]) for pair in both] for place in (0, 1))
        found.append(RaterPair(first=one, second=other, n=len(both), kappa=statistics.kappa(first, second)))
    return found


def candidates(names: Sequence[str], ratings: Ratings, seed: int) -> list[CandidateReview]:
    """What people think of each candidate."""
    by_case: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (case, candidate, _), given in ratings.items():
        by_case[candidate][case] += given.values()
    found = []
    for number, name in enumerate(names):
        cases = by_case[number]
        mean = statistics.mean([cases[case] for case in sorted(cases)], seed)
        found.append(CandidateReview(name=name, rating=None if mean is None else Figure.of(mean)))
    return found


def scorer(name: str, scores: Mapping[Cell, Mapping[str, Any]], ratings: Ratings) -> ScorerAgreement | None:
    """A scorer against people, on the cells that both have; None where there are none."""
    both = [cell for cell in sorted(ratings) if scores.get(cell, {}).get("value") is not None]
    if not both:
        return None
    people = [_mean(ratings[cell]) for cell in both]
    theirs = [float(scores[cell]["value"]) for cell in both]
    lines = [(_passes(mean), _passes(float(scores[cell]["passed"]))) for cell, mean in zip(both, people, strict=True)
             if scores[cell]["passed"] is not None]  # fmt: skip
    agreed = statistics.share(sum(a == b for a, b in lines), len(lines))
    return ScorerAgreement(
        scorer=name, n=len(both), correlation=_correlation(people, theirs),
        agreed=None if agreed is None else Figure.of(agreed),
        kappa=statistics.kappa([a for a, _ in lines], [b for _, b in lines]),
    )  # fmt: skip


def pairs(name: str, source: Literal["ratings", "votes"], said: Sequence[tuple[str, str]]) -> PairAgreement | None:
    """A judge of pairs against people: what both said of the same pairs, `first`, `second` or `tie` each."""
    agreed = statistics.share(sum(a == b for a, b in said), len(said))
    if agreed is None:
        return None
    return PairAgreement(
        scorer=name, source=source, n=len(said), agreed=Figure.of(agreed),
        kappa=statistics.kappa([a for a, _ in said], [b for _, b in said]),
    )  # fmt: skip


def preferred(verdicts: Sequence[tuple[Judged, int]], ratings: Ratings) -> list[tuple[str, str]]:
    """What people's ratings of two cells say of the pair, and what the judge. Each verdict comes with its repeat."""
    found = []
    for one, repeat in verdicts:
        cells = [ratings.get((one.case, candidate, repeat)) for candidate in (one.first, one.second)]
        if one.winner is not None and cells[0] and cells[1]:
            found.append((better(_mean(cells[0]) - _mean(cells[1])), one.winner))
    return found


def better(difference: float) -> str:
    """Which of two is better, by how much more the first has."""
    return "tie" if abs(difference) < statistics.SAME else "first" if difference > 0 else "second"


def majority(verdicts: Sequence[Judged]) -> str:
    """What a judge says of two candidates and a case over all repeats."""
    return better(float(np.mean([POINTS[one.winner] for one in verdicts if one.winner is not None])) - LINE)


def _mean(given: Mapping[str, float]) -> float:
    return float(np.mean(list(given.values())))


def _passes(value: float) -> str:
    return "pass" if value >= LINE else "fail"


def _correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's; None where one of them never changes."""
    if len(first) < 3 or np.ptp(first) < statistics.SAME or np.ptp(second) < statistics.SAME:
        return None
    return float(np.corrcoef(first, second)[0, 1])
