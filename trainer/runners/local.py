"""Recipes as processes of this machine, one by one or several by torchrun.

A launcher (`trainer.runners.launch`) leads a session of its own, runs the recipe in it and writes down how it ended.
So a run goes on when its worker is killed, is found again by pid and start time, and is ended with all that it started.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from trainer.contract.spec import RecipeName
from trainer.contract.worker import Device
from trainer.devices import devices
from trainer.nodes import processes
from trainer.runners import recipe
from trainer.runners.base import Command, Status

LAUNCHER, EXIT, STOP, LOG = "launcher.json", "exit.json", "STOP", "log.txt"
_POLITE = 5.0
"""Seconds between asking the processes to end and ending them."""


class LocalRunner:
    """Runs each recipe with the interpreter of an environment that has its packages."""

    def __init__(self, interpreter: Callable[[RecipeName], Path], threads: int = 1) -> None:
        self._interpreter, self._threads = interpreter, threads

    def submit(self, command: Command) -> None:
        """Start a recipe in its folder, from a copy of this package: an upgrade does not change a run under way."""
        if command.nodes > 1:
            raise OSError("resources.nodes: this worker has one machine; a cluster's has more ([trainer] runner)")
        recipe.copy_code(command.folder)
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
        mark = {"pid": process.pid, "started": processes.start_time(process.pid)}
        processes.write(command.folder / LAUNCHER, mark)
        _children.append(process)

    def poll(self, folder: Path) -> Status:
        """How the run in a folder is."""
        _reap()
        ended = processes.read(folder / EXIT)
        if ended is None and _is_alive(folder):
            return Status(running=True)
        self.kill(folder, 0.0)  # a rank without torchrun, a recipe without its launcher: nobody would end them
        ended = processes.read(folder / EXIT)
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
            processes.signal_all([member for member in _members(folder) if member != spared], number)
            if _gone(folder, _POLITE):
                break

    def list_owned(self, root: Path) -> list[Path]:
        """Folders below `root` in which a run has processes."""
        return [mark.parent for mark in root.rglob(LAUNCHER) if _is_alive(mark.parent)]

    def devices(self, slots: int, held: dict[str, str]) -> tuple[Device, ...]:
        """Of this machine."""
        return devices(slots, held)

    def _argv(self, command: Command) -> list[str]:
        python = str(self._interpreter(command.recipe))
        if command.processes == 1:
            return [python, *recipe.argv(command)]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc-per-node={command.processes}"]
        return [python, *launch, *recipe.argv(command)]

    def _environment(self, command: Command) -> dict[str, str]:
        gpus = [device for device in command.devices if not device.startswith("cpu-")]
        return {
            **processes.inherited(), **recipe.environment(command, None if gpus else self._threads),
            "CUDA_VISIBLE_DEVICES": ",".join(gpus), "TUNEGATE_RUN_PATH": str(command.folder / "code"),
        }  # fmt: skip


_children: list[subprocess.Popen[bytes]] = []


def _reap() -> None:
    """Forget launchers that have ended, so that none is left as a zombie."""
    _children[:] = [child for child in _children if child.poll() is None]


def _leader(folder: Path) -> int | None:
    mark = processes.read(folder / LAUNCHER)
    return None if mark is None else int(mark["pid"])


def _is_alive(folder: Path) -> bool:
    mark = processes.read(folder / LAUNCHER)
    return mark is not None and processes.start_time(mark["pid"]) == mark["started"] != ""


def _members(folder: Path) -> list[int]:
    return processes.members({"TUNEGATE_RUN_PATH": str(folder / "code")})


def _gone(folder: Path, seconds: float) -> bool:
    """Wait until no process of a run is left; whether that was so in time."""

    def gone() -> bool:
        _reap()
        return not _members(folder)

    return processes.until(gone, seconds)
