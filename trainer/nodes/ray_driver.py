"""`python -m trainer.nodes.ray_driver FOLDER`: runs on a Ray cluster, as a job of its own, what FOLDER/plan.json says.

It takes a place on each node that control chose, all at once, has one actor a node run its share
(`trainer.nodes.node`), renews the lease of all of them, and writes exit.json when none is left. One share that fails
ends the others.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trainer.nodes import node, processes

_BEAT = 1.0
"""Seconds between renewals; a lease lasts several of them."""


class Share:
    """An actor: one node's share of a run."""

    def master(self) -> str:
        """Where the ranks meet if this is the first node: host:port."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def run(self, folder: str, number: int, master: str) -> int | None:
        """Run to the end; the status of the recipe, None where nobody knows it."""
        return node.supervise(Path(folder), number, master)


class Driver:
    """One run, from its place on the cluster to its end."""

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self._folder, self._plan, self._count = folder, plan, 0

    def run(self) -> int | None:
        """The status of the recipe; None where nobody knows it, or it was ended before it could begin."""
        actors = self._actors()
        if actors is None:
            return node.tell_not_begun(self._folder)
        master = actors[0].master.remote()
        while not self._done([master]):
            if self._unwanted():
                return node.tell_not_begun(self._folder)
        address = ray.get(master)
        shares = [actor.run.remote(str(self._folder), number, address) for number, actor in enumerate(actors)]
        statuses: list[int | None] = []
        while shares:
            for share in self._done(shares):
                shares.remove(share)
                statuses.append(_result(share))
                if statuses[-1] != 0:
                    (self._folder / node.KILL).touch()
        return next((status for status in statuses if status != 0), 0)

    def _actors(self) -> list[Any] | None:
        """One a node, once all of them have their place; None: it is wanted no more."""
        plan = self._plan
        needs = {"GPU": plan["processes"], "CPU": 1} if plan["gpus"] else {"CPU": plan["processes"]}
        bundles = [{**needs, f"node:{address}": 0.001} for address in plan["addresses"]]
        group = placement_group(bundles, strategy="STRICT_SPREAD")
        ready = group.ready()
        while not self._done([ready]):
            if self._unwanted():
                return None
        share = ray.remote(Share)
        return [
            share.options(
                num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, number),
            ).remote()
            for number in range(len(bundles))
        ]  # fmt: skip

    def _done(self, references: list[Any]) -> list[Any]:
        """Those that are done after a beat; the lease is renewed."""
        self._count += 1
        node.renew(self._folder, self._count)
        done, _ = ray.wait(references, num_returns=len(references), timeout=_BEAT)
        return list(done)

    def _unwanted(self) -> bool:
        return any((self._folder / name).exists() for name in (node.STOP, node.KILL))


def _result(share: Any) -> int | None:
    try:
        status: int | None = ray.get(share)
    except ray.exceptions.RayError as exc:
        print(f"a node is lost: {exc}", file=sys.stderr)  # noqa: T201 - Ray keeps it as the job's log
        return None
    return status


def main() -> int:
    """Run to the end."""
    folder = Path(sys.argv[1])
    plan = processes.read(folder / node.PLAN)
    if plan is None:
        raise SystemExit(f"{folder / node.PLAN} cannot be read: the nodes have to share the worker's data_dir")
    ray.init(log_to_driver=False)
    signal.signal(signal.SIGTERM, _leave)
    try:
        status = Driver(folder, plan).run()
    finally:
        (folder / node.KILL).touch()
    node.join_logs(folder, plan["nodes"])
    processes.write(folder / node.EXIT, {"status": status})
    return 0 if status == 0 else 1


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Ray ends the job: so do all nodes."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
