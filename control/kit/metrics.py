"""Every metric of control: its name, labels and meaning, and the counters behind those that this process counts.

docs/metrics-control.md is made from TABLE (`python -m control.commands metrics`), and a test keeps it so.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric

from control.errors import Problem
from gateway.contract.internal import UsageAck

SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48)
Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values, and what is measured of them."""


class Spec(NamedTuple):
    """One metric."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()


TABLE: dict[str, Spec] = {
    "tunegate_api_requests": Spec(
        "counter",
        "Requests by operation (its name in the OpenAPI description; `page` is the console's files) and status.",
        ("operation", "status"),
    ),
    "tunegate_api_request_seconds": Spec(
        "histogram", "How long operations of /api/v1 took, to the last byte of the answer."
    ),
    "tunegate_search_seconds": Spec(
        "histogram",
        "Looking up passages for gateways, by outcome: found, nothing, refused (no such base, no right) or failed.",
        ("outcome",),
    ),
    "tunegate_ledger_events": Spec(
        "counter", "Usage events that gateways delivered: stored, duplicate or quarantined.", ("outcome",)
    ),
    "tunegate_snapshot_failing": Spec("gauge", "1 while the configuration for gateways cannot be rendered."),
    "tunegate_database_up": Spec("gauge", "1 if the database answered this scrape; 0 leaves out the figures below."),
    "tunegate_ledger_lag_seconds": Spec(
        "gauge", "From the end of the newest request in the ledger to its arrival there."
    ),
    "tunegate_gateway_silent_seconds": Spec(
        "gauge", "Since the last report of a gateway worker; gone a day after the last one.", ("gateway",)
    ),
    "tunegate_budgets_nearly_spent": Spec(
        "gauge",
        "Budgets of keys and teams of which at least 90 % is spent in the running window, looked at once a minute; at "
        "most 100.",
    ),
    "tunegate_jobs": Spec("gauge", "Training jobs by state.", ("state",)),
    "tunegate_job_attempts": Spec("gauge", "Attempts of training jobs by state.", ("state",)),
    "tunegate_job_queue_age_seconds": Spec(
        "gauge", "How long the first of the jobs that may run now has been in the queue; 0: none waits."
    ),
    "tunegate_worker_silent_seconds": Spec("gauge", "Since a training worker was heard last.", ("worker",)),
    "tunegate_devices": Spec("gauge", "Devices of a worker by use: free, job or engine.", ("worker", "use")),
    "tunegate_device_busy_ratio": Spec("gauge", "How busy a device was when its worker looked.", ("worker", "device")),
    "tunegate_device_memory_used_bytes": Spec("gauge", "Memory of a device in use.", ("worker", "device")),
    "tunegate_device_memory_bytes": Spec("gauge", "Memory of a device.", ("worker", "device")),
    "tunegate_engine_state": Spec(
        "gauge", "1 for the state that an engine is in: starting, ready or failed.", ("worker", "engine", "state")
    ),
    "tunegate_deployments": Spec("gauge", "Adapters on engines, by state.", ("state",)),
    "tunegate_knowledge_documents": Spec("gauge", "Documents in indexes of knowledge bases, by state.", ("state",)),
    "tunegate_knowledge_queue_age_seconds": Spec(
        "gauge", "Age of the oldest document that is not in its index yet, and has not failed; 0: there is none."
    ),
    "tunegate_disk_free_bytes": Spec(
        "gauge", "Free space where control keeps files: data, training and knowledge.", ("folder",)
    ),
    "tunegate_disk_bytes": Spec("gauge", "Size of the file system of these folders.", ("folder",)),
}


class Metrics:
    """What one process counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._counters = {n: Counter(n, s.help, s.labels, registry=self._registry) for n, s in _of("counter")}
        self._histograms = {
            n: Histogram(n, s.help, s.labels, registry=self._registry, buckets=SECONDS) for n, s in _of("histogram")
        }

    def requested(self, operation: str, status: int, seconds: float | None) -> None:
        """An answer is out; `seconds` only of operations whose time counts."""
        self._counters["tunegate_api_requests"].labels(operation, str(status)).inc()
        if seconds is not None:
            self._histograms["tunegate_api_request_seconds"].observe(seconds)

    def ledger(self, ack: UsageAck) -> None:
        """A batch of usage events has been stored."""
        counter = self._counters["tunegate_ledger_events"]
        counter.labels("stored").inc(ack.stored)
        counter.labels("duplicate").inc(ack.duplicates)
        counter.labels("quarantined").inc(ack.quarantined)

    @contextmanager
    def searching(self) -> Iterator[list[object]]:
        """Around a search for a gateway: the caller puts what was found into the list."""
        started, found = time.monotonic(), list[object]()
        outcome = "failed"
        try:
            yield found
            outcome = "found" if found else "nothing"
        except Problem as problem:
            outcome = "failed" if problem.status >= 500 else "refused"
            raise
        finally:
            self._histograms["tunegate_search_seconds"].labels(outcome).observe(time.monotonic() - started)

    def render(self, figures: Mapping[str, Samples]) -> bytes:
        """The page in Prometheus' text format; `figures` are those that are looked up for a scrape."""
        looked_up = CollectorRegistry()
        looked_up.register(_Figures(figures))
        return generate_latest(self._registry) + generate_latest(looked_up)


class _Figures:
    def __init__(self, figures: Mapping[str, Samples]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        for name, samples in self._figures.items():
            spec = TABLE[name]
            family = GaugeMetricFamily(name, spec.help, labels=spec.labels)
            for labels, value in samples:
                family.add_metric(labels, value)
            yield family


def _of(kind: str) -> Iterator[tuple[str, Spec]]:
    return ((name, spec) for name, spec in TABLE.items() if spec.kind == kind)


def documentation() -> str:
    """docs/metrics-control.md."""
    lines = [
        "# Metrics of control",
        "",
        "`GET /metrics` of control, made from `control/kit/metrics.py` by `make fix`. Those of gateways are in",
        "[metrics.md](metrics.md). With `[console] metrics_token` it asks for that token; without one it answers on a",
        "loopback listener only. Counters and histograms are of one process. Gauges come from the database, which",
        "every process tells alike: take their `max`, not their sum. Labels hold names of the configuration only.",
        "Beside these, `process_*` and `python_info` come from prometheus_client.",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for name, spec in TABLE.items():
        full = name + "_total" if spec.kind == "counter" else name
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "–"
        lines.append(f"| `{full}` | {spec.kind} | {labels} | {spec.help} |")
    lines += ["", f"Buckets of all histograms, in seconds: {', '.join(map(str, SECONDS))}."]
    return "\n".join(lines) + "\n"
