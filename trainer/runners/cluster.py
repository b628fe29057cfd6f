"""A run on a cluster, as its worker sees it: by files that it shares with the nodes, and by what the cluster says."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

from trainer import log
from trainer.nodes import node, processes
from trainer.runners import recipe
from trainer.runners.base import Command, Status, Unavailable

State = Literal["going", "over", "unknown"]
"""What a cluster says of a run; `over` also if it knows no such run, `unknown` if it does not answer."""
_LOOK = 0.2


class ClusterRunner(ABC):
    """What all clusters have in common. `lease`: seconds after which a node ends its share when nobody renews it."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._leases: dict[Path, node.Lease] = {}

    def poll(self, folder: Path) -> Status:
        """How the run in a folder is. One that nobody can tell of runs until its lease must have ended it."""
        try:
            state = self._state(folder)
        except OSError:
            state = "unknown"
        ended = processes.read(folder / node.EXIT)  # after the state: a job that is over has written it, or never will
        if ended is not None:
            return Status(running=False, exit_status=ended["status"])
        if state == "going":
            return Status(running=True)
        if state == "unknown":
            begun = (folder / node.LEASE).exists()  # if not, it will be once the cluster is there
            return Status(running=not (begun and self._lease_is_over(folder)))
        if folder.exists():
            (folder / node.KILL).touch()
        return Status(running=not (self._nodes_ended(folder) or self._lease_is_over(folder)))

    def request_stop(self, folder: Path) -> None:
        """Ask for a checkpoint and the end."""
        (folder / node.STOP).touch()

    def kill(self, folder: Path, grace: float) -> None:
        """Wait `grace` seconds for the end, then end every process of the run: by its nodes, and by the cluster."""
        if self._gone(folder, grace):
            return
        if folder.exists():
            (folder / node.KILL).touch()
        deadline = time.monotonic() + 2 * self._lease + node.POLITE
        while not self._gone(folder, node.POLITE) and time.monotonic() < deadline:
            try:
                self._cancel(folder)
            except (OSError, Unavailable) as exc:
                if not (folder / node.LEASE).exists():
                    return  # it has not begun, and when its driver begins, it sees KILL
                log.event("cluster.stop_failed", level="warning", folder=str(folder), cause=str(exc))

    @abstractmethod
    def _state(self, folder: Path) -> State:
        """What the cluster says of the run in a folder. OSError: it refuses to say."""

    @abstractmethod
    def _cancel(self, folder: Path) -> None:
        """Have the cluster end the run. Raises Unavailable, OSError."""

    def _lease_is_over(self, folder: Path) -> bool:
        """Whether its nodes have ended it by now: twice its time, since their clocks began later."""
        if not (folder / node.LEASE).exists():
            return True
        return self._leases.setdefault(folder, node.Lease(folder, 2 * self._lease)).is_over()

    def _nodes_ended(self, folder: Path) -> bool:
        reports = [processes.read(path) for path in folder.glob("node-*.json")]
        return all(report is not None and report["ended"] for report in reports)

    def _gone(self, folder: Path, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.poll(folder).running:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK)
        return True


def plan(command: Command, python: Path, lease: float, threads: int) -> dict[str, Any]:
    """What the nodes are told, in FOLDER/plan.json. Raises OSError where the devices are not on as many nodes."""
    gpus = [device for device in command.devices if "/cpu-" not in device]
    addresses = sorted({device.partition("/")[0] for device in command.devices})
    if len(addresses) != command.nodes:
        raise OSError(f"resources.nodes: {command.nodes} are wanted, and the devices are on {len(addresses)}")
    return {
        "python": str(python), "recipe": recipe.argv(command), "gpus": bool(gpus), "nodes": command.nodes,
        "processes": command.processes, "addresses": addresses, "lease": lease,
        "environment": recipe.environment(command, None if gpus else threads),
    }  # fmt: skip
