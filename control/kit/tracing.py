"""OpenTelemetry spans of requests that are part of a recorded trace, such as a gateway's searches.

Control begins no trace by itself. Off unless `[console] otlp_endpoint` is set: then the SDK is not even
loaded. Content is never captured.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

from control.errors import ConfigError
from gateway.contract.trace import Trace

PATIENCE = 2.0
"""Seconds, with all tries, that the collector gets to take some spans: a stop waits for it."""
current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The span of the request that is being answered; what it asks of a gateway is told of it."""


def open_tracer(endpoint: str) -> Tracer | None:
    """The tracer of this collector; None without one.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    return Tracer(endpoint) if endpoint else None


class Tracer:
    """Sends spans to an OTLP collector."""

    def __init__(self, endpoint: str) -> None:
        """Raises as `open_tracer`."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ModuleNotFoundError as exc:
            raise ConfigError("[console] otlp_endpoint needs OpenTelemetry: pip install 'tunegate[otel]'") from exc
        self._resource = Resource.create({"service.name": "tunegate-control"})
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=PATIENCE))

    def answered(self, trace: Trace, operation: str, method: str, status: int, seconds: float) -> None:
        """A request that took so long has just been answered."""
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415

        recorded = TraceFlags(TraceFlags.SAMPLED)
        ended = time.time()
        span = ReadableSpan(
            operation,
            SpanContext(trace.id, trace.span, is_remote=False, trace_flags=recorded),
            SpanContext(trace.id, trace.parent, is_remote=True, trace_flags=recorded),
            self._resource,
            {"http.request.method": method, "http.response.status_code": status},
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR if status >= 500 else StatusCode.UNSET),
            start_time=int((ended - seconds) * 1e9),
            end_time=int(ended * 1e9),
        )
        self._processor.on_end(span)

    def close(self) -> None:
        """Send what is left."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]
