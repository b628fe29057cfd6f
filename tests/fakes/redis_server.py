"""A real Redis (or Valkey) for the tests: the distribution's, started on loopback, keeping nothing, thrown away.

Where it is missing the tests are skipped with that reason, unless REQUIRE_DATABASES is set.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from typing import Self

import pytest

from tests.processes import free_port

KINDS = ("redis", "valkey")


class RedisServer:
    """One server; stop and go on, kill and start again as a test likes. `password` is asked for if it is given, `more`
    are further options of its command line.
    """

    def __init__(self, kind: str = "redis", password: str = "", more: tuple[str, ...] = ()) -> None:
        binary = shutil.which(f"{kind}-server")
        if binary is None:
            reason = f"{kind}-server is not installed (apt-get install {kind}-server)"
            if os.environ.get("REQUIRE_DATABASES") and kind == "redis":  # not every distribution has Valkey
                pytest.fail(reason)
            pytest.skip(reason)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._argv = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._argv += more
        self._password = password
        if password:
            self._argv += ["--requirepass", password]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Self:
        """Start it, empty, on its port, and wait until it answers."""
        self.process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while True:
            try:
                assert self.command("PING") == "+PONG"
                return self
            except OSError:
                assert self.process.poll() is None, "it ended at start"
                assert time.monotonic() < end, "it does not answer"
                time.sleep(0.01)

    def kill(self) -> None:
        """kill -9: everything in it is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Accept connections and answer nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `pause`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """Send one command; the first line of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), 2) as conn:
            if self._password:
                conn.sendall(f"AUTH {self._password}\r\n".encode())
                conn.recv(100)
            conn.sendall((" ".join(words) + "\r\n").encode())
            return conn.recv(100_000).decode().partition("\r\n")[0]
