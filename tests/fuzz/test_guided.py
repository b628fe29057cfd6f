"""The hunt under atheris tells what it has done, what it has found, and why it has done nothing."""

from __future__ import annotations

import pytest

from tests.fuzz import guided

here = pytest.mark.skipif(bool(guided.missing()), reason=guided.missing() or "-")


def test_without_atheris_it_says_so_and_why(monkeypatch, capsys):
    monkeypatch.setattr(guided, "find_spec", lambda name: None)
    assert guided.main(["--seconds", "1"]) == 0
    assert "SKIPPED the stream decoders under atheris: atheris is not installed" in capsys.readouterr().err


@here
def test_a_hunt_counts_what_it_ran(capsys):
    assert guided.main(["--seconds", "1", "--decoder", "gemini"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("atheris, gemini: ")
    assert int(told.split()[2].replace(",", "")) > 50


@here
def test_what_escapes_a_decoder_is_found_and_fails():
    found = guided.hunt("nobody's", 1)
    assert "nobody's" in found.problem
    assert found.runs == 0
