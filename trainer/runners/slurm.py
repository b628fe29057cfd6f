"""Recipes as jobs of a Slurm cluster, by its own commands: sbatch, squeue, scancel and sinfo on the worker's machine.

As on Ray, `[trainer] data_dir`, the interpreters and the base models have one path on the worker and on all nodes, and
all but the start and the end goes through files there. Slurm may let a job wait; one that runs needs no slurmctld.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from trainer import log
from trainer.contract.spec import RecipeName
from trainer.contract.worker import Device
from trainer.nodes import node, processes
from trainer.runners import recipe
from trainer.runners.base import Command, Unavailable
from trainer.runners.cluster import ClusterRunner, State, plan

TIMEOUT = 30.0
"""Seconds that slurmctld has for an answer."""
AGAIN = 10.0
"""Seconds until a slurmctld that was silent is asked again: the commands wait for it, and heartbeats must not."""
_OVER = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
})  # fmt: skip
_THERE = frozenset({"ALLOCATED", "COMPLETING", "IDLE", "MIXED"})
_AWAY = ("Unable to contact slurm controller", "Connection refused", "Socket timed out", "Zero Bytes", "not responding")
_GPUS = re.compile(r"\bgpu(?::([A-Za-z][\w.\-]*))?:(\d+)")


class SlurmRunner(ClusterRunner):
    """One partition. `options`: more options of sbatch; `python`: what runs on the nodes and starts the recipes."""

    def __init__(
        self, partition: str, options: tuple[str, ...], python: str, gpu_memory_mib: int, lease: float,
        interpreter: Callable[[RecipeName], Path], threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(lease)
        self._partition = [f"--partition={partition}"] if partition else []
        self._options, self._python, self._gpu_memory = options, python, gpu_memory_mib
        self._interpreter, self._threads = interpreter, threads
        self._devices: tuple[Device, ...] = ()
        self._silent = False
        self._away_until = 0.0

    def submit(self, command: Command) -> None:
        """Submit a recipe's batch script, unless that was done before by a call whose answer was lost.

        Raises:
            Unavailable: slurmctld does not answer.
            OSError: it refuses the job, there is no Slurm here, or the folder cannot be written.
        """
        folder = command.folder
        recipe.copy_code(folder)
        if self._state_of(folder) is None:
            told = plan(command, self._interpreter(command.recipe), self._lease, self._threads)
            processes.write(folder / node.PLAN, told)
            (folder / node.KILL).unlink(missing_ok=True)  # of a worker that left before it could submit this
            each = f"--gres=gpu:{command.processes}" if told["gpus"] else f"--cpus-per-task={command.processes}"
            code, name = shlex.quote(str(folder / "code")), shlex.quote(str(folder))
            script = (
                f"#!/bin/sh\nPYTHONPATH={code} exec {shlex.quote(self._python)} -m trainer.nodes.slurm_driver {name}\n"
            )
            self._run([
                "sbatch", "--parsable", f"--job-name={_name(folder)}", f"--comment={folder}", f"--chdir={folder}",
                "--output=slurm.txt", "--export=PATH,HOME,LANG", "--no-requeue", *self._partition,
                f"--nodes={command.nodes}", f"--nodelist={','.join(told['addresses'])}", "--ntasks-per-node=1", each,
                *self._options,
            ], script)  # fmt: skip
        processes.write(folder / node.LAUNCHER, {"name": _name(folder)})

    def request_stop(self, folder: Path) -> None:
        """Ask for a checkpoint and the end; one that waits for its place is taken out of the queue."""
        super().request_stop(folder)
        try:
            self._run(["scancel", "--state=PENDING", f"--name={_name(folder)}"])
            waits = (folder / node.LEASE).exists() or self._state(folder) != "over"
        except (OSError, Unavailable) as exc:  # its driver will see STOP when it begins
            log.event("cluster.stop_failed", level="warning", folder=str(folder), cause=str(exc))
            return
        if not waits and not (folder / node.EXIT).exists():
            processes.write(folder / node.EXIT, {"status": node.tell_not_begun(folder)})

    def list_owned(self, root: Path) -> list[Path]:
        """Folders below `root` whose jobs Slurm has and has not ended. Raises Unavailable, OSError."""
        lines = self._run(["squeue", "--noheader", "--me", "--format=%j|%T|%k"]).splitlines()
        mine = [line.split("|", 2) for line in lines if line.startswith("tunegate-")]
        folders = [Path(comment) for name, state, comment in mine if state not in _OVER]
        return [folder for folder in folders if folder.is_relative_to(root)]

    def devices(self, slots: int, held: dict[str, str]) -> tuple[Device, ...]:
        """GPUs of all nodes, or `slots` of each node's CPU. While slurmctld is silent, those that it had."""
        try:
            told = self._run(["sinfo", "--noheader", "--Node", "--format=%N|%T|%c|%m|%G|%e", *self._partition])
        except (OSError, Unavailable) as exc:
            if not self._silent:
                log.event("cluster.silent", level="warning", cause=str(exc))
            self._silent = True
            return self._devices
        self._silent = False
        nodes = sorted({line for line in told.splitlines() if line.split("|")[1].upper() in _THERE})
        found = [part for line in nodes for part in self._parts(line, slots)]
        self._devices = tuple(Device(index=index, **part) for index, part in enumerate(found))  # type: ignore[arg-type]
        return self._devices

    def _parts(self, line: str, slots: int) -> list[dict[str, str | int]]:
        """Devices of one node, as sinfo tells of it; names begin with the node's."""
        name, _, cpus, memory, gres, free = line.split("|")
        kinds = [kind or "GPU" for kind, count in _GPUS.findall(gres) for _ in range(int(count))]
        gpus: list[dict[str, str | int]] = [
            {"uuid": f"{name}/gpu-{index}", "name": kind, "memory_mib": self._gpu_memory, "node": name}
            for index, kind in enumerate(kinds)
        ]
        used = max(0, int(memory) - int(free)) if free.isdecimal() else 0
        return gpus or [
            {
                "uuid": f"{name}/cpu-{index}", "name": name, "node": name, "memory_mib": int(memory) // slots,
                "used_mib": used // slots,
            }
            for index in range(min(slots, int(cpus)))
        ]  # fmt: skip

    def _state(self, folder: Path) -> State:
        try:
            state = self._state_of(folder)
        except Unavailable:
            return "unknown"
        return "over" if state is None or state in _OVER else "going"

    def _state_of(self, folder: Path) -> str | None:
        """Slurm's word; None if it does not know the run. Raises Unavailable, OSError."""
        told = self._run(["squeue", "--noheader", "--me", "--states=all", f"--name={_name(folder)}", "--format=%T"])
        states = told.split()
        return next((state for state in states if state not in _OVER), states[0] if states else None)

    def _cancel(self, folder: Path) -> None:
        self._run(["scancel", "--me", f"--name={_name(folder)}"])

    def _run(self, argv: list[str], script: str = "") -> str:
        """What a command of Slurm prints.

        Raises:
            Unavailable: slurmctld does not answer.
            OSError: it refuses, or the command is not there.
        """
        if time.monotonic() < self._away_until:
            raise Unavailable(f"{argv[0]}: slurmctld did not answer a moment ago")
        try:
            done = subprocess.run(argv, input=script, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired as exc:
            self._away_until = time.monotonic() + AGAIN
            raise Unavailable(f"{argv[0]}: no answer in {TIMEOUT:.0f} s") from exc
        said = done.stderr.strip()[-1000:]
        if done.returncode and any(word in said for word in _AWAY):
            self._away_until = time.monotonic() + AGAIN
            raise Unavailable(f"{argv[0]}: {said}")
        if done.returncode:
            raise OSError(f"{argv[0]}: {said or f'status {done.returncode}'}")
        return done.stdout


def _name(folder: Path) -> str:
    """What Slurm calls the run in a folder: the same at each call."""
    return f"tunegate-{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"
