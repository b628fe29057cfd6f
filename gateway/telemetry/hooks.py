"""What is counted, logged and traced about a request: told once when it is refused, or once when it is settled."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Mapping

from gateway.context import Context
from gateway.contract.trace import Trace
from gateway.errors import GatewayError
from gateway.guarded import Guarded
from gateway.protocols.canonical import Usage
from gateway.telemetry.metrics import OVERHEAD, SECONDS, Cell, Metrics
from gateway.telemetry.tracing import Tracer

log = logging.getLogger("gateway.access")

QUIET_ENDS = frozenset({"success", "client_gone", "client_gone_partial"})
"""Ends that are nobody's error."""


class Telemetry:
    """One worker's."""

    __slots__ = (
        "_attempts",
        "_cells",
        "_guarded",
        "_log_all",
        "_log_errors",
        "_overhead",
        "_rejected",
        "in_flight",
        "metrics",
        "tracer",
    )

    def __init__(self, metrics: Metrics, access_log: str, tracer: Tracer | None) -> None:
        self.metrics = metrics
        self._log_errors = access_log != "off"
        self._log_all = access_log == "all"
        self.tracer = tracer
        self.in_flight = 0
        """Admitted requests under way; the pipeline counts them in."""
        self._cells = metrics.cells
        self._attempts = metrics.counters["tunegate_attempts"]
        self._rejected = metrics.counters["tunegate_rejected"]
        self._guarded = metrics.counters["tunegate_guard"]
        self._overhead = metrics.histogram("tunegate_overhead_seconds", ())

    def rejected(self, error: GatewayError, request_id: str = "", peer: str = "") -> None:
        """A request was refused before admission: no ledger row, but a metric and a log line."""
        self._rejected[(error.code,)] += 1
        if self._log_errors:
            data = {"request_id": request_id, "peer": peer, "status": error.status, "error": error.code}
            log.info("request.rejected", extra={"data": data})

    def traced(self, headers: Mapping[bytes, bytes]) -> Trace | None:
        """The span of a request with these headers; None: it is not traced."""
        return self.tracer.begin(headers) if self.tracer is not None else None

    def settled(self, ctx: Context, usage: Usage, source: str, cost: int, ended: float) -> None:
        """A request has ended, at `ended` in monotonic seconds."""
        self.in_flight -= 1
        target = ctx.target.id if ctx.target is not None else ""
        identity = (ctx.route.name, target, ctx.operation.name, ctx.end, ctx.error, source)
        cell = self._cells.get(identity)
        if cell is None:
            cell = self._cells[identity] = Cell()
        cell.requests += 1
        cell.cost += cost
        took = ended - ctx.started
        cell.duration_sum += took
        cell.durations[bisect_left(SECONDS, took)] += 1
        tokens = cell.tokens
        for bucket, count in enumerate(usage):
            if count:
                tokens[bucket] += count
        if ctx.first_content is not None:
            waited = ctx.first_content - ctx.started
            own, overhead = waited - ctx.upstream_seconds, self._overhead
            overhead.total += own
            overhead.counts[bisect_left(OVERHEAD, own)] += 1
            if ctx.call.stream:
                name = "gen_ai_server_time_to_first_token_seconds"
                self.metrics.histogram(name, (ctx.route.name,)).observe(waited)
        if (found := ctx.retrieved) is not None:
            histogram = self.metrics.histogram("tunegate_retrieval_seconds", (ctx.route.name, found.outcome))
            histogram.observe(found.ms / 1000.0)
        if ctx.guarded is not None:
            self._guard(ctx.route.name, ctx.guarded)
        if len(ctx.attempts) > 1:
            cell.retried += any(attempt.error for attempt in ctx.attempts)
            for attempt in ctx.attempts[:-1]:
                self._attempts[attempt.target.id, attempt.error] += 1
        if self._log_all or (self._log_errors and ctx.end not in QUIET_ENDS):
            self._log(ctx, usage, ended)
        if self.tracer is not None and ctx.trace is not None:
            self.tracer.record(ctx, ctx.trace, usage)

    def _guard(self, route: str, guarded: Guarded) -> None:
        for found in (guarded.found_in_prompt, guarded.found_in_answer):
            for kind, count in found.items():
                self._guarded[route, "masked", kind] += count
        if guarded.blocked:
            self._guarded[route, "blocked", guarded.blocked] += 1
        for name in guarded.unchecked:
            self._guarded[route, "unanswered", name] += 1

    def _log(self, ctx: Context, usage: Usage, ended: float) -> None:
        data = {
            "request_id": ctx.request_id,
            "key": ctx.key.name,
            "route": ctx.route.name,
            "target": ctx.target.id if ctx.target else None,
            "attempts": len(ctx.attempts),
            "end": ctx.end,
            "status": ctx.status,
            "error": ctx.error,
            "tokens": usage.total,
            "ms": round((ended - ctx.started) * 1000.0, 1),
        }
        if ctx.guarded is not None:
            data["guard"] = ctx.guarded.action
        if ctx.trace is not None:
            data["trace"] = f"{ctx.trace.id:032x}"
        log.info("request.ended", extra={"data": data})
