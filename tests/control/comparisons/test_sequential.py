"""The test that may be looked at after every sample: its bounds by hand, and its errors by simulation beside those of a
t-test that is looked at as often."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from control.comparisons import sequential as ours

ALPHA, MARGIN, LONGEST, RUNS = 0.05, 0.05, 300, 2000
ON_THE_LINE = {"few differ": (0.05, 0.95, 0.0), "some differ": (0.15, 0.75, 0.10), "many differ": (0.35, 0.35, 0.30)}
"""Chances of -1, 0 and 1, of which the mean is just -MARGIN: here either decision is wrong."""


def drawn(chances: tuple[float, float, float], runs: int = RUNS, seed: int = 7) -> ours.Floats:
    return np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], (runs, LONGEST), p=chances)


def ever(samples: ours.Floats) -> tuple[float, float]:
    """Shares of the runs in which the version was ever found not worse, and worse, when it is looked at after each
    sample; by the capital of the two gamblers against -MARGIN."""
    x, line = (samples + 1) / 2, np.array([(1 - MARGIN) / 2])
    up, down = (float(ours._ever(x, line, ALPHA, way)[:, -1].mean()) for way in (True, False))
    return up, down


@pytest.mark.parametrize("chances", ON_THE_LINE.values(), ids=ON_THE_LINE)
def test_wrong_decisions_are_rare_however_often_one_looks(chances: tuple[float, float, float]) -> None:
    up, down = ever(drawn(chances))
    noise = 3 * math.sqrt(ALPHA / 2 * (1 - ALPHA / 2) / RUNS)
    assert up <= ALPHA / 2 + noise
    assert down <= ALPHA / 2 + noise
    assert up + down <= ALPHA + noise


def test_a_t_test_that_is_looked_at_as_often_is_wrong_far_too_often() -> None:
    samples = drawn(ON_THE_LINE["many differ"], 500)
    wrong = 0
    for one in samples:
        n = np.arange(20, LONGEST + 1)
        means, squares = np.cumsum(one)[n - 1] / n, np.cumsum(one**2)[n - 1]
        deviations = np.sqrt((squares - n * means**2) / (n - 1))
        p = 2 * stats.t.sf(np.abs((means + MARGIN) / (deviations / np.sqrt(n))), n - 1)
        wrong += bool((p < ALPHA).any())
    assert wrong / len(samples) > 3 * ALPHA
    assert sum(ever(samples)) <= ALPHA


def test_it_does_decide() -> None:
    same, worse = drawn((0.01, 0.98, 0.01), 200), drawn((0.25, 0.70, 0.05), 200)
    assert ever(same)[0] > 0.95
    up, down = ever(worse)
    assert up == 0.0
    assert down > 0.85


def test_the_interval_is_that_of_two_gamblers_by_hand() -> None:
    differences = [0.0, -0.5, 1.0, -1.0, 0.25, 0.0, -1.0, -1.0, -0.75, -1.0, -1.0, -1.0] * 3
    found = ours.points(differences, ALPHA, MARGIN)
    x = [(one + 1) / 2 for one in differences]

    def ruined(line: float, up: bool, until: int) -> bool:
        capital, most = 1.0, 0.0
        for t in range(1, until + 1):
            means = [(0.5 + sum(x[:i])) / (i + 1) for i in range(1, t)]
            variance = (0.25 + sum((x[i] - means[i]) ** 2 for i in range(t - 1))) / t
            bet = math.sqrt(2 * math.log(2 / ALPHA) / (variance * t * math.log(t + 1)))
            if up:
                capital *= 1 + min(bet, 0.75 / line) * (x[t - 1] - line)
            else:
                capital *= 1 - min(bet, 0.75 / (1 - line)) * (x[t - 1] - line)
            most = max(most, capital)
        return most >= 2 / ALPHA

    for n in (5, 20, 36):
        low, high = found[n - 1].low, found[n - 1].high
        assert found[n - 1].mean == pytest.approx(np.mean(differences[:n]))
        for bound, up in ((low, True), (high, False)):
            outside, inside = (-0.0011, 0.0011) if up else (0.0011, -0.0011)
            assert abs(bound) == 1.0 or ruined((bound + outside + 1) / 2, up, n)
            assert not ruined((bound + inside + 1) / 2, up, n)
    assert [one.n for one in found] == list(range(1, 37))
    assert all(later.low >= one.low and later.high <= one.high for one, later in pairwise(found))


def test_decisions_are_those_of_the_interval() -> None:
    good, bad = ours.points([0.0] * 200, ALPHA, MARGIN), ours.points([-1.0, 0.0] * 40, ALPHA, MARGIN)
    assert ours.decided(good, MARGIN, 40) == "not_worse"
    assert ours.decided(good, MARGIN, 201) is None, "too few samples"
    assert ours.decided(good[:20], MARGIN, 1) is None
    assert ours.decided(bad, MARGIN, 40) == "worse"
    assert ours.decided([], MARGIN, 1) is None
    assert ours.points([], ALPHA, MARGIN) == []
    drifted = [ours.Point(100, 0.0, 0.02, -0.2)]
    assert ours.decided(drifted, MARGIN, 40) == "worse", "a mean that drifts is not taken"


def test_it_is_quick_and_small_with_the_most_samples() -> None:
    samples = np.random.default_rng(3).uniform(-1, 1, 5000)
    found = ours.points(samples.tolist(), ALPHA, MARGIN)
    assert found[-1].low < samples.mean() < found[-1].high
    assert found[-1].high - found[-1].low < 0.15
