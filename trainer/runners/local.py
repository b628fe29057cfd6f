"""Recipes as processes of this machine, one by one or several by torchrun.

A launcher (`trainer.runners.launch`) leads a session of its own, runs the recipe in it and writes down how it ended.
So a run goes on when its worker is killed, is found again by pid and start time, and is ended with all that it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from trainer.engines import procfs
from trainer.runners.base import Command, Status

LAUNCHER, EXIT, STOP, LOG = "launcher.json", "exit.json", "STOP", "log.txt"
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "HF_HOME", "HF_ENDPOINT")
_POLITE = 5.0
"""Seconds between asking the processes to end and ending them."""


class LocalRunner:
    """Runs recipes with the interpreter of an environment that has their packages."""

    def __init__(self, python: Path, threads: int = 1) -> None:
        self._python, self._threads = python, threads

    def submit(self, command: Command) -> None:
        """Start a recipe in its folder, from a copy of this package: an upgrade does not change a run under way."""
        code = command.folder / "code"
        if not code.exists():
            ignored = shutil.ignore_patterns("__pycache__", "engines", "runners")
            shutil.copytree(Path(__file__).parents[1], code / "trainer", ignore=ignored)
        for name in (EXIT, STOP):
            (command.folder / name).unlink(missing_ok=True)
        package = str(Path(__file__).parents[2])
        argv = [sys.executable, "-m", "trainer.runners.launch", str(command.folder), *self._argv(command)]
        process = subprocess.Popen(
            argv, env={**self._environment(command), "TUNEGATE_LAUNCHER_PATH": package, "PYTHONPATH": package},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        mark = {"pid": process.pid, "started": start_time(process.pid)}
        (command.folder / LAUNCHER).write_text(json.dumps(mark), encoding="utf-8")
        _children.append(process)

    def poll(self, folder: Path) -> Status:
        """How the run in a folder is."""
        _reap()
        ended = _read(folder / EXIT)
        pid = _leader(folder)
        if ended is None and pid is not None and _is_alive(folder):
            return Status(running=True)
        if pid is not None and procfs.session_members(pid) and _is_same_session(folder):
            self.kill(folder, 0.0)  # its launcher is gone: nobody would tell how it ends
        ended = _read(folder / EXIT)
        return Status(running=False, exit_status=None if ended is None else ended["status"])

    def request_stop(self, folder: Path) -> None:
        """Ask for a checkpoint and the end."""
        (folder / STOP).touch()

    def kill(self, folder: Path, grace: float) -> None:
        """Wait `grace` seconds for the end, then end every process of its session."""
        pid = _leader(folder)
        if pid is None:
            return
        _gone(pid, grace)
        for number, patience in ((signal.SIGTERM, _POLITE), (signal.SIGKILL, _POLITE)):
            if not procfs.session_members(pid):
                break
            for member in procfs.session_members(pid):
                # the launcher lives until it has written down how the recipe ended
                if number == signal.SIGKILL or member != pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(member, number)
            _gone(pid, patience)
        _reap()

    def list_owned(self, root: Path) -> list[Path]:
        """Folders below `root` in which a run has processes."""
        return [mark.parent for mark in root.rglob(LAUNCHER) if _is_alive(mark.parent)]

    def _argv(self, command: Command) -> list[str]:
        recipe = ["-m", f"trainer.recipes.{command.recipe}", str(command.folder)]
        if command.processes == 1:
            return [str(self._python), *recipe]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc-per-node={command.processes}"]
        return [str(self._python), *launch, *recipe]

    def _environment(self, command: Command) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        gpus = [device for device in command.devices if not device.startswith("cpu-")]
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} if command.offline else {}
        return {
            **kept, **offline, "CUDA_VISIBLE_DEVICES": ",".join(gpus), "PYTHONUNBUFFERED": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false",
            **({} if gpus else {"OMP_NUM_THREADS": str(self._threads)}),
            "TUNEGATE_RUN_PATH": str(command.folder / "code"),
        }  # fmt: skip


_children: list[subprocess.Popen[bytes]] = []


def _reap() -> None:
    """Forget launchers that have ended, so that none is left as a zombie."""
    _children[:] = [child for child in _children if child.poll() is None]


def start_time(pid: int) -> str:
    """When a process began, in the kernel's ticks: with the pid, it names a process for good. Empty if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _leader(folder: Path) -> int | None:
    mark = _read(folder / LAUNCHER)
    return None if mark is None else int(mark["pid"])


def _is_alive(folder: Path) -> bool:
    mark = _read(folder / LAUNCHER)
    if mark is None or start_time(mark["pid"]) != mark["started"]:
        return False
    return mark["pid"] in procfs.session_members(mark["pid"])


def _is_same_session(folder: Path) -> bool:
    """Whether the processes in the session of that number are this run's: they know its folder."""
    pid = _leader(folder)
    for member in procfs.session_members(pid or -1):
        try:
            environ = Path(f"/proc/{member}/environ").read_bytes()
        except OSError:
            continue
        if f"TUNEGATE_RUN_PATH={folder / 'code'}".encode() in environ.split(b"\0"):
            return True
    return False


def _gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while procfs.session_members(pid):
        _reap()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
