"""Real database servers for the tests: PostgreSQL and MariaDB of the distribution, started on loopback, thrown away.

`make install` installs them where it may (Debian, as root). Where they are missing the tests are skipped with that
reason, unless REQUIRE_DATABASES is set.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import free_port

KINDS = ("sqlite", "postgresql", "mariadb")
_FAST = "-c fsync=off -c full_page_writes=off"
"""Not safe against a power cut, and safe against kill -9: a commit has been given to the system, if not to the disk.
(With synchronous_commit=off, or innodb-flush-log-at-trx-commit=0, a killed server forgets what it has confirmed.)"""


class Server:
    """A database server. `new_url` makes an empty database."""

    def __init__(self, kind: str, port: int, process: subprocess.Popen[bytes], restart: list[str]) -> None:
        self.kind, self.port, self.process, self._argv = kind, port, process, restart

    def new_url(self) -> str:
        """URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        if self.kind == "postgresql":
            self._client("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "app", "-d", "postgres",
                         "-qc", f"CREATE DATABASE {name}")  # fmt: skip
            return f"postgresql+asyncpg://app@127.0.0.1:{self.port}/{name}"
        self._client("mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(self.port), "-u", "root", "--skip-ssl",
                     "-e", f"CREATE DATABASE {name}")  # fmt: skip
        return f"mysql+asyncmy://root@127.0.0.1:{self.port}/{name}?charset=utf8mb4"

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """Start the server on the same data; PostgreSQL refuses while processes of the killed one are still ending."""
        for _ in range(50):
            self.process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                return _until_open(self.port, self.process)
            except RuntimeError:
                time.sleep(0.2)
        raise RuntimeError(f"{self.kind} does not start again")

    @staticmethod
    def _client(*argv: str) -> None:
        for _ in range(50):  # the port is open a moment before logins are
            result = subprocess.run(argv, check=False, capture_output=True, text=True)
            if result.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{argv[0]}: {result.stderr}")


@contextmanager
def server(kind: str) -> Iterator[Server]:
    """A running server of this kind; skips the test where none is installed."""
    with tempfile.TemporaryDirectory(prefix="tunegate-db-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        port = free_port()
        argv = _postgresql(home, port) if kind == "postgresql" else _mariadb(home, port)
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running = Server(kind, port, process, argv)
        try:
            _until_open(port, process)
            yield running
        finally:
            running.process.kill()
            running.process.wait()


def _postgresql(home: Path, port: int) -> list[str]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    binaries = found[-1].parent if found else _missing("PostgreSQL")
    data = home / "data"
    prefix = []
    if os.geteuid() == 0:  # it refuses to run as root
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        home.chmod(0o755)
        data.mkdir()
        shutil.chown(data, "postgres", "postgres")
    subprocess.run(
        [*prefix, str(binaries / "initdb"), "-D", str(data), "-U", "app", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True, capture_output=True,
    )  # fmt: skip
    return [*prefix, str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
            "-c", "unix_socket_directories=", *_FAST.split()]  # fmt: skip


def _mariadb(home: Path, port: int) -> list[str]:
    daemon = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    if daemon is None:
        _missing("MariaDB")
    data = home / "data"
    user = ["--user=mysql"] if os.geteuid() == 0 else []
    if user:
        home.chmod(0o755)
    subprocess.run(
        ["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--skip-test-db",
         "--auth-root-authentication-method=normal"],
        check=True, capture_output=True,
    )  # fmt: skip
    return [str(daemon), "--no-defaults", *user, f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
            f"--socket={data}/s", f"--pid-file={data}/pid", "--skip-log-bin", "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=2"]  # fmt: skip


def _missing(what: str) -> Path:
    reason = f"{what} is not installed (apt-get install postgresql mariadb-server)"
    if os.environ.get("REQUIRE_DATABASES"):
        pytest.fail(reason)
    pytest.skip(reason)


def _until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the database server ended with status {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the database server did not open its port")
