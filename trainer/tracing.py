"""OpenTelemetry spans of attempts whose job was asked for in a recorded trace: where its hours went.

Off unless `[trainer] otlp_endpoint` is set: then nothing of OpenTelemetry is even imported. When a phase began is noted
in the attempt's folder, which outlives the worker; the spans are made when the attempt is over.

    attempt JOB ── prepare            the rows, and the adapter that it needs, are fetched
                └─ run ── load        until the first step: libraries, the base model, the rows
                │       ├─ train      (`merge` or `evaluate`, of the recipe of that name)
                │       ├─ keep       what came out is written
                │       └─ evaluate   the questions of the spec's `eval`
                └─ upload             what came out is sent to control
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer import log
from trainer.contract.worker import AttemptOrder
from trainer.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

Phase = Literal["prepare", "run", "upload", "over"]
PATIENCE = 2.0
"""Seconds, with all tries, that the collector gets to take some spans: a stop waits for it."""
_NOTES = "phases.jsonl"
Part = tuple[str, float, float]
"""Name, begin and end in seconds since 1970."""


def open_tracer(endpoint: str) -> Tracer | None:
    """The tracer of this collector; None without one.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    return Tracer(endpoint) if endpoint else None


class Tracer:
    """Sends spans to an OTLP collector."""

    def __init__(self, endpoint: str) -> None:
        """Raises as `open_tracer`."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased  # noqa: PLC0415
        except ModuleNotFoundError as exc:
            raise SettingsError("[trainer] otlp_endpoint needs OpenTelemetry: pip install 'tunegate[otel]'") from exc
        _let_it_say_so_in_our_log()
        self._provider = TracerProvider(
            ParentBased(ALWAYS_OFF),  # no trace begins here
            Resource.create({"service.name": "tunegate-trainer"}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=PATIENCE)))
        self._tracer = self._provider.get_tracer("tunegate.trainer")

    def enter(self, order: AttemptOrder, folder: Path, phase: Phase) -> None:
        """An attempt goes into its next phase; being there already, after a restart, it stays in it."""
        if order.trace and all(name != phase for name, _ in _noted(folder)):
            with (folder / _NOTES).open("a", encoding="utf-8") as notes:
                notes.write(json.dumps([phase, time.time()]) + "\n")

    def tell(self, order: AttemptOrder, folder: Path, failure: str) -> None:
        """Make the spans of an attempt that is over, once. `failure`: empty if it went well."""
        noted = list(_noted(folder))
        if not order.trace or not noted or noted[-1][0] == "over":
            return
        self.enter(order, folder, "over")
        own = {
            "tunegate.job": order.spec.name, "tunegate.attempt": order.attempt, "tunegate.attempt.number": order.number,
            "tunegate.recipe": order.spec.recipe,
        }  # fmt: skip
        ended = time.time()
        above = self._begin(f"attempt {order.spec.name}", _parent(order.trace), noted[0][1], own)
        for (name, begin), (_, end) in zip(noted, [*noted[1:], ("over", ended)], strict=True):
            span = self._begin(name, _below(above), begin, {})
            for part, since, until in _parts(folder, order.spec.recipe, begin, end) if name == "run" else ():
                self._begin(part, _below(span), since, {}).end(int(until * 1e9))
            span.end(int(end * 1e9))
        if failure:
            from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

            above.set_status(Status(StatusCode.ERROR))
            above.set_attribute("error.type", failure)
        above.end(int(ended * 1e9))

    def _begin(self, name: str, context: Any, at: float, attributes: dict[str, Any]) -> Span:
        return self._tracer.start_span(name, context, start_time=int(at * 1e9), attributes=attributes)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _parent(header: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({"traceparent": header})


def _below(span: Span) -> Any:
    from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

    return set_span_in_context(span)


def _noted(folder: Path) -> Iterator[tuple[str, float]]:
    """Phases of an attempt, and when each began."""
    path = folder / _NOTES
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        phase, at = json.loads(line)
        yield str(phase), float(at)


def _parts(folder: Path, recipe: str, begin: float, end: float) -> Iterator[Part]:
    """What a run did between these moments, as far as it has told."""
    name, since = "load", begin
    for event in _events(folder):
        if event["kind"] == "started":
            follows = recipe if recipe in ("merge", "evaluate") else "train"
        elif event["kind"] == "phase":
            follows = str(event["name"])
        else:
            continue
        yield name, since, float(event["at"])
        name, since = follows, float(event["at"])
    yield name, since, end


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    """Whole lines that a run has told."""
    path = folder / "events.jsonl"
    if path.exists():
        with path.open("rb") as file:
            while (line := file.readline()).endswith(b"\n"):
                yield json.loads(line)


def _let_it_say_so_in_our_log() -> None:
    """What OpenTelemetry has to say becomes lines of our log."""
    about = logging.getLogger("opentelemetry")
    about.propagate = False
    about.handlers = [_Said()]


class _Said(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.event("trace.not_sent", level=record.levelname.lower(), cause=record.getMessage())
