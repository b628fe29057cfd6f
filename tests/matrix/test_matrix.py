"""Every cell of the matrix is green, and the page says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.matrix.run import Matrix, cells, matrix, operations


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """One gateway for all cells."""
    with matrix(tmp_path_factory.mktemp("matrix")) as running:
        yield running


@pytest.mark.parametrize(("inbound", "kind", "case"), list(cells()))
def test_cell(trial: Matrix, inbound: str, kind: str, case: str) -> None:
    trial.try_cell(inbound, kind, case)


@pytest.mark.parametrize(("kind", "operation"), list(operations()))
def test_operation(trial: Matrix, kind: str, operation: str) -> None:
    trial.try_operation(kind, operation)
