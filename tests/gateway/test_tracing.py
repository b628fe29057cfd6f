"""Spans arrive at an OTLP collector with the current gen_ai names, and nothing is sent or imported when it is off."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.fakes.collector import Collector
from tests.fakes.gateway import endpoint, eventually, new_id, route


@pytest.fixture
def collector():
    """A collector's URL, and the spans that it got."""
    with Collector() as running:
        yield running.url, Spans(running)


class Spans:
    """What a collector got."""

    def __init__(self, of: Collector) -> None:
        self._of = of

    def __iter__(self):
        return iter([told.span for told in self._of.told])

    def __len__(self) -> int:
        return len(self._of.told)


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


def test_a_hit_of_the_response_cache_is_a_span_without_an_attempt(collector, start, tmp_path):
    url, spans = collector
    config = {
        "telemetry": {"otlp_endpoint": url, "trace_sample": 1.0},
        "endpoint": [{"name": "d", "provider": "dummy"}],
        "route": [route("m", "d/one", cache={})],
    }
    gateway = start(config, folder=tmp_path)
    had = [gateway.chat("m").header("x-tunegate-cache") for _ in range(2)]
    gateway.stop()
    eventually(lambda: len(spans) == 3, 5, "three spans were expected")
    told = [attributes(span).get("tunegate.cache") for span in spans]
    assert (had, sorted(filter(None, told))) == (["miss", "hit"], ["hit", "miss"])


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
    began = time.monotonic()
    gateway.stop()
    assert time.monotonic() - began < 8, "the last spans are given up soon"


CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-%s"


@pytest.fixture
def traced(collector, start, upstream, tmp_path):
    """A gateway that traces what it is told to, with a target that fails before one that answers."""
    url, spans = collector
    config = {
        "telemetry": {"otlp_endpoint": url, "trace_sample": 0.0},
        "endpoint": [
            endpoint(upstream.url, forward_headers=["traceparent", "tracestate"]),
            {"name": "bad", "provider": "dummy", "options": {"fail": 500}},
        ],
        "route": [route("m", "bad/one", "up/two", retry={"max_attempts": 2})],
    }
    config["route"][0]["target"][1]["priority"] = 1
    return start(config, folder=tmp_path), spans


def ask(traced, upstream, traceparent):
    """One request with this header; `traceparent` lines that its upstream got."""
    gateway, _ = traced
    rid = new_id()
    headers = {"traceparent": traceparent, "tracestate": "vendor=1"} if traceparent else {}
    assert gateway.chat("m", rid=rid, headers=headers).status == 200
    (seen,) = [one for one in upstream.requests if one.header("x-request-id") == rid]
    return [value for name, value in seen.headers if name.lower() == "traceparent"]


def test_a_trace_goes_on_from_the_client_to_the_upstream_through_the_attempt_that_answered(traced, upstream):
    gateway, spans = traced
    (sent,) = ask(traced, upstream, CLIENT % "01")
    gateway.stop()
    eventually(lambda: len(spans) == 3, 5)
    server = next(s for s in spans if s.name == "chat m")
    attempts = {s.name: s for s in spans if s is not server and s.parent_span_id == server.span_id}
    assert {s.trace_id.hex() for s in spans} == {"0af7651916cd43dd8448eb211c80319c"}
    assert server.parent_span_id.hex() == "b7ad6b7169203331"
    assert attempts.keys() == {"chat one", "chat two"}
    assert sent == f"00-0af7651916cd43dd8448eb211c80319c-{attempts['chat two'].span_id.hex()}-01"


def test_what_the_client_does_not_record_is_not_recorded_and_its_header_goes_as_configured(traced, upstream):
    assert ask(traced, upstream, CLIENT % "00") == [CLIENT % "00"]
    gateway, spans = traced
    gateway.stop()
    assert len(spans) == 0


WRONG = [
    "",
    "00-0-0-01",
    CLIENT % "01-more",
    (CLIENT % "01").replace("00-0a", "ff-0a"),
    "00-" + "0" * 32 + "-b7ad6b7169203331-01",
]


@pytest.mark.parametrize("header", WRONG)
def test_a_header_that_is_none_begins_nothing_where_no_share_is_traced(traced, upstream, header):
    ask(traced, upstream, header)
    gateway, spans = traced
    gateway.stop()
    assert len(spans) == 0


def test_a_client_may_not_put_a_header_of_its_own_beside_ours(traced, upstream):
    """Two headers of one name: which of them an engine believes would be anybody's guess."""
    assert len(ask(traced, upstream, CLIENT % "01")) == 1
    traced[0].stop()
