"""The micro benchmark puts a worker together as the gateway does, and so stays runnable."""

from __future__ import annotations

import re
import subprocess
import sys


def test_it_runs() -> None:
    command = [sys.executable, "-m", "tests.load.micro", "--runs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    number = r"\d\.\d+ µs per"
    assert re.search(rf"{number} chat request\n.*{number} further chunk.*\n.*{number} request of a long", done.stdout)
