"""An OTLP collector for tests: keeps the spans that it is sent."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Told(NamedTuple):
    """A span, and who sent it."""

    service: str
    span: Any
    """`opentelemetry.proto.trace.v1.trace_pb2.Span`."""

    @property
    def trace(self) -> str:
        """Its trace, in hex."""
        return str(self.span.trace_id.hex())

    @property
    def header(self) -> str:
        """`traceparent` as whoever it is told to sees it."""
        return f"00-{self.trace}-{self.span.span_id.hex()}-01"


class Collector:
    """The server, from `with` to its end."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = [
                        one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
                    ]
                    for scope in resource.scope_spans:
                        told.extend(Told(names[0], span) for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
