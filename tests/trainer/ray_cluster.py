"""A real Ray cluster of two nodes on this machine, for a network of its own: Ray listens on all interfaces."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.processes import eventually
from tests.trainer.namespace import HEAD, OTHER
from tests.trainer.runs import ROOT
from trainer.nodes import processes

BIN = ROOT / ".venv-ray/bin"
TOKEN = "0123456789abcdef0123456789abcdef0123456789"
PORT = 28265
URL = f"http://{HEAD}:{PORT}"
_MARK = "TUNEGATE_TEST_CLUSTER"


class Cluster:
    """Head and one more node, each with two CPUs."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tgray"))  # short: there are sockets in it
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            listen = [f"--port={PORT + 1}", f"--dashboard-host={HEAD}", f"--dashboard-port={PORT}"]
            self._start("head", HEAD, "--head", *listen, f"--temp-dir={self.folder}/ray")
            eventually(_listens, 60)
            self.join()
        except BaseException:
            self.close()
            raise

    def join(self) -> None:
        """Start the node beside the head, again if it was lost."""
        self._start("node", OTHER, f"--address={HEAD}:{PORT + 1}")
        self._await()

    def close(self) -> None:
        """End all of it."""
        while left := [*self.pids("node"), *self.pids("head")]:
            processes.signal_all(left, signal.SIGKILL)
            time.sleep(0.1)
        for process in self._processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self, node: str) -> list[int]:
        """Processes of `head` or `node`: Ray's, the drivers, the actors and their launchers, but no recipe."""
        return processes.members({_MARK: f"{self.folder}/{node}"})

    def _start(self, node: str, address: str, *options: str) -> None:
        environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(self.folder), _MARK: f"{self.folder}/{node}",
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN,
            "RAY_process_group_cleanup_enabled": "true", "RAY_PRESTART_WORKER_FIRST_DRIVER": "0",
        }  # fmt: skip
        command = [str(BIN / "ray"), "start", "--block", f"--node-ip-address={address}", "--num-cpus=2", *options]
        command += ["--disable-usage-stats", "--object-store-memory=80000000"]
        with (self.folder / f"{node}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)

    def _await(self) -> None:
        """Until both nodes are there."""
        deadline = time.monotonic() + 180
        asked = urllib.request.Request(f"{URL}/nodes?view=summary", headers={"authorization": f"Bearer {TOKEN}"})
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=5) as answer:
                if answer.read().count(b'"ALIVE"') == 2:
                    return
            logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, logs[-3000:]
            time.sleep(0.2)


def _listens() -> bool:
    """Whether the head takes nodes."""
    try:
        socket.create_connection((HEAD, PORT + 1)).close()
    except OSError:
        return False
    return True
