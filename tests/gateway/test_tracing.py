"""Spans arrive at an OTLP collector with the current gen_ai names, and nothing is sent or imported when it is off."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.fakes.gateway import eventually, route

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")


@pytest.fixture
def collector():
    """A collector's URL, and the spans that it got."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            request = trace_service.ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    server.shutdown()
    thread.join()
    server.server_close()


def attributes(span) -> dict:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_sampled_request_becomes_a_server_span_and_a_client_span_per_attempt(collector, start, tmp_path):
    url, spans = collector
    config = {
        "telemetry": {"otlp_endpoint": url, "trace_sample": 1.0},
        "endpoint": [
            {"name": "bad", "provider": "dummy", "options": {"fail": 500}},
            {"name": "d", "provider": "dummy"},
        ],
        "route": [route("m", "bad/one", "d/two", retry={"max_attempts": 2})],
    }
    config["route"][0]["target"][1]["priority"] = 1
    gateway = start(config, folder=tmp_path)
    assert gateway.chat("m", stream=True, temperature=0.5).status == 200
    gateway.stop()
    eventually(lambda: len(spans) == 3, 5, "three spans were expected")
    server = next(s for s in spans if not s.parent_span_id)
    first, second = sorted((s for s in spans if s.parent_span_id), key=lambda s: s.start_time_unix_nano)
    assert server.name == "chat m"
    assert {s.trace_id for s in spans} == {server.trace_id}
    assert attributes(first)["error.type"] == "provider_5xx"
    told = attributes(second)
    assert (told["gen_ai.operation.name"], told["gen_ai.provider.name"]) == ("chat", "dummy")
    assert (told["gen_ai.request.model"], told["gen_ai.request.temperature"]) == ("two", 0.5)
    assert told["gen_ai.usage.output_tokens"] == 17
    assert told["gen_ai.request.stream"] is True
    assert told["gen_ai.response.time_to_first_chunk"] >= 0
    assert not any("message" in key or "prompt" in key for key in told), "content is never captured"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/embeddings"])
def test_every_operation_has_its_spans(collector, start, tmp_path, path):
    url, spans = collector
    config = {
        "telemetry": {"otlp_endpoint": url, "trace_sample": 1.0},
        "endpoint": [{"name": "d", "provider": "dummy"}],
        "route": [route("m", "d/one")],
    }
    gateway = start(config, folder=tmp_path)
    body = {"model": "m", "max_tokens": 5, "input": "Hi", "messages": [{"role": "user", "content": "Hi"}]}
    reply = gateway.call("POST", path, json.dumps(body).encode())
    assert reply.status in (200, 400), "a dummy answers it, or says that it does not"
    gateway.stop()
    eventually(lambda: spans, 5)
    assert any(span.name == f"{path.rpartition('/')[2]} m" for span in spans)


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded():
    code = "import gateway.commands, sys; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


def test_a_dead_collector_harms_no_request(start, tmp_path):
    config = {
        "telemetry": {"otlp_endpoint": "http://127.0.0.1:9/v1/traces", "trace_sample": 1.0},
        "endpoint": [{"name": "d", "provider": "dummy"}],
        "route": [route("m", "d/x")],
    }
    gateway = start(config, folder=tmp_path)
    assert all(gateway.chat("m").status == 200 for _ in range(20))
