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


@dataclass
class Results:
    """Everything that was measured: `values[system][scenario]` is a list with one entry per round."""

    values: dict[str, dict[str, list[Metrics]]] = field(default_factory=dict)
    faults: dict[str, dict[str, str]] = field(default_factory=dict)
    """`faults[system][scenario]`: why there is no number; the scenario "" is the system as a whole."""

    def add(self, system: str, scenario: str, metrics: Metrics) -> None:
        """Keep one round's numbers."""
        self.values.setdefault(system, {}).setdefault(scenario, []).append(metrics)

    def fail(self, system: str, scenario: str, reason: str) -> None:
        """Keep the first reason."""
        self.faults.setdefault(system, {}).setdefault(scenario, reason)

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {"values": self.values, "faults": self.faults}


def _scenario(
    results: Results, machine: Machine, running: Running, system: str, name: str, scale: float
) -> None:
    try:
        run = load(machine, running, SCENARIOS[name], scale)
    except Faulty as exc:
        results.fail(system, name, str(exc))
        return
    metrics = SCENARIOS[name].read(run)
    if name == "memory":
        time.sleep(SETTLE)
        metrics["after"] = proc.usage(running.pid).rss
    results.add(system, name, metrics)


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
    """Measure one system once; what goes wrong is kept as its reason."""
    upstream_pid, upstream_port = upstream
    place = fresh_place(work, upstream_port, tool)
    try:
        with started(SYSTEMS[system], place, machine.gateway_core, upstream_pid) as running:
            idle = proc.usage(running.pid).rss
            results.add(system, "start", {"ms": running.start_ms, "idle": idle})
            load(machine, running, WARM_UP, scale)
            for name in scenarios:
                say(f"  {system}: {name}")
                _scenario(results, machine, running, system, name, scale)
    except (Unavailable, Faulty) as exc:
        results.fail(system, "", str(exc))
        say(f"  {system}: {exc}")
