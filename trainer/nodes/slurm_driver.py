"""`python -m trainer.nodes.slurm_driver FOLDER`: the batch script of what FOLDER/plan.json says, on a Slurm cluster.

On its first node it has `srun` start a task on each, renews the lease of all of them, and writes exit.json when none is
left. A task is `python -m trainer.nodes.slurm_driver FOLDER PORT`: one node's share (`trainer.nodes.node`). One share
that fails ends the others.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from trainer.nodes import node, processes

_BEAT = 1.0
"""Seconds between renewals; a lease lasts several of them."""


def main() -> int:
    """Run to the end, all nodes or one."""
    folder = Path(sys.argv[1])
    plan = processes.read(folder / node.PLAN)
    if plan is None:
        raise SystemExit(f"{folder / node.PLAN} cannot be read: the nodes have to share the worker's data_dir")
    if len(sys.argv) > 2:
        return _task(folder, sys.argv[2])
    signal.signal(signal.SIGTERM, _leave)
    try:
        status = _all(folder, plan)
    finally:
        (folder / node.KILL).touch()
    node.join_logs(folder, plan["nodes"])
    processes.write(folder / node.EXIT, {"status": status})
    return 0 if status == 0 else 1


def _all(folder: Path, plan: dict[str, Any]) -> int | None:
    """The status of the recipe; None where nobody knows it, or it was ended before it could begin."""
    if any((folder / name).exists() for name in (node.STOP, node.KILL)):
        return node.tell_not_begun(folder)
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    share = [sys.executable, "-m", "trainer.nodes.slurm_driver", str(folder), str(port)]
    argv = ["srun", "--export=ALL", "--kill-on-bad-exit=1", *share]
    count = 0
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as step:
        while step.poll() is None:
            count += 1
            node.renew(folder, count)
            try:
                step.wait(_BEAT)
            except subprocess.TimeoutExpired:
                continue
    (folder / node.KILL).touch()
    names = [node.report_name(number) for number in range(plan["nodes"])]
    # A task that was killed has left its launcher behind, which ends its ranks: nothing is over before that.
    processes.until(lambda: all(map(_ended, _reports(folder, names))), plan["lease"] + node.POLITE)
    statuses = [
        report["status"] if report is not None and _ended(report) and not report.get("why") else None
        for report in _reports(folder, names)
    ]
    return next((status for status in statuses if status), None if None in statuses else 0)


def _reports(folder: Path, names: list[str]) -> list[dict[str, Any] | None]:
    """What the nodes say of their shares; None for one that has not begun."""
    return [processes.read(folder / name) for name in names]


def _ended(report: dict[str, Any] | None) -> bool:
    return report is None or bool(report["ended"])


def _task(folder: Path, port: str) -> int:
    """One node's share. The ranks meet where the batch script runs, which is the first node."""
    master = f"{os.environ['SLURM_LAUNCH_NODE_IPADDR']}:{port}"
    if node.supervise(folder, int(os.environ["SLURM_NODEID"]), master) != 0:
        (folder / node.KILL).touch()
    return 0


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Slurm ends the job: so do all nodes."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
