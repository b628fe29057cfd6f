"""`make test`: what failed a second time fails, what cannot run fails, and an unsteady test is named."""

from __future__ import annotations

import pytest

from tests import suite


@pytest.mark.parametrize(
    ("statuses", "failed", "result", "told"),
    [
        ([0, 0, 0], [], 0, ""),
        ([1, 0, 0, 0], ["a.py::one", "b.py"], 0, "UNSTEADY, passed only when run again:\n  a.py::one\n  b.py\n"),
        ([1, 1, 0, 0], ["a.py::one"], 0, "UNSTEADY"),
        ([0, 0, 1, 1], ["a.py::one"], 1, "once more"),
        ([1, 0, 0], [f"a.py::{number}" for number in range(suite.FEW + 1)], 1, ""),
        ([1, 0, 1], [], 1, ""),
        ([2, 1, 0], ["a.py::one"], 2, ""),
        ([0, 3, 0], [], 3, ""),
    ],
)
def test_only_a_few_failures_are_run_again(monkeypatch, capsys, statuses, failed, result, told):
    runs = iter(statuses)
    monkeypatch.setattr(suite, "pytest", lambda *arguments: next(runs))
    monkeypatch.setattr(suite, "failures", lambda: failed)
    assert suite.main() == result
    assert told in capsys.readouterr().out
    assert next(runs, None) is None


def test_failures_are_those_that_pytest_noted(tmp_path):
    assert suite.failures(tmp_path) == []
    noted = tmp_path / ".pytest_cache/v/cache/lastfailed"
    noted.parent.mkdir(parents=True)
    noted.write_text('{"b.py::two": true, "a.py::one": true}')
    assert suite.failures(tmp_path) == ["a.py::one", "b.py::two"]
