"""`python -m trainer.nodes.node FOLDER NUMBER MASTER PID`: one node's share of a run on a cluster.

It leaves at once. A process that it leaves behind, and that is nobody's child, runs the recipe of FOLDER/plan.json, by
torchrun where there are several processes. It ends all of it when somebody asks for that (FOLDER/KILL), when PID, the
process that started this, has gone, or when nobody has renewed FOLDER/lease.json for the plan's `lease` seconds: ranks
of a cluster whose head is lost would compute on, and another attempt beside them.
MASTER is host:port of the first node, where the ranks meet. FOLDER is shared by all nodes and the worker. The output
is in log.txt, of other nodes than the first in log-NUMBER.txt; node-NUMBER.json says how it ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.nodes import processes

PLAN, LEASE, KILL, STOP = "plan.json", "lease.json", "KILL", "STOP"
LAUNCHER, EXIT = "launcher.json", "exit.json"
POLITE = 3.0
"""Seconds between asking the processes to end and ending them."""
_LOOK = 0.2
_TAIL = 1 << 16
"""Bytes of the other nodes' output that the run's log has at its end."""
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run until the recipe has ended, or has been; the status is in the node's file."""
    folder, number, master, owner = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    plan = processes.read(folder / PLAN)
    if plan is None:
        raise SystemExit(f"{folder / PLAN} cannot be read: is the folder shared by all nodes?")
    since = processes.start_time(owner)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    if not _left_behind(folder / report_name(number)):
        return 0
    lease = Lease(folder, plan["lease"])

    def over() -> str:
        """Why this has to end; empty: it has not."""
        if (folder / KILL).exists():
            return "somebody asked for it"
        if told:
            return "the cluster told it to"
        if not since or processes.start_time(owner) != since:
            return "the process of the cluster that ran it is gone"
        return "nobody has renewed its lease: the head of the cluster is lost" if lease.is_over() else ""

    _share(folder, number, plan, master, over)
    return 0


def supervise(folder: Path, number: int, master: str) -> int | None:
    """In the process that the cluster started on a node: have the node's share run to its end. The status of the
    recipe, None where nobody knows it.
    """
    argv = [sys.executable, "-m", "trainer.nodes.node", str(folder), str(number), master, str(os.getpid())]
    subprocess.run(argv, stdin=subprocess.DEVNULL, start_new_session=True, check=True)
    path = folder / report_name(number)
    while _runs(processes.read(path)):
        time.sleep(_LOOK)
    report = processes.read(path)
    if report is None or not report["ended"]:
        processes.end(marks_of(folder, number), POLITE)  # of a launcher that was killed
        report = {"ended": True, "status": None}
        processes.write(path, report)
    found: int | None = report["status"]
    return found


def _runs(report: dict[str, Any] | None) -> bool:
    """Whether the process that a node's report tells of is there."""
    return report is not None and not report["ended"] and processes.start_time(report["pid"]) == report["started"]


def _left_behind(report: Path) -> bool:
    """Fork; whether this is the process that goes on. Its pid is in the report, since Ray ends an actor's children."""
    reader, writer = os.pipe()
    if child := os.fork():
        processes.write(report, {"ended": False, "pid": child, "started": processes.start_time(child)})
        return False
    os.close(writer)
    os.read(reader, 1)  # until the other one has gone
    os.close(reader)
    return True


def _share(folder: Path, number: int, plan: dict[str, Any], master: str, over: Callable[[], str]) -> None:
    """Run the recipe until it ends, or `over` says why it has to; the status is in the node's file."""
    marks, report, why = marks_of(folder, number), folder / report_name(number), ""
    with (folder / log_name(number)).open("ab") as log:
        try:
            process = subprocess.Popen(
                _argv(plan, number, master), cwd=folder, env=_environment(plan, marks), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent,  # noqa: PLW1509 - no threads here
            )  # fmt: skip
        except OSError as exc:
            log.write(f"{plan['python']}: {exc.strerror}\n".encode())
            processes.write(report, {"ended": True, "status": 127})
            return
        while process.poll() is None and not (why := over()):
            time.sleep(_LOOK)
        processes.end(marks, POLITE)  # what torchrun left behind, too
        if why:
            log.write(f"node {number}: ended, because {why}\n".encode())
    processes.write(report, {"ended": True, "status": process.wait(), "why": why})


def marks_of(folder: Path, number: int) -> dict[str, str]:
    """Variables by which the processes of a node are known."""
    return {"TUNEGATE_RUN_PATH": str(folder / "code"), "TUNEGATE_NODE": str(number)}


def report_name(number: int) -> str:
    """The file that says how a node's share ended."""
    return f"node-{number}.json"


def log_name(number: int) -> str:
    """The file with a node's output."""
    return f"log-{number}.txt" if number else "log.txt"


def join_logs(folder: Path, nodes: int) -> None:
    """Put the end of the other nodes' output behind the first one's."""
    with (folder / log_name(0)).open("ab") as log:
        for number in range(1, nodes):
            with contextlib.suppress(OSError), (folder / log_name(number)).open("rb") as other:
                other.seek(max(0, other.seek(0, 2) - _TAIL))
                log.write(f"\n---- node {number} ----\n".encode() + other.read())


def tell_not_begun(folder: Path) -> int | None:
    """A run that ends before it began, told as the recipe would: there is nothing to make a checkpoint of. Its status,
    None if nobody asked it to stop.
    """
    if not (folder / STOP).exists():
        return None
    told = {"kind": "finished", "at": time.time(), "outcome": "stopped", "step": 0, "message": "had not begun"}
    with (folder / "events.jsonl").open("a", encoding="utf-8") as events:
        events.write(json.dumps(told) + "\n")
    return 0


def renew(folder: Path, count: int) -> None:
    """Renew the lease of all nodes; `count` is another one each time."""
    processes.write(folder / LEASE, {"count": count})


class Lease:
    """A count that somebody raises as long as the run has a head. Ages are by this machine's clock alone."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._path, self._seconds = folder / LEASE, seconds
        self._count: int | None = None
        self._seen = time.monotonic()

    def is_over(self) -> bool:
        """Whether it was not renewed in time."""
        found = processes.read(self._path)
        if found is not None and found["count"] != self._count:
            self._count, self._seen = found["count"], time.monotonic()
        return time.monotonic() - self._seen > self._seconds


def _argv(plan: dict[str, Any], number: int, master: str) -> list[str]:
    if plan["nodes"] == plan["processes"] == 1:
        return [plan["python"], *plan["recipe"]]
    host, _, port = master.rpartition(":")
    return [
        plan["python"], "-m", "torch.distributed.run", f"--nnodes={plan['nodes']}", f"--node-rank={number}",
        f"--nproc-per-node={plan['processes']}", f"--master-addr={host}", f"--master-port={port}", *plan["recipe"],
    ]  # fmt: skip


def _environment(plan: dict[str, Any], marks: dict[str, str]) -> dict[str, str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "") if plan["gpus"] else ""
    return {
        **processes.inherited(), **plan["environment"], **marks, "CUDA_VISIBLE_DEVICES": visible,
        "PYTHONPATH": marks["TUNEGATE_RUN_PATH"],
    }  # fmt: skip


def _end_with_parent() -> None:
    """In the new process: end when this one is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
