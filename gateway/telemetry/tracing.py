"""OpenTelemetry spans with the GenAI conventions (semantic-conventions 1.41), made by hand for sampled requests only.

Off unless `[telemetry] otlp_endpoint` is set: then nothing of OpenTelemetry is even imported. A request's spans are
built after it has ended, with the times it noted, so tracing never stands in its way. Content is never captured.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from gateway.context import Context
    from gateway.protocols.canonical import Usage

_OPERATIONS = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
_PROVIDERS = {
    "zhipu": "zhipu_ai",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
}


class Tracer:
    """Sends a server span per request and a client span per attempt. Needs the extra `tunegate[otel]`."""

    def __init__(self, endpoint: str, sample: float) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ModuleNotFoundError as exc:
            raise SystemExit("[telemetry] otlp_endpoint needs OpenTelemetry: pip install 'tunegate[otel]'") from exc
        self._sample = sample
        self._provider: TracerProvider = TracerProvider(resource=Resource.create({"service.name": "tunegate-gateway"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("tunegate.gateway")

    def record(self, ctx: Context, usage: Usage) -> None:
        """Make the spans of a request that has ended, if the dice say so."""
        if random.random() >= self._sample:
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context  # noqa: PLC0415

        shift = time.time() - time.monotonic()

        def nano(monotonic: float) -> int:
            return int((monotonic + shift) * 1e9)

        operation = _OPERATIONS.get(ctx.operation.name, ctx.operation.name)
        server = self._tracer.start_span(
            f"{operation} {ctx.call.model}", kind=SpanKind.SERVER, start_time=nano(ctx.started)
        )
        server.set_attributes({"tunegate.request_id": ctx.request_id, "tunegate.route": ctx.route.name})
        inside = set_span_in_context(server)
        if (found := ctx.retrieved) is not None:
            looked = self._tracer.start_span(f"retrieval {ctx.route.name}", inside, start_time=nano(found.started))
            looked.set_attributes(
                {"tunegate.retrieval.outcome": found.outcome, "tunegate.passages": len(found.passages)}
            )
            looked.end(nano(found.started + found.ms / 1000.0))
        for number, attempt in enumerate(ctx.attempts, 1):
            target = attempt.target
            span = self._tracer.start_span(
                f"{operation} {target.model or ctx.call.model}",
                context=inside,
                kind=SpanKind.CLIENT,
                start_time=nano(attempt.started),
            )
            kind = target.endpoint.provider.kind
            span.set_attributes(
                {
                    "gen_ai.operation.name": operation,
                    "gen_ai.provider.name": _PROVIDERS.get(kind, kind),
                    "gen_ai.request.model": target.model or ctx.call.model,
                    "server.address": target.endpoint.host,
                    "server.port": target.endpoint.port,
                    **_attributes(ctx),
                }
            )
            if attempt.error:
                span.set_attribute("error.type", attempt.error)
                span.set_status(Status(StatusCode.ERROR))
            if number == len(ctx.attempts):
                if ctx.first_content is not None and ctx.call.stream:
                    span.set_attribute("gen_ai.response.time_to_first_chunk", ctx.first_content - attempt.started)
                span.set_attributes(_usage(usage))
                span.end(nano(time.monotonic()))
            else:
                span.end(nano(attempt.started + attempt.ms / 1000.0))
        if ctx.error:
            server.set_attribute("error.type", ctx.error)
            server.set_status(Status(StatusCode.ERROR))
        server.end()

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


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
