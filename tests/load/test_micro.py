"""The micro benchmark puts a worker together as the gateway does, and so stays runnable."""

from __future__ import annotations

import re
import subprocess
import sys


def test_it_runs() -> None:
    command = [sys.executable, "-m", "tests.load.micro", "--runs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d µs per chat request\n +\d+\.\d+ µs per further chunk", done.stdout)
