"""One turn of one system: start it, warm it up, run the scenarios, stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import proc
from .install import Unavailable
from .running import Running, fresh_place, started
from .scenarios import SCENARIOS, WARM_UP, Faulty, Machine, Metrics, load
from .systems import SYSTEMS

SETTLE = 1.0
"""Seconds after the load until the memory counts as "after"."""

NOISY = 0.25
"""Share of the gateway's core in other hands above which a run is repeated, once; the quieter one counts."""


@dataclass
class Results:
    """Everything measured: `values[system][scenario]` is a list with an entry for each good round."""

    values: dict[str, dict[str, list[Metrics]]] = field(default_factory=dict)
    faults: dict[str, dict[str, str]] = field(default_factory=dict)
    """`faults[system][scenario]`: why there is no number; the scenario "" is the system as a whole."""

    round: int = 0

    def add(self, system: str, scenario: str, metrics: Metrics) -> None:
        """Keep this round's numbers."""
        entry = {"round": self.round, **metrics}
        self.values.setdefault(system, {}).setdefault(scenario, []).append(entry)

    def fail(self, system: str, scenario: str, reason: str) -> None:
        """Keep the reason. What failed once is not tried again."""
        where = f"in round {self.round}: " if self.round > 1 else ""
        self.faults.setdefault(system, {}).setdefault(scenario, where + reason)

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {"values": self.values, "faults": self.faults}


def _scenario(results: Results, machine: Machine, running: Running, system: str, name: str, scale: float) -> bool:
    """Run one scenario; False if it went wrong."""
    try:
        run = load(machine, running, SCENARIOS[name], scale)
        if SYSTEMS[system].launch and run.others > NOISY:
            run = min(run, load(machine, running, SCENARIOS[name], scale), key=lambda one: one.others)
    except Faulty as exc:
        results.fail(system, name, str(exc))
        return False
    metrics = SCENARIOS[name].read(run)
    if SYSTEMS[system].launch:
        metrics["others"] = run.others
    if "after" in metrics:
        time.sleep(SETTLE)
        metrics["after"] = proc.usage(running.pid).rss
    results.add(system, name, metrics)
    return True


def turn(
    results: Results,
    machine: Machine,
    *,
    system: str,
    tool: Path,
    work: Path,
    upstream: tuple[int, int],
    scenarios: Sequence[str],
    scale: float,
    say: Callable[[str], None],
) -> None:
    """Measure one system once; what goes wrong is kept as its reason.

    After a scenario with errors the system is started afresh: it may still be busy with what it failed at.
    """
    upstream_pid, upstream_port = upstream
    todo = [name for name in scenarios if name not in results.faults.get(system, {})]
    first = True
    try:
        while todo:
            place = fresh_place(work, upstream_port, tool)
            with started(SYSTEMS[system], place, machine.gateway_core, upstream_pid) as running:
                idle = proc.usage(running.pid).rss
                if first:
                    results.add(system, "start", {"ms": running.start_ms, "idle": idle})
                first = False
                load(machine, running, WARM_UP, scale)
                good = True
                while todo and good:
                    say(f"  {system}: {todo[0]}")
                    good = _scenario(results, machine, running, system, todo.pop(0), scale)
    except (Unavailable, Faulty) as exc:
        results.fail(system, "", str(exc))
        say(f"  {system}: {exc}")
