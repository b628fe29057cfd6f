"""A network of its own for a cluster of two nodes on this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

HEAD, OTHER = "10.77.0.1", "10.77.0.2"
_NEWNET = 0x40000000


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Puts this thread, and what it starts, into a new network. Raises PermissionError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_NEWNET):
            raise PermissionError(f"a network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            for address in (HEAD, OTHER):
                subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
            yield
        finally:
            assert libc.setns(before, _NEWNET) == 0
    finally:
        os.close(before)
