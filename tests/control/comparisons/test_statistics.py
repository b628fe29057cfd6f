"""Intervals, tests and ratings, against scipy, choix and figures computed by hand."""

from __future__ import annotations

import choix
import numpy as np
import pytest
from scipy import stats

from control.comparisons import statistics as ours


def test_a_mean_is_over_cases_and_its_interval_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    by_case = [[float(x)] for x in rng.uniform(0, 1, 200)]
    found = ours.mean(by_case)
    theirs = stats.bootstrap(
        ([x for [x] in by_case],), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert found is not None
    assert found.value == pytest.approx(np.mean(by_case))
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert (found.n, found.few) == (200, False)


def test_repeats_of_a_case_are_one_observation() -> None:
    once = ours.mean([[0.0], [1.0], [1.0]])
    often = ours.mean([[0.0] * 50, [1.0] * 50, [1.0] * 50])
    assert once == often
    assert once is not None
    assert once.few
    assert ours.mean([[], [0.5]]) == ours.Interval(0.5, 0.5, 0.5, 1)
    assert ours.mean([]) is None
    assert ours.mean([[]]) is None


def test_the_same_seed_gives_the_same_figures() -> None:
    values = [[x / 30] for x in range(30)]
    assert ours.mean(values, seed=3) == ours.mean(values, seed=3)
    assert ours.mean(values, seed=3) != ours.mean(values, seed=4)


@pytest.mark.parametrize(("good", "n"), [(0, 10), (3, 10), (10, 10), (480, 1000)])
def test_a_share_has_wilsons_interval(good: int, n: int) -> None:
    found = ours.share(good, n)
    theirs = stats.binomtest(good, n).proportion_ci(method="wilson")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert ours.share(0, 0) is None


@pytest.mark.parametrize("n", [5, 12, 40, 300])
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_a_paired_test_is_the_sign_flips_of_scipy(n: int, shift: float) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.uniform(0, 1, n) + shift, rng.uniform(0, 1, n)
    found = ours.paired(first.tolist(), second.tolist())
    theirs = stats.permutation_test(
        (first, second), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=20000,
        vectorized=True, rng=np.random.default_rng(5),
    )  # fmt: skip
    assert found is not None
    assert found.p == pytest.approx(theirs.pvalue, abs=0.02)
    assert found.difference.value == pytest.approx(np.mean(first - second))


def test_a_verdict_needs_enough_cases_and_a_difference() -> None:
    def verdict(first: list[float], second: list[float]) -> str:
        found = ours.paired(first, second)
        assert found is not None
        return found.verdict

    assert verdict([1.0] * 19, [0.0] * 19) == "too_small_to_tell"
    assert verdict([1.0] * 40, [0.0] * 40) == "better"
    assert verdict([0.0] * 40, [1.0] * 40) == "worse"
    assert verdict([0.5] * 40, [0.5] * 40) == "no_difference_seen"
    assert ours.paired([], []) is None


def test_a_small_paired_test_is_exact() -> None:
    found = ours.paired([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    assert found is not None
    assert found.p == 2 / 8  # all three one way, or all three the other


def test_strengths_are_those_of_choix() -> None:
    rng = np.random.default_rng(7)
    true = np.array([0.0, 0.5, 1.0, 2.0])
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b for _ in range(60)]
    games = [(a, b) if rng.random() < 1 / (1 + np.exp(true[b] - true[a])) else (b, a) for a, b in pairs]
    won = np.zeros((4, 4))
    for winner, loser in games:
        won[winner, loser] += 1
    theirs = choix.ilsr_pairwise(4, games)
    found = np.log(ours.bradley_terry(won))
    assert found - found.mean() == pytest.approx(theirs - np.mean(theirs), abs=1e-5)


def test_ratings_know_ties_total_losers_and_their_own_uncertainty() -> None:
    cases: list[list[ours.Outcome]] = [[("a", "b", 1.0), ("b", "c", 1.0), ("a", "c", 1.0)] for _ in range(30)]
    found = ours.ratings(cases)
    assert [one.name for one in found] == ["a", "b", "c"]
    assert all(np.isfinite([one.elo.value, one.elo.low, one.elo.high]).all() for one in found)
    assert sum(one.elo.value for one in found) == pytest.approx(3000)
    ties = ours.ratings([[("a", "b", 0.5)]] * 10)
    assert [one.elo.value for one in ties] == pytest.approx([1000, 1000])
    assert ours.ratings([]) == []
    assert ours.ratings([[]]) == []


def test_a_rating_of_few_and_uneven_meetings_is_finite_in_every_resample() -> None:
    found = ours.ratings([[("a", "b", 1.0)], [("b", "c", 0.0)], [("c", "d", 0.5)]])
    assert {one.name for one in found} == {"a", "b", "c", "d"}
    assert all(one.elo.low <= one.elo.value <= one.elo.high or one.elo.few for one in found)
    assert all(np.isfinite(one.elo.low) and np.isfinite(one.elo.high) for one in found)


def test_ratings_do_not_depend_on_the_order_of_votes() -> None:
    cases: list[list[ours.Outcome]] = [[("a", "b", float(k % 3 == 0))] for k in range(60)]
    values = {one.name: one.elo.value for one in ours.ratings(cases)}
    assert {one.name: one.elo.value for one in ours.ratings(cases[::-1])} == pytest.approx(values)
    # Hand-made: 20 wins of 60 and one tie more, so the odds are 20.5 : 40.5.
    assert values["a"] - values["b"] == pytest.approx(400 * np.log10(20.5 / 40.5), abs=1e-4)


def test_wins_count_both_ways() -> None:
    assert ours.wins([("a", "b", 1.0), ("b", "a", 0.5), ("a", "c", 0.0)]) == {
        ("a", "b"): (1.5, 2), ("b", "a"): (0.5, 2), ("a", "c"): (0.0, 1), ("c", "a"): (1.0, 1),
    }  # fmt: skip


def test_the_front_has_those_that_no_other_beats() -> None:
    points = {"cheap": (1.0, 9.0), "good": (9.0, 1.0), "middle": (5.0, 5.0), "bad": (6.0, 6.0), "twin": (5.0, 5.0)}
    assert ours.pareto(points) == {"cheap", "good", "middle", "twin"}
    assert ours.pareto({}) == set()


def test_kappa_by_hand() -> None:
    # 20 both yes, 15 both no, 5 and 10 apart: agreement 0.7, by chance 0.5 (the example of Cohen 1960's form).
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert ours.kappa(first, second) == pytest.approx(0.4)
    assert ours.kappa(["y"], ["y"]) is None
    assert ours.kappa([], []) is None
