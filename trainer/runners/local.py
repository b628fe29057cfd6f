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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.contract.spec import RecipeName
from trainer.runners.base import Command, Status

LAUNCHER, EXIT, STOP, LOG = "launcher.json", "exit.json", "STOP", "log.txt"
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "HF_HOME", "HF_ENDPOINT")
_POLITE = 5.0
"""Seconds between asking the processes to end and ending them."""


class LocalRunner:
    """Runs each recipe with the interpreter of an environment that has its packages."""

    def __init__(self, interpreter: Callable[[RecipeName], Path], threads: int = 1) -> None:
        self._interpreter, self._threads = interpreter, threads

    def submit(self, command: Command) -> None:
        """Start a recipe in its folder, from a copy of this package: an upgrade does not change a run under way."""
        code = command.folder / "code"
        if not code.exists():
            ignored = shutil.ignore_patterns("__pycache__", "engines", "runners")
            shutil.copytree(Path(__file__).parents[1], code / "trainer", ignore=ignored)
        self.kill(command.folder, 0.0)  # what a worker began that was killed before it could write that down
        (command.folder / EXIT).unlink(
            missing_ok=True
        )  # and not STOP: it may have been asked for while this was prepared
        package = str(Path(__file__).parents[2])
        argv = [sys.executable, "-m", "trainer.runners.launch", str(command.folder), *self._argv(command)]
        process = subprocess.Popen(
            argv, env={**self._environment(command), "PYTHONPATH": package},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        mark = {"pid": process.pid, "started": start_time(process.pid)}
        partial = command.folder / f"{LAUNCHER}.partial"
        partial.write_text(json.dumps(mark), encoding="utf-8")
        partial.replace(command.folder / LAUNCHER)
        _children.append(process)

    def poll(self, folder: Path) -> Status:
        """How the run in a folder is."""
        _reap()
        ended = _read(folder / EXIT)
        if ended is None and _is_alive(folder):
            return Status(running=True)
        self.kill(folder, 0.0)  # a rank without torchrun, a recipe without its launcher: nobody would end them
        ended = _read(folder / EXIT)
        return Status(running=False, exit_status=None if ended is None else ended["status"])

    def request_stop(self, folder: Path) -> None:
        """Ask for a checkpoint and the end."""
        (folder / STOP).touch()

    def kill(self, folder: Path, grace: float) -> None:
        """Wait `grace` seconds for the end, then end every process of the run."""
        _gone(folder, grace)
        # the launcher is left until it has written down how the recipe ended
        for number, spared in (
            (signal.SIGTERM, _leader(folder)),
            (signal.SIGKILL, _leader(folder)),
            (signal.SIGKILL, 0),
        ):
            for member in _members(folder):
                if member != spared:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(member, number)
            if _gone(folder, _POLITE):
                break

    def list_owned(self, root: Path) -> list[Path]:
        """Folders below `root` in which a run has processes."""
        return [mark.parent for mark in root.rglob(LAUNCHER) if _is_alive(mark.parent)]

    def _argv(self, command: Command) -> list[str]:
        recipe = ["-m", f"trainer.recipes.{command.recipe}", str(command.folder)]
        python = str(self._interpreter(command.recipe))
        if command.processes == 1:
            return [python, *recipe]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc-per-node={command.processes}"]
        return [python, *launch, *recipe]

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
    """When a process began, in the kernel's ticks: with the pid, it names a process for good. Empty if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _leader(folder: Path) -> int | None:
    mark = _read(folder / LAUNCHER)
    return None if mark is None else int(mark["pid"])


def _is_alive(folder: Path) -> bool:
    mark = _read(folder / LAUNCHER)
    return mark is not None and start_time(mark["pid"]) == mark["started"] != ""


def _members(folder: Path) -> list[int]:
    """Pids of the living processes of the run in a folder. They are known by their environment, since torchrun lets
    every rank lead a session of its own.
    """
    mark = f"TUNEGATE_RUN_PATH={folder / 'code'}".encode()
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # ended since the listing, or somebody else's
            continue
        if mark in environment.split(b"\0") and start_time(int(entry.name)):
            members.append(int(entry.name))
    return members


def _gone(folder: Path, seconds: float) -> bool:
    """Wait until no process of a run is left; whether that was so in time."""
    deadline = time.monotonic() + seconds
    while _members(folder):
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
