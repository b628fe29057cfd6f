"""Every metric's name, buckets and labels, and the counters behind them.

On the request path a count is one dictionary increment; prometheus_client only renders, when it is scraped.
docs/metrics.md is made from TABLE (`python -m gateway docs metrics`), and a test keeps it so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""OpenTelemetry's buckets for GenAI durations."""
OVERHEAD = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


DURATION = "gen_ai_server_request_duration_seconds"
LOG_OUTCOMES = ("kept", "full", "refused", "failed")
"""Of entries of the request log; each is there from the start."""
TOKEN_BUCKETS = ("input", "cache_read", "cache_write", "output", "reasoning")
"""In the order of `gateway.providers.base.Usage`."""


class Spec(NamedTuple):
    """One metric."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


TABLE: dict[str, Spec] = {
    "tunegate_requests": Spec(
        "counter",
        "Admitted requests that have ended, by how they ended; copies for a shadow have the route `NAME (shadow)`.",
        ("route", "operation", "end"),
    ),
    "tunegate_errors": Spec("counter", "Admitted requests that failed, by error code.", ("route", "error")),
    "tunegate_rejected": Spec("counter", "Requests refused before admission, by error code.", ("error",)),
    "tunegate_attempts": Spec(
        "counter", "Attempts at upstream targets; error is empty for one that answered.", ("target", "error")
    ),
    "tunegate_fallbacks": Spec("counter", "Requests answered by another than the first target.", ("route", "target")),
    "tunegate_tokens": Spec("counter", "Tokens charged, in disjoint buckets.", ("route", "target", "bucket")),
    "tunegate_usage_source": Spec("counter", "Settled requests by where their token counts come from.", ("source",)),
    "tunegate_cost_nano": Spec("counter", "Money charged, in 10^-9 units of the account currency.", ("route",)),
    "gen_ai_server_request_duration_seconds": Spec(
        "histogram", "From admission to the last byte.", ("gen_ai_request_model",), SECONDS
    ),
    "gen_ai_server_time_to_first_token_seconds": Spec(
        "histogram", "From admission to the first content of a stream.", ("gen_ai_request_model",), SECONDS
    ),
    "tunegate_overhead_seconds": Spec(
        "histogram", "Time to the first content less the time spent waiting for upstreams.", (), OVERHEAD
    ),
    "tunegate_limits_redis_seconds": Spec("histogram", "Calls to Redis for limits that were answered.", (), OVERHEAD),
    "tunegate_limits_redis_calls": Spec(
        "counter",
        "Calls to Redis for limits: answered, slow (answered after `[limits] wait`) or failed.",
        ("outcome",),
    ),
    "tunegate_limits_redis_breaker": Spec("gauge", "Circuit breaker before Redis: 0 closed, 1 half open, 2 open."),
    "tunegate_limits_uncovered": Spec(
        "counter",
        "Requests that no lease covered: granted or refused by Redis; without it, alone (by this worker's share) or "
        "closed (answered 503).",
        ("outcome",),
    ),
    "tunegate_limits_leases": Spec("gauge", "Keys, teams and routes of whose limits this worker holds a lease."),
    "tunegate_retrieval_seconds": Spec(
        "histogram",
        "Looking up passages in a route's knowledge bases, by outcome: found, nothing or failed.",
        ("route", "outcome"),
        SECONDS,
    ),
    "tunegate_guard": Spec(
        "counter",
        "What guards of routes did: finds masked, by kind; requests blocked, by the kind of what blocked them; and "
        "questions that moderation or webhook left unanswered.",
        ("route", "action", "kind"),
    ),
    "tunegate_in_flight_requests": Spec("gauge", "Admitted requests under way, and copies for shadows."),
    "tunegate_client_connections": Spec("gauge", "Open client connections."),
    "tunegate_target_in_flight": Spec("gauge", "Requests under way at a target.", ("target",)),
    "tunegate_target_breaker": Spec("gauge", "Circuit breaker: 0 closed, 1 half open, 2 open.", ("target",)),
    "tunegate_target_breaker_opened": Spec("counter", "How often a target's breaker opened.", ("target",)),
    "tunegate_upstream_connections": Spec("gauge", "Connections to an endpoint, idle ones too.", ("endpoint",)),
    "tunegate_upstream_queue": Spec("gauge", "Requests that wait for a connection to an endpoint.", ("endpoint",)),
    "tunegate_credential_failures": Spec(
        "counter", "Tries to fetch or renew an endpoint's credential that brought none.", ("endpoint",)
    ),
    "tunegate_spool_bytes": Spec("gauge", "Disk space that the usage spool holds."),
    "tunegate_spool_max_bytes": Spec("gauge", "Disk space at which the usage spool is full, and new work refused."),
    "tunegate_spool_backlog_bytes": Spec("gauge", "Usage records that were not delivered yet."),
    "tunegate_spool_refused": Spec("counter", "Requests refused because the usage spool was full."),
    "tunegate_spool_recovered": Spec("counter", "Requests that an earlier process left open, settled at start."),
    "tunegate_usage_shipped": Spec("counter", "Usage events delivered to the ledger."),
    "tunegate_usage_delivery_failing": Spec("gauge", "Deliveries that failed in a row; 0 while the ledger works."),
    "tunegate_usage_quarantined": Spec("counter", "Usage events that control could not accept and put aside."),
    "tunegate_request_log": Spec(
        "counter",
        "Entries of the request log: kept; full (no memory free); refused (by control); failed (a bug, see the log).",
        ("outcome",),
    ),
    "tunegate_responses_not_kept": Spec(
        "counter", "Answers of /v1/responses that could not be written to their folder."
    ),
    "tunegate_objects_not_noted": Spec(
        "counter", "Files and batches at providers whose owner could not be written to its folder: nobody gets at them."
    ),
    "tunegate_request_log_bytes": Spec("gauge", "Memory of bodies that are recorded or wait for their delivery."),
    "tunegate_shadows": Spec(
        "counter",
        "Requests chosen for a route's shadow: sent; or left out because too many were under way (full), its breaker "
        "is open (resting), or the usage spool is full (spool_full).",
        ("route", "outcome"),
    ),
    "tunegate_cache": Spec(
        "counter",
        "Requests of routes with a response cache: hit, semantic (the answer of a question that means the same), miss, "
        "or bypass (the client's wish, or nothing that can be given again).",
        ("route", "result"),
    ),
    "tunegate_cache_bytes": Spec("gauge", "Memory that answers take which may be given again."),
    "tunegate_cache_entries": Spec("gauge", "Answers in memory that may be given again."),
    "tunegate_cache_redis_calls": Spec(
        "counter",
        "Calls to Redis for answers: found, absent, stored, unreadable, late (after `[limits] wait`), failed, or "
        "left_out (Redis is left alone after a failure, or too many are under way).",
        ("outcome",),
    ),
    "tunegate_control_answers": Spec(
        "gauge",
        "1 if control answered the last call of the kind (snapshot, spend, usage, request_log, status, retrieval) "
        "well.",
        ("call",),
    ),
    "tunegate_control_failures": Spec("counter", "Calls to control that failed, by kind.", ("call",)),
    "tunegate_snapshot_age_seconds": Spec("gauge", "Since the running configuration was taken over."),
    "tunegate_snapshot_swaps": Spec("counter", "Configurations taken over."),
    "tunegate_snapshot_refused": Spec("counter", "Configurations refused because of a mistake in them."),
    "tunegate_endpoint_unusable": Spec(
        "gauge",
        "1 for an endpoint that this machine cannot talk to, such as one whose ca_file is missing.",
        ("endpoint",),
    ),
    "tunegate_certificate_expires_seconds": Spec(
        "gauge",
        "When a certificate expires, in Unix seconds: the first of the listener's own chain (use `listener`), and an "
        "endpoint's as the last handshake with it showed it (use `upstream`).",
        ("use", "endpoint"),
    ),
}

Labels = tuple[str, ...]
Gauge = Callable[[], Iterable[tuple[Labels, float]]]


class Histogram:
    """Counts by bucket; the last one is for everything above."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, counts: list[int], total: float) -> None:
        """Count what another histogram of the same buckets has counted."""
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.total += total

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, count up to it) pairs in Prometheus' form."""
        running, rows = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            running += count
            rows.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
        return rows


class Cell:
    """What is counted of requests alike in route, target, operation, end, error and usage source.

    One look-up a request; the families of TABLE are summed from the cells when they are scraped.
    """

    __slots__ = ("cost", "duration_sum", "durations", "requests", "retried", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.retried = 0
        """Those that took more than one attempt."""
        self.tokens = [0] * len(TOKEN_BUCKETS)
        self.cost = 0
        self.durations = [0] * (len(SECONDS) + 1)
        self.duration_sum = 0.0


class Metrics:
    """One worker's numbers; a prometheus_client collector."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self.counters: dict[str, defaultdict[Labels, int]] = {
            name: defaultdict(int) for name, spec in TABLE.items() if spec.kind == "counter"
        }
        self.histograms: dict[str, dict[Labels, Histogram]] = {
            name: {} for name, spec in TABLE.items() if spec.kind == "histogram"
        }
        for outcome in LOG_OUTCOMES:
            self.counters["tunegate_request_log"][(outcome,)] = 0
        self.cells: dict[tuple[str, str, str, str, str, str], Cell] = {}
        """By route, target, operation, end, error, usage source."""
        self.sources: dict[str, Gauge] = {}
        """Metric name -> where its values are read when it is scraped."""

    def histogram(self, name: str, labels: Labels) -> Histogram:
        """The histogram of some label values, made on first use."""
        family = self.histograms[name]
        found = family.get(labels)
        if found is None:
            found = family[labels] = Histogram(TABLE[name].buckets)
        return found

    def collect(self) -> Iterator[Metric]:
        """Render all families; every sample carries the worker's number."""
        counted, durations = self._sum_cells()
        for name, spec in TABLE.items():
            labels = ("worker", *spec.labels)
            if spec.kind == "histogram":
                family = HistogramMetricFamily(name, spec.help, labels=labels)
                known = durations if name == DURATION else self.histograms[name]
                for values, histogram in tuple(known.items()):
                    family.add_metric((self._worker, *values), histogram.cumulative(), histogram.total)
                yield family
                continue
            samples: Iterable[tuple[Labels, float]]
            if name in self.sources:
                samples = self.sources[name]()
            else:
                found = {**self.counters.get(name, {}), **counted.get(name, {})}
                samples = tuple(found.items()) or _beginning(spec)
            kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
            plain = kind(name, spec.help, labels=labels)
            for values, value in samples:
                plain.add_metric((self._worker, *values), value)
            yield plain

    def _sum_cells(self) -> tuple[dict[str, dict[Labels, int]], dict[Labels, Histogram]]:
        sums: dict[str, defaultdict[Labels, int]] = defaultdict(lambda: defaultdict(int))
        durations: dict[Labels, Histogram] = {}
        for (route, target, operation, end, error, source), cell in tuple(self.cells.items()):
            sums["tunegate_requests"][route, operation, end] += cell.requests
            sums["tunegate_usage_source"][(source,)] += cell.requests
            sums["tunegate_cost_nano"][(route,)] += cell.cost
            if error:
                sums["tunegate_errors"][route, error] += cell.requests
            if target:
                sums["tunegate_attempts"][target, error] += cell.requests
            if cell.retried and not error:
                sums["tunegate_fallbacks"][route, target] += cell.retried
            for bucket, tokens in zip(TOKEN_BUCKETS, cell.tokens, strict=True):
                if tokens:
                    sums["tunegate_tokens"][route, target, bucket] += tokens
            durations.setdefault((route,), Histogram(SECONDS)).add(cell.durations, cell.duration_sum)
        for labels, failed in self.counters["tunegate_attempts"].items():
            sums["tunegate_attempts"][labels] += failed
        return {name: dict(values) for name, values in sums.items()}, durations


def _beginning(spec: Spec) -> tuple[tuple[Labels, float], ...]:
    """A counter without labels is there from the start: a rise from nothing to 1 is none that Prometheus sees."""
    return (((), 0.0),) if spec.kind == "counter" and not spec.labels else ()


def documentation() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` in Prometheus' text format, made from `gateway/telemetry/metrics.py` by `make fix`.",
        "Counters end in `_total`. Every series has the label `worker`. Labels hold names of the configuration only:",
        "a model name that no route knows never becomes a label. Beside these, `process_*` and `python_info` come from",
        "prometheus_client.",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for name, spec in TABLE.items():
        full = name + "_total" if spec.kind == "counter" else name
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "–"
        lines.append(f"| `{full}` | {spec.kind} | {labels} | {spec.help} |")
    lines += ["", "Buckets, in seconds:", ""]
    lines += [f"- `{n}`: {', '.join(map(repr, s.buckets))}" for n, s in TABLE.items() if s.buckets]
    return "\n".join(lines) + "\n"
