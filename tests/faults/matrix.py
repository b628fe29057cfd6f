"""Runs every test that shows a degraded mode, and writes docs/degraded-modes.md: `python -m tests.faults.matrix`, or
`make faults`. The page says what `cells.toml` says; it is only written when all of its tests have passed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

PAGE = Path("docs/degraded-modes.md")
FAULTS = (
    "kill -9", "SIGSTOP", "network cut", "slow disk", "full disk", "clock jump", "certificate expiry", "DNS failure",
)  # fmt: skip
RAN = "`make faults` ran"
"""How the one line begins that is not of `cells.toml`."""


class Cell(NamedTuple):
    """One fault of one part. Either there are tests, or `because` says why not."""

    part: str
    fault: str
    holds: str = ""
    degrades: str = ""
    recovers: str = ""
    because: str = ""
    tests: tuple[str, ...] = ()


def cells() -> list[Cell]:
    """All of them, part by part, in the order of FAULTS. KeyError: one is not there."""
    parts = tomllib.loads(Path(__file__).with_name("cells.toml").read_text(encoding="utf-8"))
    return [
        Cell(part, fault, **{**some[fault], "tests": tuple(some[fault].get("tests", ()))})
        for part, some in parts.items()
        for fault in FAULTS
    ]


def page(ran: str) -> str:
    """The page; `ran` is its line about the run."""
    every = cells()
    parts = list(dict.fromkeys(cell.part for cell in every))
    shown = {(cell.part, cell.fault): "✓" if cell.tests else "–" for cell in every}
    lines = [
        "# Degraded modes", "",
        "What an installation still does when a part of it is broken: a promise, each cell a test. In every cell: no "
        "request without its row in the ledger, each row once, limits within their bounds, no adapter that answers for "
        "another, nothing of another tenant, and recovery without a person, unless its last column says otherwise.", "",
        ran, "",
        f"| | {' | '.join(FAULTS)} |", f"|---|{'---|' * len(FAULTS)}",
        *(f"| {part} | {' | '.join(shown[part, fault] for fault in FAULTS)} |" for part in parts), "",
        "✓ shown by tests, – no test, with the reason below.",
    ]  # fmt: skip
    for part in parts:
        lines += [
            "",
            f"## {part[0].upper()}{part[1:]}",
            "",
            "| fault | holds | degrades | recovers |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {one.fault} | {one.holds} | {one.degrades} | {one.recovers} |"
            if one.tests
            else f"| {one.fault} | – {one.because} | | |"
            for one in every
            if one.part == part
        ]
    return "\n".join([*lines, *_shown_by(every)]) + "\n"


def _shown_by(every: list[Cell]) -> Iterator[str]:
    yield from ("", "## Shown by", "")
    for cell in every:
        if cell.tests:
            yield f"- {cell.part}, {cell.fault}: {', '.join(f'`{test}`' for test in cell.tests)}"


def main() -> int:
    """See the module."""
    tests = list(dict.fromkeys(test for cell in cells() for test in cell.tests))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *sys.argv[1:], *tests]
        status = subprocess.run(command, check=False).returncode
        suite = ElementTree.parse(report).getroot().find("testsuite")
    if status != 0 or suite is None:
        print(f"{PAGE} is not written: not every test has passed")
        return status or 1
    passed = int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
    ran = f"{RAN} {passed} tests of {len(tests)} places on {datetime.now(UTC):%Y-%m-%d}: all passed"
    PAGE.write_text(page(f"{ran}, {suite.get('skipped')} skipped."), encoding="utf-8")
    print(f"{PAGE} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
