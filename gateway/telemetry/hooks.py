"""What is counted, logged and traced about a request: told once when it is refused, or once when it is settled."""

from __future__ import annotations

import logging
import time

from gateway.context import Context
from gateway.errors import GatewayError
from gateway.providers.base import Usage
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracer

log = logging.getLogger("gateway.access")


class Telemetry:
    """One worker's."""

    def __init__(self, metrics: Metrics, access_log: str, tracer: Tracer | None) -> None:
        self.metrics = metrics
        self._log_errors = access_log != "off"
        self._log_all = access_log == "all"
        self.tracer = tracer
        self.in_flight = 0
        counters = metrics.counters
        self._requests, self._errors = counters["tunegate_requests"], counters["tunegate_errors"]
        self._rejected, self._attempts = counters["tunegate_rejected"], counters["tunegate_attempts"]
        self._tokens, self._cost = counters["tunegate_tokens"], counters["tunegate_cost_nano"]
        self._fallbacks, self._source = counters["tunegate_fallbacks"], counters["tunegate_usage_source"]
        self._overhead = metrics.histogram("tunegate_overhead_seconds", ())

    def admitted(self) -> None:
        """A request is under way."""
        self.in_flight += 1

    def rejected(self, error: GatewayError, request_id: str = "", peer: str = "") -> None:
        """A request was refused before admission: no ledger row, but a metric and a log line."""
        self._rejected[(error.code,)] += 1
        if self._log_errors:
            data = {"request_id": request_id, "peer": peer, "status": error.status, "error": error.code}
            log.info("request.rejected", extra={"data": data})

    def settled(self, ctx: Context, usage: Usage, source: str, cost: int) -> None:
        """A request has ended."""
        self.in_flight -= 1
        route = ctx.route.name
        now = time.monotonic()
        self._requests[route, ctx.operation.name, ctx.end] += 1
        self._source[(source,)] += 1
        self.metrics.histogram("gen_ai_server_request_duration_seconds", (route,)).observe(now - ctx.started)
        for attempt in ctx.attempts:
            self._attempts[attempt.target.id, attempt.error] += 1
        if ctx.first_content is not None:
            waited = ctx.first_content - ctx.started
            self._overhead.observe(max(0.0, waited - ctx.upstream_seconds))
            if ctx.call.stream:
                self.metrics.histogram("gen_ai_server_time_to_first_token_seconds", (route,)).observe(waited)
            if len(ctx.attempts) > 1 and ctx.target is not None:
                self._fallbacks[route, ctx.target.id] += 1
        if source != "none" and ctx.target is not None:
            self._count_tokens(route, ctx.target.id, usage)
            self._cost[(route,)] += cost
        if ctx.error:
            self._errors[route, ctx.error] += 1
        if self._log_all or (self._log_errors and ctx.end not in ("success", "client_gone", "client_gone_partial")):
            self._log(ctx, usage, now)
        if self.tracer is not None:
            self.tracer.record(ctx, usage)

    def _count_tokens(self, route: str, target: str, usage: Usage) -> None:
        tokens = self._tokens
        tokens[route, target, "input"] += usage.input
        tokens[route, target, "output"] += usage.output
        if usage.cache_read:
            tokens[route, target, "cache_read"] += usage.cache_read
        if usage.cache_write:
            tokens[route, target, "cache_write"] += usage.cache_write
        if usage.reasoning:
            tokens[route, target, "reasoning"] += usage.reasoning

    def _log(self, ctx: Context, usage: Usage, now: float) -> None:
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
            "ms": round((now - ctx.started) * 1000.0, 1),
        }
        log.info("request.ended", extra={"data": data})
