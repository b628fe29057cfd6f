"""OpenTelemetry spans with the GenAI conventions (semantic-conventions 1.41), made by hand for sampled requests only.

Off unless `[telemetry] otlp_endpoint` is set: then nothing of OpenTelemetry is even imported. A request's spans are
built after it has ended, with the times it noted, so tracing never stands in its way. Their ids are chosen before:
upstreams and control are told of them (`traceparent`), and make spans below them. Content is never captured.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.contract.trace import Trace, begun

if TYPE_CHECKING:
    from gateway.context import AttemptRecord, Context
    from gateway.protocols.canonical import Usage

_OPERATIONS = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
_PROVIDERS = {
    "zhipu": "zhipu_ai",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
}


PATIENCE = 2.0
"""Seconds, with all tries, that the collector gets to take some spans: a stop waits for it."""


class Tracer:
    """Sends a server span per request and a client span per attempt. Needs the extra `tunegate[otel]`."""

    def __init__(self, endpoint: str, sample: float) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ModuleNotFoundError as exc:
            raise SystemExit("[telemetry] otlp_endpoint needs OpenTelemetry: pip install 'tunegate[otel]'") from exc
        self._sample = sample
        self._resource = Resource.create({"service.name": "tunegate-gateway"})
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=PATIENCE))

    def begin(self, headers: Mapping[bytes, bytes]) -> Trace | None:
        """The span of a request: below its client's, whose word on recording counts; else the dice decide."""
        return begun(headers.get(b"traceparent", b"").decode("latin-1"), self._sample)

    def record(self, ctx: Context, trace: Trace, usage: Usage) -> None:
        """Make the spans of a request that has ended."""
        operation = _OPERATIONS.get(ctx.operation.name, ctx.operation.name)
        now = time.monotonic()
        own = {"tunegate.request_id": ctx.request_id, "tunegate.route": ctx.route.name}
        if ctx.cached is not None:
            own["tunegate.cache"] = ctx.cached.result
        self._emit(f"{operation} {ctx.call.model}", "SERVER", trace, (ctx.started, now), own, ctx.error)
        if (found := ctx.retrieved) is not None and found.trace is not None:
            times = found.started, found.started + found.ms / 1000.0
            told = {"tunegate.retrieval.outcome": found.outcome, "tunegate.passages": len(found.passages)}
            error = "tunegate_retrieval" if found.outcome == "failed" else ""
            self._emit(f"retrieval {ctx.route.name}", "CLIENT", found.trace, times, told, error)
        for attempt in ctx.attempts:
            if attempt.trace is None:
                continue
            last = attempt is ctx.attempts[-1]
            times = attempt.started, now if last else attempt.started + attempt.ms / 1000.0
            told = _attempted(ctx, attempt, operation) | (_usage(usage) if last else {})
            name = f"{operation} {told['gen_ai.request.model']}"
            self._emit(name, "CLIENT", attempt.trace, times, told, attempt.error)

    def _emit(
        self, name: str, kind: str, trace: Trace, times: tuple[float, float], attributes: dict[str, Any], error: str
    ) -> None:
        """One span; `times` are monotonic seconds."""
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415

        recorded = TraceFlags(TraceFlags.SAMPLED)
        shift = time.time() - time.monotonic()
        span = ReadableSpan(
            name,
            SpanContext(trace.id, trace.span, is_remote=False, trace_flags=recorded),
            SpanContext(trace.id, trace.parent, is_remote=True, trace_flags=recorded) if trace.parent else None,
            self._resource,
            attributes | ({"error.type": error} if error else {}),
            kind=SpanKind[kind],
            status=Status(StatusCode.ERROR if error else StatusCode.UNSET),
            start_time=int((times[0] + shift) * 1e9),
            end_time=int((times[1] + shift) * 1e9),
        )
        self._processor.on_end(span)

    def close(self) -> None:
        """Send what is left."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _attempted(ctx: Context, attempt: AttemptRecord, operation: str) -> dict[str, Any]:
    target = attempt.target
    kind = target.endpoint.provider.kind
    told: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _PROVIDERS.get(kind, kind),
        "gen_ai.request.model": target.model or ctx.call.model,
        "server.address": target.endpoint.host,
        "server.port": target.endpoint.port,
        **_attributes(ctx),
    }
    if attempt is ctx.attempts[-1] and ctx.first_content is not None and ctx.call.stream:
        told["gen_ai.response.time_to_first_chunk"] = ctx.first_content - attempt.started
    return told


def _attributes(ctx: Context) -> dict[str, Any]:
    document = ctx.call.document
    found: dict[str, Any] = {"gen_ai.request.stream": True} if ctx.call.stream else {}
    for ours, theirs in (
        ("max_tokens", "max_tokens"), ("max_completion_tokens", "max_tokens"), ("temperature", "temperature"),
        ("top_p", "top_p"), ("frequency_penalty", "frequency_penalty"), ("presence_penalty", "presence_penalty"),
        ("seed", "seed"),
    ):  # fmt: skip
        value = document.get(ours)
        if isinstance(value, int | float):
            found[f"gen_ai.request.{theirs}"] = value
    return found


def _usage(usage: Usage) -> dict[str, int]:
    """In these conventions the input includes the cached tokens, and the output the reasoning."""
    return {
        "gen_ai.usage.input_tokens": usage.input + usage.cache_read + usage.cache_write,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
        "gen_ai.usage.output_tokens": usage.output + usage.reasoning,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
    }
