"""Compare Tunegate with other gateways on this machine: `make bench`, or `python -m tests.load.bench`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from . import native
from .chart import svg
from .install import Unavailable
from .measure import Results, turn
from .report import REFERENCE, Report, markdown, middle, rounds
from .scenarios import DEFAULT, SCENARIOS, Machine
from .systems import REPO, SYSTEMS

QUICK = 0.4
"""Share of the usual lengths in a quick run."""


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line. `direct` and `nginx` are always measured: everything is relative to them."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.bench", description=__doc__)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"of {','.join(SYSTEMS)}")
    parser.add_argument(
        "--scenarios",
        default=",".join(DEFAULT),
        help=f"`all`, or some of {','.join(SCENARIOS)} (default %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short round: for a look, not for a report")
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "bench", help="folder of the report")
    parser.add_argument("--name", default="results", help="file name of the report")
    parser.add_argument("--cache", type=Path, default=REPO / ".cache" / "bench", help="folder of the peers")
    args = parser.parse_args(argv)
    args.systems = list(dict.fromkeys(["direct", REFERENCE, *args.systems.split(",")]))
    args.scenarios = list(SCENARIOS) if args.scenarios == "all" else args.scenarios.split(",")
    for name, known in ((args.systems, SYSTEMS), (args.scenarios, SCENARIOS)):
        unknown = [word for word in name if word not in known]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}")
    if args.quick:
        args.rounds = 1
    return args


def cores() -> tuple[int, int]:
    """The gateway's core and the harness's: the first two that we may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit("bench: needs two cores, one for the gateway and one for the load")
    return allowed[0], allowed[1]


def prepare(systems: Sequence[str], cache: Path, results: Results) -> dict[str, Path]:
    """Install what is missing; gives the program of each system that can run."""
    tools = {}
    for name in systems:
        try:
            tools[name] = SYSTEMS[name].prepare(cache)
        except Unavailable as exc:
            results.fail(name, "", str(exc))
            say(f"{name}: {exc}")
    return tools


def machine_facts() -> str:
    """The processor, the memory and the kernel's version."""
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    kernel = ".".join(platform.release().split(".")[:2])
    model = models[0] if models else platform.machine()
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {kernel}"


def noise(results: Results) -> str:
    """How much of the gateway's core was not the gateway's."""
    shares = [
        entry["others"]
        for scenarios in results.values.values()
        for entries in scenarios.values()
        for entry in entries
        if "others" in entry
    ]
    if not shares:
        return "unknown"
    return f"{middle(shares):.0%} of the gateway's core in the median run, {max(shares):.0%} in the worst"


def facts(args: argparse.Namespace, argv: Sequence[str], results: Results) -> dict[str, str]:
    """The head of the report."""
    options = f" {shlex.join(argv)}" if argv else ""
    return {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "Machine": machine_facts(),
        "Command": f"`python -m tests.load.bench{options}`",
        "Method": f"{args.rounds} interleaved round(s), medians; the gateway on one core, load and upstream "
        "on another; trust the ratios of one run, not its absolute figures",
        "Used by other programs": noise(results),
        "Python": platform.python_version(),
    }


def write(args: argparse.Namespace, results: Results, argv: Sequence[str]) -> Path:
    """The three files of the report."""
    args.out.mkdir(parents=True, exist_ok=True)
    titles = {name: SYSTEMS[name].title for name in args.systems}
    scenarios = {name: SCENARIOS[name].title for name in args.scenarios}
    head = facts(args, argv, results)
    report = Report(results.values, results.faults, titles, scenarios)
    does = {name: SYSTEMS[name].does for name in args.systems}
    target: Path = args.out / f"{args.name}.md"
    target.write_text(markdown(report, head, does, f"{args.name}.svg"))
    data = {"facts": head, "titles": titles, "scenarios": scenarios, **results.as_json()}
    target.with_suffix(".json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    panels = []
    for scenario, title in (
        ("chat", "CPU µs per request, 0.4 kB"),
        ("streams20", "CPU µs per streamed chunk"),
    ):
        rows = []
        for name in args.systems:
            value = middle(rounds(results.values, name, scenario, "cpu_us"))
            if value and name != "direct":
                rows.append((titles[name].replace("`", ""), value, name.startswith("tunegate")))
        panels.append((title, rows))
    target.with_suffix(".svg").write_text(svg(panels))
    return target


def measure(args: argparse.Namespace, results: Results) -> None:
    """All rounds. A system that fails as a whole is not tried again."""
    args.cache.mkdir(parents=True, exist_ok=True)
    cache = args.cache.resolve()
    binaries = native.compile_tools(cache)
    gateway_core, harness_core = cores()
    machine = Machine(gateway_core, harness_core, binaries["loadgen"])
    tools = prepare(args.systems, cache, results)
    os.sched_setaffinity(0, {harness_core})
    for results.round in range(1, args.rounds + 1):
        for name, tool in tools.items():
            if "" in results.faults.get(name, {}):
                continue
            say(f"round {results.round} of {args.rounds}: {name}")
            with native.upstream(binaries["upstream"], harness_core) as upstream:
                turn(
                    results,
                    machine,
                    system=name,
                    tool=tool,
                    work=cache / "run" / name,
                    upstream=upstream,
                    scenarios=args.scenarios,
                    scale=QUICK if args.quick else 1.0,
                    say=say,
                )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its report."""
    args = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    results = Results()
    try:
        measure(args, results)
    finally:
        target = write(args, results, sys.argv[1:] if argv is None else argv)
    print(target.read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
