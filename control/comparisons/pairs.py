"""What a report says of pairs of answers that a judge has compared. Pure, as `report` is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from control.comparisons import statistics
from control.comparisons.report_schemas import Figure, JudgedPair, Pair, RatingFigure, ScorerReport

POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}
"""Of the first answer."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What of a verdict the report needs."""

    case: int
    first: int
    second: int
    scorer: str
    forward: str | None
    backward: str | None
    winner: str | None

    @property
    def swayed(self) -> bool | None:
        """Whether the order changed what the judge said; None: it did not say."""
        return None if self.winner is None else self.forward != self.backward


def values(verdicts: Iterable[Judged]) -> dict[tuple[int, str], dict[int, list[float]]]:
    """(candidate, scorer) -> case -> points against each other candidate and in each repeat."""
    found: dict[tuple[int, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in verdicts:
        if one.winner is not None:
            found[one.first, one.scorer][one.case].append(POINTS[one.winner])
            found[one.second, one.scorer][one.case].append(1 - POINTS[one.winner])
    return found


def unjudged(verdicts: Iterable[Judged]) -> Counter[tuple[int, str]]:
    """(candidate, scorer) -> matches of which the judge did not say who is better."""
    silent = [one for one in verdicts if one.winner is None]
    return Counter((number, one.scorer) for one in silent for number in (one.first, one.second))


def scorer(name: str, names: Sequence[str], verdicts: Sequence[Judged], seed: int) -> ScorerReport:
    """The candidates against each other. `verdicts` are those of this scorer."""
    said = [one for one in verdicts if one.winner is not None]
    by_case: dict[int, list[statistics.Outcome]] = defaultdict(list)
    for one in said:
        by_case[one.case].append((names[one.first], names[one.second], POINTS[str(one.winner)]))
    ratings = statistics.ratings([by_case[case] for case in sorted(by_case)], seed)
    swayed = statistics.share(sum(bool(one.swayed) for one in said), len(said))
    pairs = []
    for first, second in combinations(range(len(names)), 2):
        theirs = [one for one in verdicts if (one.first, one.second) == (first, second)]
        if (pair := _pair((names[first], names[second]), theirs, seed)) is not None:
            pairs.append(pair)
    return ScorerReport(
        scorer=name, pairs=pairs, swayed=None if swayed is None else Figure.of(swayed),
        ratings=[RatingFigure(name=one.name, elo=Figure.of(one.elo)) for one in ratings],
    )  # fmt: skip


def _pair(names: tuple[str, str], verdicts: Sequence[Judged], seed: int) -> Pair | None:
    """None where nothing was judged."""
    points: Mapping[int, list[float]] = defaultdict(list)
    won = Counter(one.winner for one in verdicts)
    for one in verdicts:
        if one.winner is not None:
            points[one.case].append(POINTS[one.winner])
    means = [float(np.mean(points[case])) for case in sorted(points)]
    compared = statistics.paired(means, [1 - mean for mean in means], seed)
    if compared is None:
        return None
    return Pair(
        first=names[0], second=names[1], difference=Figure.of(compared.difference), p=compared.p,
        verdict=compared.verdict, points=sum(means), met=len(means),
        judged=JudgedPair(
            first=won["first"], second=won["second"], tie=won["tie"],
            swayed=sum(bool(one.swayed) for one in verdicts), unjudged=won[None],
        ),
    )  # fmt: skip
