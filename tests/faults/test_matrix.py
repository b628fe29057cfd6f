"""The page of degraded modes says what `cells.toml` says, and every test that it names is there."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.faults.matrix import PAGE, RAN, cells, page


def test_every_test_that_is_named_exists() -> None:
    for cell in cells():
        for test in cell.tests:
            path, _, name = test.partition("::")
            tree = ast.parse(Path(path).read_text(encoding="utf-8"))
            there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in there if name else any(one.startswith("test_") for one in there), test


def test_a_cell_has_its_tests_and_words_or_its_reason() -> None:
    for cell in cells():
        words = (cell.holds, cell.degrades, cell.recovers)
        assert all(words) == bool(cell.tests) != bool(cell.because), cell
        assert any(words) == bool(cell.tests), cell


def test_the_page_is_what_the_cells_say() -> None:
    told = PAGE.read_text(encoding="utf-8")
    (ran,) = [line for line in told.splitlines() if line.startswith(RAN)]
    assert told == page(ran), "run make faults"
