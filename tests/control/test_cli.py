"""The `tunegate` command finds the right module for each word, and needs nothing but the standard library for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from control import cli


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, argv: calls.append([path, *argv]))
    monkeypatch.chdir(tmp_path)
    return calls


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["gateway", "--config", "c", "--workers", "2"], ["gateway", "serve", "--config", "c", "--workers", "2"]),
        (["trainer", "--config", "c"], ["trainer", "--config", "c"]),
        (["usage", "--config", "c", "--csv"], ["gateway", "usage", "--config", "c", "--csv"]),
        (["route", "explain", "gpt", "--config=c"], ["gateway", "route", "explain", "gpt", "--config=c"]),
        (["config", "check", "c.toml"], ["gateway", "config", "check", "c.toml"]),
        (["usage"], ["gateway", "usage"]),
    ],
)
def test_a_command_of_another_plane_replaces_this_process(
    executed: list[list[str]], words: list[str], module: list[str]
) -> None:
    cli.main(words)
    assert executed == [[sys.executable, sys.executable, "-P", "-m", *module]]


def test_the_configuration_of_the_first_run_is_the_default_where_no_other_is(executed: list[list[str]]) -> None:
    Path("var").mkdir()
    Path("var/config.toml").touch()
    cli.main(["usage", "--csv"])
    Path("config.toml").touch()
    cli.main(["usage", "--csv"])
    assert executed[0][4:] == ["gateway", "usage", "--csv", "--config", "var/config.toml"]
    assert executed[1][4:] == ["gateway", "usage", "--csv"]


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_help_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    for command in ("up", "gateway", "trainer", "usage", "route explain", "config check", "version"):
        assert f"\n  tunegate {command}" in text


def test_an_unknown_command_is_named_and_answered_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["route", "delete"]) == 2
    assert "there is no command `route delete`" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("tunegate 0.")


def test_a_missing_extra_is_said_in_one_line(
    executed: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert cli.main(["gateway"]) == 2
    assert not executed
    assert "pip install 'tunegate[gateway]'" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["control.cli", "control.up"])
def test_it_starts_with_the_standard_library_alone(module: str) -> None:
    code = f"import sys, {module}; print(*(m for m in sys.modules if m.startswith(('pydantic', 'gateway', 'trainer'))))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
