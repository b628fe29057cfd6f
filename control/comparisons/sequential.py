"""A test that may be looked at after every sample: is one route's score worse than another's by more than a margin?

Each sample is the difference of two scores of the same question, -1 to 1. The interval of their mean is a confidence
sequence by betting: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B, 2024),
hedged capital with predictable plug-in bets; see also Howard et al., "Time-uniform, nonparametric, nonasymptotic
confidence sequences" (Annals of Statistics, 2021). For every candidate mean two gamblers bet that the true one is above
it, or below it; where that is wrong their capital is a nonnegative supermartingale, so by Ville's inequality it *ever*
reaches 2/alpha with a chance of alpha/2 at most. Nothing is assumed but the range, and that the mean does not depend on
what was seen before: looking as often as one likes, and stopping when one likes, costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Said = Literal["not_worse", "worse"]
_STEPS = 2_000
"""Of the grid over -1 to 1: bounds are outwards by 0.001 at most."""
_CAP = 0.75
"""Most part of its capital that a gambler loses by one sample."""
_AT_ONCE = 2_000_000
"""Numbers in memory at once."""


class Point(NamedTuple):
    """What is known after so many samples."""

    n: int
    mean: float
    low: float
    """The mean lies between `low` and `high` after each number of samples at once, with a confidence of 1 - alpha."""
    high: float


def points(differences: Sequence[float], alpha: float, margin: float) -> list[Point]:
    """The interval after each sample; it never widens. `margin` is a point of the grid, so that bounds decide exactly.

    Where the mean drifts, `low` may come to lie above `high`: then no single mean explains what was seen.
    """
    n = len(differences)
    if not n:
        return []
    x = _shifted(np.asarray(differences, float))
    grid = np.union1d(np.linspace(0.0, 1.0, _STEPS + 1), _shifted(np.array([-margin])))
    low, high = np.zeros(n), np.ones(n)
    at_once = max(1, _AT_ONCE // n)
    for start in range(0, len(grid), at_once):
        some = grid[start : start + at_once, None]
        above, below = (_ever(x, some, alpha, up) for up in (True, False))
        low = np.maximum(low, np.where(above, some, 0.0).max(0))
        high = np.minimum(high, np.where(below, some, 1.0).min(0))
    means = np.cumsum(differences) / np.arange(1, n + 1)
    return [
        Point(at + 1, float(means[at]), float(2 * low[at] - 1), float(2 * high[at] - 1)) for at in range(n)
    ]  # fmt: skip


def decided(seen: Sequence[Point], margin: float, least: int) -> Said | None:
    """What the last point allows to say: `not_worse` when the mean is above -margin, `worse` when it is below.

    Both at once is a mean that drifts: that is `worse`, since nobody can answer for it.
    """
    if not seen or seen[-1].n < least:
        return None
    if seen[-1].high <= -margin:
        return "worse"
    return "not_worse" if seen[-1].low >= -margin else None


def _shifted(differences: Floats) -> Floats:
    return (differences + 1) / 2


def _ever(x: Floats, mean: Floats, alpha: float, up: bool) -> npt.NDArray[np.bool_]:
    """Whether the gambler against a mean has had 2/alpha by each sample. `x` and `mean` are from 0 to 1; `mean` has an
    axis of length 1 for the samples.
    """
    bets = _bets(x, alpha)
    if up:
        factors = np.minimum(bets, _CAP / np.maximum(mean, 1e-12)) * (x - mean)
    else:
        factors = np.minimum(bets, _CAP / np.maximum(1 - mean, 1e-12)) * (mean - x)
    capital = np.cumsum(np.log1p(factors), -1)
    return np.asarray(np.maximum.accumulate(capital, -1) >= np.log(2 / alpha))


def _bets(x: Floats, alpha: float) -> Floats:
    """What is bet on each sample, from those before it alone: the more, the less they vary."""
    n = x.shape[-1]
    count = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(x, -1)) / (count + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2, -1)) / (count + 1)
    before = np.concatenate([np.full_like(variances[..., :1], 0.25), variances[..., :-1]], -1)
    return np.asarray(np.sqrt(2 * np.log(2 / alpha) / (before * count * np.log(count + 1))))
