"""For tests with real processes: wait for something, but not for long; free ports; who is still alive."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path


def eventually(what: Callable[[], object], seconds: float = 10.0, pause: float = 0.02) -> None:
    """Return as soon as `what()` is true, asked with this pause in between; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"still not true after {seconds:g} s: {what}"
        time.sleep(pause)


PORTS, SHARES = range(20_000, 32_000), 8
"""Below those that the kernel gives to whoever asks for any (Linux: from 32,768), or a server that takes its time to
start might find its port taken; and each test process has a share of its own.
"""


def _ports() -> Iterator[int]:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = range(PORTS.start + number % SHARES, PORTS.stop, SHARES)
    first = random.randrange(len(mine))
    return cycle([*mine[first:], *mine[:first]])


_MINE = _ports()


def free_port() -> int:
    """A loopback port that nobody listens on, and that is given to nobody else for a while."""
    for port in _MINE:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("never: the ports go round")


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
