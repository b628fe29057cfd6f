"""Agreement of raters: figures that were published, or that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from control.comparisons import agreement
from control.comparisons.pairs import Judged

_ = math.nan
# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): four observers, twelve units.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]


def test_alpha_is_what_krippendorff_published() -> None:
    units = [[value for value in unit if not math.isnan(value)] for unit in zip(*OBSERVERS, strict=True)]
    assert agreement.krippendorff(units) == pytest.approx(0.849, abs=5e-4)
    binary = zip((0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0), strict=True)
    assert agreement.krippendorff([list(unit) for unit in binary]) == pytest.approx(0.095, abs=5e-4)


def test_alpha_of_nothing_and_of_all_the_same_is_none() -> None:
    assert agreement.krippendorff([]) is None
    assert agreement.krippendorff([[1.0], [0.0]]) is None
    assert agreement.krippendorff([[0.5, 0.5], [0.5, 0.5, 0.5]]) is None
    assert agreement.krippendorff([[1.0, 1.0], [0.0, 0.0]]) == 1


@given(st.lists(st.lists(st.integers(0, 4), max_size=4), max_size=8))
def test_alpha_is_that_of_its_definition(units: list[list[int]]) -> None:
    together = [unit for unit in units if len(unit) > 1]
    values = [value for unit in together for value in unit]
    found = agreement.krippendorff([[float(value) for value in unit] for unit in units])
    if len(set(values)) < 2:
        assert found is None
        return
    n = len(values)
    seen = sum((a - b) ** 2 / (len(unit) - 1) for unit in together for a in unit for b in unit) / n
    chance = sum((a - b) ** 2 for a in values for b in values) / (n * (n - 1))
    assert found == pytest.approx(1 - seen / chance)


RATINGS = {
    (1, 0, 0): {"ann": 1.0, "bob": 0.75}, (1, 1, 0): {"ann": 0.25, "bob": 0.5}, (2, 0, 0): {"ann": 0.0},
    (2, 1, 0): {"ann": 0.0, "cem": 0.25},
}  # fmt: skip


def test_people_in_pairs_by_cohens_kappa() -> None:
    found = {(one.first, one.second): one for one in agreement.raters(RATINGS)}
    # ann: pass, fail; bob: pass, pass. Observed 1/2; by chance 1/2 · 1 + 1/2 · 0 = 1/2.
    assert (found["ann", "bob"].n, found["ann", "bob"].kappa) == (2, 0.0)
    assert (found["ann", "cem"].n, found["ann", "cem"].kappa) == (1, None)
    assert found["bob", "cem"].n == 0


def test_a_scorer_against_people() -> None:
    scores = {
        (1, 0, 0): {"value": 0.9, "passed": True}, (1, 1, 0): {"value": 0.2, "passed": False},
        (2, 0, 0): {"value": 0.6, "passed": True}, (2, 1, 0): {"value": None, "passed": None}, (3, 0, 0): {},
    }  # fmt: skip
    found = agreement.scorer("judge", scores, RATINGS)
    assert found is not None
    assert found.agreed is not None
    assert (found.n, found.agreed.value) == (3, pytest.approx(2 / 3))
    # people: pass, fail, fail; judge: pass, fail, pass. Observed 2/3; chance 1/3 · 2/3 + 2/3 · 1/3 = 4/9.
    assert found.kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    assert found.correlation == pytest.approx(np.corrcoef([0.875, 0.375, 0.0], [0.9, 0.2, 0.6])[0, 1])
    assert agreement.scorer("none", {}, RATINGS) is None


def test_what_people_prefer_against_the_judge() -> None:
    verdicts = [
        (Judged(case, 0, 1, "pairs", winner, winner, winner), 0)
        for case, winner in ((1, "first"), (2, "tie"), (3, "first"))
    ]
    assert agreement.preferred(verdicts, RATINGS) == [("first", "first"), ("second", "tie")]
    found = agreement.pairs("pairs", "ratings", agreement.preferred(verdicts, RATINGS))
    assert found is not None
    assert found.agreed.value == 0.5
    assert agreement.pairs("pairs", "votes", []) is None
    assert agreement.majority([verdicts[0][0], verdicts[1][0]]) == "first"
