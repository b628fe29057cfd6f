"""The page of degraded modes says what `cells.toml` says, and every test that it names is there."""

from __future__ import annotations

from tests.faults.matrix import PAGE, RAN, cells, page
from tests.named import missing


def test_every_test_that_is_named_exists() -> None:
    assert missing(test for cell in cells() for test in cell.tests) == []


def test_a_cell_has_its_tests_and_words_or_its_reason() -> None:
    for cell in cells():
        words = (cell.holds, cell.degrades, cell.recovers)
        assert all(words) == bool(cell.tests) != bool(cell.because), cell
        assert any(words) == bool(cell.tests), cell


def test_the_page_is_what_the_cells_say() -> None:
    told = PAGE.read_text(encoding="utf-8")
    (ran,) = [line for line in told.splitlines() if line.startswith(RAN)]
    assert told == page(ran), "run make faults"
