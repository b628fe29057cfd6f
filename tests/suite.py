"""All tests, as `make test` runs them: `python -m tests.suite`.

First what bears company, three files at a time; then recipes, two at a time; then what drives real engines, which
wants the machine for itself. A few failures may come from the company: they are run once more, alone, and what passes
then is named as unsteady. That is a defect to mend, in the test or in the product, but none that should hide what the
run has shown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ALONE, RECIPES = "tests/e2e", "tests/trainer"
AT_ONCE, RECIPES_AT_ONCE = 3, 2
"""Test processes: most of them wait for servers and browsers of their own, or for a recipe to load its packages."""
FEW = 10
"""So many failures are looked at again. More are no accident."""
TESTS_FAILED = 1
"""pytest's exit status for it; any other but 0 means that it could not run."""


def pytest(*arguments: str) -> int:
    """Run it without the long tests; its exit status."""
    command = [sys.executable, "-m", "pytest", "-m", "not soak", "--durations=15", *arguments]
    return subprocess.run(command, check=False).returncode


def failures(root: Path = Path()) -> list[str]:
    """The tests that failed when they last ran, as pytest has noted them."""
    noted = root / ".pytest_cache/v/cache/lastfailed"
    return sorted(json.loads(noted.read_bytes())) if noted.exists() else []


def _company(many: int) -> list[str]:
    return ["-n", str(many), "--dist", "loadfile", "--no-loadscope-reorder"]


def main() -> int:
    """0 if every test has passed, be it the second time."""
    ignored = [f"--ignore={folder}" for folder in (ALONE, RECIPES)]
    statuses = {
        pytest("--cache-clear", *_company(AT_ONCE), *ignored),
        pytest(*_company(RECIPES_AT_ONCE), RECIPES),
        pytest(ALONE),
    } - {0}
    failed = failures()
    if not statuses or statuses != {TESTS_FAILED} or not 0 < len(failed) <= FEW:
        return max(statuses, default=0)
    print(f"{len(failed)} failed: once more, alone", flush=True)
    if status := pytest("--last-failed", "--last-failed-no-failures", "none"):
        return status
    print("UNSTEADY, passed only when run again:", *failed, sep="\n  ")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
