"""Processes of a run on this machine: known by their environment, since torchrun lets every rank lead a session of its
own, and ended all together. Only the standard library: the nodes of a cluster have this file and no package of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "HF_HOME", "HF_ENDPOINT")
_NETWORK = ("NCCL_", "GLOO_")
"""How the ranks find each other is a matter of the machine."""


def inherited() -> dict[str, str]:
    """What a recipe has of the environment of this process: no secrets."""
    return {name: text for name, text in os.environ.items() if name in _INHERITED or name.startswith(_NETWORK)}


def start_time(pid: int) -> str:
    """When a process began, in the kernel's ticks: with the pid, it names a process for good. Empty if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def members(marks: dict[str, str]) -> list[int]:
    """Pids of the living processes that have all of these variables in their environment."""
    wanted = {f"{name}={value}".encode() for name, value in marks.items()}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # ended since the listing, or somebody else's
            continue
        if wanted <= set(environment.split(b"\0")) and start_time(int(entry.name)):
            found.append(int(entry.name))
    return found


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end(marks: dict[str, str], polite: float) -> None:
    """End all processes with these marks; they have `polite` seconds after SIGTERM. Returns when none is left."""
    signal_all(members(marks), signal.SIGTERM)
    until(lambda: not members(marks), polite)
    while left := members(marks):
        signal_all(left, signal.SIGKILL)
        time.sleep(0.05)


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is true; whether it was so in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def read(path: Path) -> dict[str, Any] | None:
    """An object in a file; None where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def write(path: Path, value: dict[str, Any]) -> None:
    """An object into a file, which is there whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)
