"""What is measured: each scenario is one run of the load generator, and what is read from it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import native, proc
from .running import Running

Metrics = dict[str, float]


class Faulty(Exception):
    """The run had errors, so it has no result; the text says which."""


@dataclass(frozen=True)
class Machine:
    """The cores, and the compiled tools."""

    gateway_core: int
    harness_core: int
    loadgen: Path


@dataclass(frozen=True)
class Run:
    """One finished load run."""

    load: dict[str, Any]
    cpu_us: float
    """CPU time of the system's process tree during the run."""
    user_share: float
    rss: tuple[int, int, int]
    """Memory before the run, its peak in the run if that was sampled, and right after it."""
    others: float
    """Share of the gateway's core that other programs, or the host's other guests, had."""


@dataclass(frozen=True)
class Scenario:
    """One measurement of a system."""

    title: str
    args: tuple[str, ...]
    seconds: float
    read: Callable[[Run], Metrics]
    ramp: float = 0.0
    """Over which the streams start."""
    per_second: int = 0
    """Chunks per second of each stream."""
    sample_memory: bool = False
    rate: int = 0
    """Requests per second that are offered, if the rate is fixed."""

    def arguments(self, scale: float) -> list[str]:
        """The load generator's arguments; `scale` shortens the run."""
        seconds = max(0.5, self.seconds * scale)
        args = [*self.args, "--seconds", f"{seconds:g}"]
        if self.per_second:
            chunks = max(5, int(self.per_second * seconds))
            args += ["--ramp", f"{self.ramp:g}", "--stream", f"{chunks}:{1_000_000 // self.per_second}"]
        return args


def _per_request(run: Run) -> Metrics:
    requests, load = run.load["requests"], run.load
    return {
        "cpu_us": run.cpu_us / requests,
        "user_us": run.cpu_us * run.user_share / requests,
        "system_us": run.cpu_us * (1 - run.user_share) / requests,
        "rps": load["rps"],
        "core": run.cpu_us / 1e6 / load["seconds"],
        "p50_us": load["latency_us"]["p50"],
        "p99_us": load["latency_us"]["p99"],
        "loadgen_us": load["cpu_us"] / requests,
    }


def _latency(run: Run) -> Metrics:
    return {"p50_us": run.load["latency_us"]["p50"], "p99_us": run.load["latency_us"]["p99"]}


def _first_token(run: Run) -> Metrics:
    return {"p50_us": run.load["ttft_us"]["p50"], "p99_us": run.load["ttft_us"]["p99"]}


def _per_chunk(run: Run) -> Metrics:
    load = run.load
    return {
        "cpu_us": run.cpu_us / load["chunks"],
        "core": run.cpu_us / 1e6 / load["seconds"],
        "transit_p50_us": load["transit_us"]["p50"],
        "transit_p99_us": load["transit_us"]["p99"],
        "stalls": load["stalls"],
        "chunks": load["chunks"],
        "rss": run.rss[1],
    }


def _memory(run: Run) -> Metrics:
    before, peak, after = run.rss
    return {"before": before, "loaded": peak, "after": after}


def _closed(title: str, seconds: float, conns: int, size: int) -> Scenario:
    args = ("--mode", "closed", "--conns", str(conns), "--bytes", str(size))
    return Scenario(title, args, seconds, _per_request)


def _rate(title: str, seconds: float, rate: int, read: Callable[[Run], Metrics], *more: str) -> Scenario:
    return Scenario(title, ("--mode", "rate", "--rate", str(rate), "--conns", "64", *more), seconds, read, rate=rate)


def _streams(title: str, seconds: float, streams: int, ramp: float) -> Scenario:
    args = ("--mode", "once", "--conns", str(streams))
    return Scenario(title, args, seconds, _per_chunk, ramp=ramp, per_second=50, sample_memory=True)


SCENARIOS: dict[str, Scenario] = {
    "chat": _closed("0.4 kB, 32 connections", 4, 32, 400),
    "c1": _closed("0.4 kB, 1 connection", 3, 1, 400),
    "c300": _closed("0.4 kB, 300 connections", 4, 300, 400),
    "body32k": _closed("32 kB, 32 connections", 3, 32, 32 * 1024),
    "body1m": _closed("1 MB, 8 connections", 3, 8, 1024 * 1024),
    "latency": _rate("200 requests/s", 5, 200, _latency),
    "latency20": _rate("20 requests/s", 5, 20, _latency),
    "ttft": _rate("50 streams/s", 4, 50, _first_token, "--stream", "5:2000"),
    "streams20": _streams("20 streams", 6, 20, 0.4),
    "streams300": _streams("300 streams", 5, 300, 1.0),
    "streams512": _streams("512 streams", 5, 512, 1.5),
    "streams2000": _streams("2,000 streams", 6, 2000, 3.0),
    "memory": Scenario(
        "1,000 streams at 5 chunks/s",
        ("--mode", "once", "--conns", "1000"),
        3,
        _memory,
        ramp=2.0,
        per_second=5,
        sample_memory=True,
    ),
    "aborts": Scenario(
        "64 clients, one stream in five aborted",
        ("--mode", "closed", "--conns", "64", "--stream", "20:5000", "--abort", "20"),
        15,
        _memory,
        sample_memory=True,
    ),
}
DEFAULT = ("chat", "body32k", "latency", "ttft", "streams20", "streams300", "streams512", "memory")
WARM_UP = _closed("warm-up", 1.5, 32, 400)
SAMPLE = 0.2
"""Seconds between looks at the memory."""
KEPT_UP = 0.9
"""Share of the offered rate below which a latency would only measure the queue."""


def complaint(load: dict[str, Any], rate: int = 0) -> str:
    """Why a load run is not a result; empty if it is one. `rate`: what was offered, if it was fixed."""
    if load["errors"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in load["error_kinds"].items() if count)
        return f"{load['errors']} errors of {load['requests'] + load['errors']} ({kinds}): {load['first_error']}"
    if load["rps"] < KEPT_UP * rate:
        return f"saturated: {load['rps']:.0f} of {rate} requests/s"
    return "" if load["requests"] else "no request was finished"


def load(machine: Machine, system: Running, scenario: Scenario, scale: float) -> Run:
    """Run the load; the system's CPU time is read right before and right after."""
    launch = system.launch
    command = native.load_command(
        machine.loadgen,
        machine.harness_core,
        port=system.port,
        args=scenario.arguments(scale),
        model=launch.model,
        path=launch.path,
        headers=launch.headers,
    )
    busy = proc.core_busy_us(machine.gateway_core)
    before = proc.usage(system.pid)
    peak = before.rss
    deadline = time.monotonic() + scenario.seconds + scenario.ramp + 60
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            output = None
            while output is None:
                try:
                    left = max(0.0, deadline - time.monotonic())
                    output, _ = process.communicate(timeout=min(SAMPLE, left) if scenario.sample_memory else left)
                except subprocess.TimeoutExpired:
                    if time.monotonic() >= deadline:
                        raise
                    peak = max(peak, proc.usage(system.pid).rss)
        finally:
            process.kill()
    after = proc.usage(system.pid)
    used = after.cpu_us - before.cpu_us
    result = native.parse_load(output)
    others = proc.core_busy_us(machine.gateway_core) - busy - used
    share = min(1.0, (after.user_us - before.user_us) / used) if used else 0.0
    problem = complaint(result, scenario.rate)
    if problem:
        raise Faulty(problem)
    others = max(0.0, others / 1e6 / result["seconds"])
    return Run(
        load=result,
        others=others,
        cpu_us=used,
        user_share=share,
        rss=(before.rss, max(peak, after.rss), after.rss),
    )
