"""The repository holds nothing that is true on one machine only, and nothing unfinished."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"gateway", "control", "trainer", "console", "charts", "tests", "docs", "requirements", ".ci"}
"""Of docs/architecture.md, with the lock files and the entry point of CI."""

# Written in two halves, so that this file does not find itself.
REGISTRIES = [r"pypi\." + "org", "python" + "hosted", "npm" + r"js\.org", r"crates\." + "io"]
HOMES = ["ro" + "ot", "ho" + r"me/\w+", "Us" + r"ers/\w+", "wo" + "rk"]
NOTES = ["TO" + "DO", "FIX" + "ME", "X" + "XX"]
FORBIDDEN = {
    "the host name of a package registry": re.compile(rf"\b(?:{'|'.join(REGISTRIES)})", re.IGNORECASE),
    "an absolute path of somebody's machine": re.compile(rf"(?<![\w.}}$/-])/(?:{'|'.join(HOMES)})/"),
    "a note of something left undone": re.compile(rf"\b(?:{'|'.join(NOTES)})\b"),
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: an unpacked archive has been looked at before it was packed")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError):  # pictures; files that are being removed
        return ""


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in tracked()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found, what + ":\n" + "\n".join(found)


def test_the_top_level_folders_are_those_of_the_design() -> None:
    found = {path.relative_to(ROOT).parts[0] for path in tracked() if len(path.relative_to(ROOT).parts) > 1}
    assert found == FOLDERS
