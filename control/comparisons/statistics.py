"""What the figures of a run allow to say: intervals, ratings, paired tests, the Pareto front.

All randomness comes from a seed that the report names, so that the same cells give the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES = 2_000
"""Of a bootstrap."""
CONFIDENCE = 0.95
FEW = 20
"""Below so many cases an interval is shown with the word that it is too small to tell."""
SAME = 1e-12
_ROUNDS = 10_000
_CELLS = 4_000_000
"""Random numbers in memory at once."""

Verdict = Literal["better", "worse", "no_difference_seen", "too_small_to_tell"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float
    n: int
    """Cases that it rests on."""

    @property
    def few(self) -> bool:
        """Whether the sample is too small to tell anything."""
        return self.n < FEW


@dataclass(frozen=True, slots=True)
class Paired:
    """Two routes on the same cases: the mean of the first less that of the second."""

    difference: Interval
    p: float
    """Two-sided, of a sign-flip permutation test: exact below 2^13 arrangements, else by `_ROUNDS` drawn ones."""
    verdict: Verdict
    """Of the first route."""


@dataclass(frozen=True, slots=True)
class Rating:
    """Strength in pairwise verdicts by Bradley and Terry, on Elo's scale around 1000."""

    name: str
    elo: Interval


Outcome = tuple[str, str, float]
"""Two names, and what the first one got: 1 won, 0.5 tied, 0 lost."""


def mean(by_case: Sequence[Sequence[float]], seed: int = 0) -> Interval | None:
    """Mean over cases of the mean over their repeats; cases are drawn, since the repeats of one are not independent.

    None where there is nothing to average.
    """
    values = np.array([float(np.mean(case)) for case in by_case if len(case)])
    if not len(values):
        return None
    low, high = _bounds(_resampled_means(values, seed))
    return Interval(float(values.mean()), low, high, len(values))


def share(good: int, n: int) -> Interval | None:
    """A share by Wilson's interval, which holds near 0 and 1, too."""
    if not n:
        return None
    z2, p = 1.959963984540054**2, good / n
    middle, half = p + z2 / (2 * n), (z2 * (p * (1 - p) / n + z2 / (4 * n * n))) ** 0.5
    return Interval(p, max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n)), n)


def paired(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Paired | None:
    """Compare two routes case by case; both have one figure for each case. None without cases."""
    differences = np.asarray(first, float) - np.asarray(second, float)
    if not len(differences):
        return None
    low, high = _bounds(_resampled_means(differences, seed))
    interval = Interval(float(differences.mean()), low, high, len(differences))
    p = _sign_flips(differences, seed)
    if interval.few:
        verdict: Verdict = "too_small_to_tell"
    elif p >= 1 - CONFIDENCE:
        verdict = "no_difference_seen"
    else:
        verdict = "better" if interval.value > 0 else "worse"
    return Paired(interval, p, verdict)


def wins(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], tuple[float, int]]:
    """For each ordered pair that met: points of the first against the second, and how often they met."""
    table: dict[tuple[str, str], tuple[float, int]] = {}
    for one, other, points in outcomes:
        for pair, won in (((one, other), points), ((other, one), 1 - points)):
            before, met = table.get(pair, (0.0, 0))
            table[pair] = (before + won, met + 1)
    return table


def ratings(by_case: Sequence[Sequence[Outcome]], seed: int = 0, resamples: int = 200) -> list[Rating]:
    """Bradley-Terry of all outcomes, strongest first, with intervals by drawing cases.

    A tie is half a win for both. To be finite also for one who won or lost everything, each pair gets one more tie.
    Whoever met nobody is not there; names without a chain of meetings between them cannot be compared.
    """
    names = sorted({name for case in by_case for outcome in case for name in outcome[:2]})
    if not names:
        return []
    index = {name: at for at, name in enumerate(names)}
    each = np.zeros((len(by_case), len(names), len(names)))
    for at, case in enumerate(by_case):
        for one, other, points in case:
            each[at, index[one], index[other]] += points
            each[at, index[other], index[one]] += 1 - points
    total = each.sum(0)
    ties = 0.5 * (total + total.T > 0)
    elo = _elo(total + ties)
    rng = np.random.default_rng(seed)
    drawn = np.array([
        _elo(np.tensordot(rng.multinomial(len(each), np.full(len(each), 1 / len(each))), each, 1) + ties)
        for _ in range(resamples)
    ])  # fmt: skip
    counts = (each.sum(2) + each.sum(1) > 0).sum(0)
    found = [
        Rating(name, Interval(float(elo[at]), *_bounds(drawn[:, at]), int(counts[at]))) for name, at in index.items()
    ]
    return sorted(found, key=lambda one: -one.elo.value)


def bradley_terry(won: Floats) -> Floats:
    """Strengths, their geometric mean 1, by Hunter's (2004) iteration. `won[i, j]`: how often i beat j, ties half.

    Everyone must be linked to everyone by chains of wins.
    """
    met = won + won.T
    strength = np.ones(len(won))
    for _ in range(_ROUNDS):
        fresh = won.sum(1) / np.where(met > 0, met / (strength[:, None] + strength[None, :]), 0).sum(1)
        fresh /= np.exp(np.log(fresh).mean())
        if np.abs(np.log(fresh / strength)).max() < 1e-9:
            return fresh  # type: ignore[no-any-return]
        strength = fresh
    return strength


def pareto(points: Mapping[str, tuple[float, ...]]) -> set[str]:
    """Names that no other beats, that is, is as low in every figure and lower in one. Less is better in each."""
    beaten = set()
    for one, other in combinations(points, 2):
        a, b = points[one], points[other]
        if a == b:
            continue
        if all(x <= y for x, y in zip(a, b, strict=True)):
            beaten.add(other)
        elif all(x >= y for x, y in zip(a, b, strict=True)):
            beaten.add(one)
    return set(points) - beaten


def kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa of two who judged the same: 1 is full agreement, 0 that of chance; None where chance is all."""
    n = len(first)
    if not n:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum((first.count(one) / n) * (second.count(one) / n) for one in set(first))
    return None if chance > 1 - SAME else (agreed - chance) / (1 - chance)


def _elo(won: Floats) -> Floats:
    return np.asarray(1000 + 400 * np.log10(bradley_terry(won)))


def _resampled_means(values: Floats, seed: int) -> Floats:
    """Means of samples drawn with replacement, a piece at a time to stay small in memory."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // len(values))
    pieces = [
        values[rng.integers(0, len(values), (min(at_once, RESAMPLES - done), len(values)))].mean(1)
        for done in range(0, RESAMPLES, at_once)
    ]
    return np.concatenate(pieces)


def _bounds(drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _sign_flips(differences: Floats, seed: int) -> float:
    """How often the mean is as far from 0 as it is, if each difference could as well have the other sign."""
    moved = differences[np.abs(differences) > SAME]
    if not len(moved):
        return 1.0
    seen = abs(float(moved.sum())) - SAME
    if len(moved) <= 13:
        signs = ((np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1) * 2 - 1
        return float((np.abs(signs @ moved) >= seen).mean())
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // len(moved))
    hits = 0
    for done in range(0, _ROUNDS, at_once):
        signs = rng.integers(0, 2, (min(at_once, _ROUNDS - done), len(moved))) * 2 - 1
        hits += int((np.abs(signs @ moved) >= seen).sum())
    return (hits + 1) / (_ROUNDS + 1)  # the arrangement that was seen is one of them
