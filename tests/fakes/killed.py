"""A command of control in a process of its own that gets kill -9 at a scripted point of its SQL."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_CHILD = """
import os, re, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine

when, pattern, left, *arguments = sys.argv[1:]
left = int(left)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def count(connection, cursor, statement, *_):
    global left
    if re.search(pattern, statement, re.IGNORECASE):
        left -= 1
        if not left:
            die()

if when == "commit":
    event.listen(Engine, "commit", lambda connection: die())
else:
    event.listen(Engine, f"{when}_cursor_execute", count)
from control.commands import main
sys.exit(main(arguments))
"""
Point = tuple[str, str, int]
"""before, after or commit; what the statement matches; the how manyth of those."""
COMMIT: Point = ("commit", "", 1)


def killed_at(point: Point, config: Path, *command: str) -> None:
    """Run a command until the point, where it is killed; fails if it ends in any other way."""
    when, pattern, number = point
    argv = [sys.executable, "-c", _CHILD, when, pattern, str(number), *command, "--config", str(config)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, (point, done.returncode, done.stdout, done.stderr)


def run_command(config: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """The same without a kill."""
    argv = [sys.executable, "-m", "control.commands", *command, "--config", str(config)]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
