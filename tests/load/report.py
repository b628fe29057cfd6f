"""Medians, ratios and the Markdown report. Pure: numbers in, text out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

Metrics = Mapping[str, float]
Values = Mapping[str, Mapping[str, Sequence[Metrics]]]
Faults = Mapping[str, Mapping[str, str]]

REFERENCE = "nginx"
TRANSLATED = "tunegate-translated"
BUSY = 0.9
"""Share of its core that a system must have used for its rate to be its own limit, not the harness's."""


def rounds(values: Values, system: str, scenario: str, metric: str) -> list[float]:
    """One metric, a number per round."""
    found = values.get(system, {}).get(scenario, [])
    return [entry[metric] for entry in found if metric in entry]


def middle(numbers: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return median(numbers) if numbers else None


def per_round(
    values: Values,
    system: str,
    base: str,
    scenario: str,
    metric: str,
    combine: Callable[[float, float], float],
) -> float | None:
    """The median over the rounds of `combine(system, base)`, both of one round: drift cancels."""
    mine, theirs = (
        {entry["round"]: entry[metric] for entry in values.get(name, {}).get(scenario, []) if metric in entry}
        for name in (system, base)
    )
    return middle([combine(value, theirs[turn]) for turn, value in mine.items() if turn in theirs])


def ratio(values: Values, system: str, scenario: str, metric: str, base: str = REFERENCE) -> float | None:
    """How many times the reference, median of the rounds."""
    return per_round(values, system, base, scenario, metric, lambda a, b: a / b if b else float("inf"))


def added(values: Values, system: str, scenario: str, metric: str) -> float | None:
    """What a system adds to the same load without a gateway, median of the rounds."""
    return per_round(values, system, "direct", scenario, metric, lambda a, b: a - b)


def number(value: float | None, digits: int = 1) -> str:
    """A figure for a table; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.{digits}f}"


def times(value: float | None) -> str:
    """A ratio for a table."""
    return "–" if value is None else f"{number(value, 2)} ×"


def mebibytes(value: float | None) -> str:
    """A size for a table."""
    return number(None if value is None else value / 1048576, 0)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column is text, the others are right-aligned."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


class Report:
    """The report of one run."""

    def __init__(self, values: Values, faults: Faults, titles: Mapping[str, str], scenarios: Mapping[str, str]):
        """`titles` and `scenarios` give the order and the headings."""
        self.values, self.faults, self.titles, self.scenarios = values, faults, titles, scenarios

    def _mid(self, system: str, scenario: str, metric: str) -> float | None:
        return middle(rounds(self.values, system, scenario, metric))

    def _having(self, *names: str) -> list[str]:
        """Systems with a number in any of these scenarios."""
        return [system for system in self.titles if any(self.values.get(system, {}).get(name) for name in names)]

    def _ranked(self, name: str) -> list[str]:
        """Systems with a number in this scenario, the cheapest first, after the run without a gateway."""
        return sorted(
            self._having(name),
            key=lambda system: 0 if system == "direct" else self._mid(system, name, "cpu_us") or 0,
        )

    def _requests(self, name: str) -> str:
        rows = []
        for system in self._ranked(name):
            core = self._mid(system, name, "core") or 0
            rate = number(self._mid(system, name, "rps"), 0)
            split = [number(self._mid(system, name, part), 1) for part in ("user_us", "system_us")]
            rows.append(
                [
                    self.titles[system],
                    number(self._mid(system, name, "cpu_us")),
                    " + ".join(split),
                    times(ratio(self.values, system, name, "cpu_us")),
                    rate if core >= BUSY else f"≥ {rate}",
                    times(ratio(self.values, system, name, "rps")),
                    number(self._mid(system, name, "p50_us"), 0),
                    number(self._mid(system, name, "p99_us"), 0),
                ]
            )
        head = [
            "system",
            "CPU µs per request",
            "user + system",
            "to nginx",
            "requests/s on one core",
            "to nginx",
            "p50 µs",
            "p99 µs",
        ]
        return table(head, rows)

    def _streams(self, name: str) -> str:
        rows = []
        for system in self._ranked(name):
            rows.append(
                [
                    self.titles[system],
                    number(self._mid(system, name, "cpu_us")),
                    times(ratio(self.values, system, name, "cpu_us")),
                    number(self._mid(system, name, "core"), 2),
                    number(self._mid(system, name, "transit_p50_us"), 0),
                    number(self._mid(system, name, "transit_p99_us"), 0),
                    number(self._mid(system, name, "stalls"), 0),
                ]
            )
        head = ["system", "CPU µs per chunk", "to nginx", "core used", "transit p50 µs", "p99 µs", "stalls"]
        return table(head, rows)

    def _latency(self) -> str:
        rows = []
        for system in self._having("latency", "ttft", "start"):
            if system != "direct":
                rows.append(
                    [
                        self.titles[system],
                        number(added(self.values, system, "latency", "p50_us"), 0),
                        number(added(self.values, system, "latency", "p99_us"), 0),
                        number(added(self.values, system, "ttft", "p50_us"), 0),
                        number(added(self.values, system, "ttft", "p99_us"), 0),
                        number(self._mid(system, "start", "ms"), 0),
                        mebibytes(self._mid(system, "start", "idle")),
                        mebibytes(self._mid(system, "memory", "loaded")),
                        mebibytes(self._mid(system, "memory", "after")),
                    ]
                )
        head = [
            "system",
            "added p50 µs at 200/s",
            "added p99 µs",
            "added first token p50 µs",
            "p99 µs",
            "start ms",
            "MiB idle",
            "MiB, 1,000 streams",
            "MiB after",
        ]
        return table(head, rows)

    def _added(self, name: str) -> str:
        rows = []
        for system in self._having(name):
            if system != "direct":
                figures = [added(self.values, system, name, metric) for metric in ("p50_us", "p99_us")]
                rows.append([self.titles[system], *(number(figure, 0) for figure in figures)])
        return table(["system", "added p50 µs", "added p99 µs"], rows)

    def _growth(self, name: str) -> str:
        rows = []
        for system in self._having(name):
            figures = [self._mid(system, name, metric) for metric in ("before", "loaded", "after")]
            rows.append([self.titles[system], *(mebibytes(figure) for figure in figures)])
        return table(["system", "MiB before", "MiB at most", "MiB after"], rows)

    def _faults(self) -> str:
        rows = []
        for system, reasons in self.faults.items():
            for name, reason in reasons.items():
                rows.append([self.titles.get(system, system), self.scenarios.get(name, "everything"), reason])
        return table(["system", "what", "why there is no number"], rows)

    def _translated(self) -> str:
        rows = []
        for name, title in self.scenarios.items():
            if name.startswith("streams"):
                found = ratio(self.values, TRANSLATED, name, "cpu_us", base="tunegate")
                figures = [number(self._mid(system, name, "cpu_us")) for system in ("tunegate", TRANSLATED)]
                rows.append([title, *figures, times(found)])
        return table(["50 chunks/s each", "passed through, CPU µs per chunk", "translated", "ratio, at most 1.5"], rows)

    def sections(self) -> list[tuple[str, str]]:
        """Heading and table of each part that has something to say."""
        parts = []
        for name, title in self.scenarios.items():
            if name.startswith("streams") and self._having(name):
                parts.append((f"{title}, 50 chunks/s each", self._streams(name)))
            elif name == "aborts" and self._having(name):
                parts.append((f"Memory: {title}", self._growth(name)))
            elif name == "latency20" and self._having(name):
                parts.append((f"Latency at {title}", self._added(name)))
            elif name not in ("latency", "latency20", "ttft", "memory", "aborts") and self._having(name):
                parts.append((f"Requests: {title}", self._requests(name)))
        parts.insert(1, ("Latency, start and memory", self._latency()))
        if any(name.startswith("streams") and self._mid(TRANSLATED, name, "cpu_us") for name in self.scenarios):
            parts.append(("Translated streams", self._translated()))
        if self.faults:
            parts.append(("Not measured", self._faults()))
        return parts


def markdown(report: Report, facts: Mapping[str, str], does: Mapping[str, str], chart: str) -> str:
    """The whole report."""
    lines = ["# Benchmark results", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", f"![CPU time per request and per streamed chunk]({chart})", ""]
    for heading, text in report.sections():
        lines += [f"## {heading}", "", text, ""]
    lines += ["## What each system does", ""]
    lines += [f"- {report.titles[system]}: {text}" for system, text in does.items()]
    lines += ["", "How it is measured, and how to read it: [README](README.md).", ""]
    return "\n".join(lines)
