"""For tests with real processes: wait for something, but not for long; free ports; who is still alive."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path


def eventually(what: Callable[[], object], seconds: float = 10.0, pause: float = 0.02) -> None:
    """Return as soon as `what()` is true, asked with this pause in between; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"still not true after {seconds:g} s: {what}"
        time.sleep(pause)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def processes_with(word: str) -> list[int]:
    """Pids of other living processes whose command line contains a word, such as a folder's name."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:  # ended since the listing
            continue
        pid = int(entry.name)
        if word.encode() in command and pid != os.getpid() and alive(pid):
            found.append(pid)
    return found
