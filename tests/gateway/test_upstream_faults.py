"""Upstreams that misbehave: what the client sees is always a proper reply, or a proper error event."""

from __future__ import annotations

import gzip
import json
import threading
import time

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway, endpoint, eventually, new_id, route
from tests.fakes.upstream import Close, Reset, Send, Sleep, Wait
from tests.fakes.wire import Usage

NEVER = threading.Event()
W, F, D = wire.word_event("hello"), wire.finish_event(), wire.DONE
BODY = wire.chat_body("fine", Usage().openai())


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    times = {"connect": 1.0, "first_byte": 0.6, "idle": 0.6, "total": 3.0}
    config = {
        "endpoint": [
            endpoint(upstream.url, timeouts=times),
            endpoint(upstream.url, "small", timeouts=times, max_response_bytes=200_000),
            endpoint("http://127.0.0.1:9/v1", "nobody", timeouts=times),
            endpoint("http://no-such-host.invalid/v1", "nameless", timeouts=times),
            endpoint(upstream.url, "narrow", max_connections=1, max_queue=1, queue_timeout=0.4),
        ],
        "route": [
            route("x/*"),
            route("twice/*", "up", retry={"max_attempts": 2, "backoff": 0.01}),
            route("small/*", "small"),
            route("nobody", "nobody"),
            route("nameless", "nameless"),
            route("narrow/*", "narrow"),
        ],
    }
    return start(config)


def assert_clean_error(reply, status, fault):
    assert (reply.status, reply.fault, reply.complete) == (status, fault, True), reply
    assert reply.error["type"]
    assert (reply.header("content-type") or "").startswith("application/json")
    assert reply.request_id


GARBAGE = b"%PDF-1.7 \x00\xff\xfe" * 20
HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1><hr>nginx</body></html>"
CUT = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
SMUGGLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"

BAD = ("provider_bad_reply",)
LOST = ("provider_unreachable", "provider_bad_reply")

BAD_REPLIES = {
    "reset at once": ([Reset()], 502, LOST),
    "closed at once": ([Close()], 502, LOST),
    "half a header": ([Send(b"HTTP/1.1 200 OK\r\ncontent-ty"), Close()], 502, LOST),
    "not HTTP": ([Send(b"220 smtp ready\r\n"), Close()], 502, BAD),
    "a silent upstream": ([Wait(NEVER, 3)], 504, ("provider_timeout",)),
    "headers and then silence": ([Send(CUT), Wait(NEVER, 3)], 504, ("provider_timeout",)),
    "a body that is cut by FIN": ([Send(CUT + BODY), Close()], 502, LOST),
    "a body that is cut by RST": ([Send(CUT + BODY), Sleep(0.05), Reset()], 502, LOST),
    "a cut chunked body": ([Send(CHUNKED + scripts.frame(BODY)), Close()], 502, LOST),
    "a chunk size that is no number": ([Send(CHUNKED + b"xyz\r\n{}\r\n0\r\n\r\n"), Close()], 502, BAD),
    "a negative chunk size": ([Send(CHUNKED + b"-1\r\n{}\r\n0\r\n\r\n"), Close()], 502, BAD),
    "a chunk longer than its size": ([Send(CHUNKED + b"2\r\n{}{}{}\r\n0\r\n\r\n"), Close()], 502, BAD),
    "a giant chunk size": ([Send(CHUNKED + b"f" * 40 + b"\r\n"), Close()], 502, BAD),
    "both framings": (
        [
            Send(SMUGGLE + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n" + scripts.frame(BODY)),
            Close(),
        ],
        502,
        BAD,
    ),
    "two lengths": (
        [Send(SMUGGLE + b"content-length: 2\r\ncontent-length: 4\r\n\r\n{}{}"), Close()],
        502,
        BAD,
    ),
    "a length that is no number": ([Send(SMUGGLE + b"content-length: two\r\n\r\n{}"), Close()], 502, BAD),
    "a header without end": ([Send(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300_000), Close()], 502, BAD),
    "a wrong content type": (scripts.reply(GARBAGE, kind="application/pdf"), 502, BAD),
    "an HTML page with 200": (scripts.reply(HTML, kind="text/html"), 502, BAD),
    "JSON that is not JSON": (scripts.reply(b'{"id": "chatcmpl-1", "choices": ['), 502, BAD),
    "an empty body": (scripts.reply(b""), 502, BAD),
    "an HTML page with 502": (scripts.reply(HTML, 502, "text/html"), 502, ("provider_5xx",)),
    "an HTML page with 503": (scripts.reply(HTML, 503, "text/html"), 503, ("provider_5xx",)),
    "an empty 500": (scripts.reply(b"", 500), 500, ("provider_5xx",)),
    "a status that there is not": ([Send(b"HTTP/1.1 999 Odd\r\ncontent-length: 2\r\n\r\n{}")], 502, ("provider_5xx",)),
    "a redirect": (scripts.reply(b"", 302, location="http://127.0.0.1:1/"), 502, BAD),
    "an error inside a 200": (scripts.reply(wire.error_body("quota of the provider")), 502, BAD),
    "credentials refused, 401": (scripts.error(401, "Incorrect API key provided"), 502, ("provider_auth",)),
    "credentials refused, 403": (scripts.error(403, "Country not supported"), 502, ("provider_auth",)),
    "switching protocols": (
        [Send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n"), Close()],
        502,
        BAD,
    ),
}


@pytest.mark.parametrize(("script", "status", "faults"), BAD_REPLIES.values(), ids=BAD_REPLIES.keys())
def test_a_bad_reply_becomes_a_clean_error(gateway, scripted, script, status, faults):
    reply = gateway.chat(f"x/{scripted(script)}")
    assert reply.fault in faults
    assert_clean_error(reply, status, reply.fault)
    assert "nginx" not in reply.error["message"]
    assert gateway.chat(f"x/{scripted(scripts.chat())}").status == 200


STREAM_STARTS = {
    "reset at once": ([Reset()], 502),
    "reset after the headers": ([scripts.start_stream(), Sleep(0.05), Reset()], 502),
    "reset after the role": (scripts.stream([wire.role_event(), Sleep(0.05), Reset()], end=False), 502),
    "an empty stream": (scripts.stream([]), 502),
    "only [DONE]": (scripts.stream([D]), 502),
    "only comments": (scripts.stream([wire.KEEP_ALIVE] * 3), 502),
    "role and [DONE], no finish": (scripts.stream([wire.role_event(), D]), 502),
    "silence after the role": (scripts.stream([wire.role_event(), Wait(NEVER, 3)]), 504),
    "comments for ever": (scripts.stream([wire.KEEP_ALIVE] * 60, gap=0.05), 504),
    "an error as the first event": (
        scripts.stream([wire.event({"error": {"message": "overloaded", "code": 529}})]),
        502,
    ),
    "an error after the role": (
        scripts.stream([wire.role_event(), wire.event({"error": {"message": "x"}})]),
        502,
    ),
    "an error event by name": (scripts.stream([b'event: error\ndata: {"message":"x"}\n\n']), 502),
    "a JSON error instead of a stream": (scripts.reply(wire.error_body("busy")), 502),
    "an HTML page": (scripts.reply(HTML, kind="text/html"), 502),
    "half a line": (scripts.stream([b'data: {"id":"1","choi']), 502),
    "not JSON": (scripts.stream([b"data: <html>\n\n"]), 502),
}


@pytest.mark.parametrize(("script", "status"), STREAM_STARTS.values(), ids=STREAM_STARTS.keys())
def test_a_stream_that_fails_before_content_keeps_its_status(gateway, scripted, script, status):
    reply = gateway.chat(f"x/{scripted(script)}", stream=True)
    fault = "provider_timeout" if status == 504 else reply.fault
    assert (fault or "").startswith("provider_")
    assert_clean_error(reply, status, fault)


@pytest.mark.parametrize(("script", "status"), STREAM_STARTS.values(), ids=STREAM_STARTS.keys())
def test_a_stream_that_fails_before_content_is_tried_again(gateway, upstream, scripted, script, status):
    name = scripted(script, scripts.chat(["second ", "try"]))
    reply = gateway.chat(f"twice/{name}", stream=True)
    assert reply.status == 200
    assert reply.words == "second try"
    assert reply.body.startswith(wire.role_event(upstream.of(name)[-1].model, usage=None)), "nothing of the first"
    assert reply.header("x-tunegate-attempts") == "2"


def test_a_cut_complete_reply_is_tried_again(gateway, scripted):
    name = scripted([Send(CUT + BODY), Close()], scripts.reply(BODY))
    reply = gateway.chat(f"twice/{name}")
    assert (reply.status, reply.body) == (200, BODY)


BROKEN = {
    "reset": [Sleep(0.05), Reset()],
    "FIN without the last chunk": [Close()],
    "stall": [Wait(NEVER, 2)],
    "half an SSE line": [b'data: {"id":"1","choices":[{"index":0,"delta":{"con', Close()],
    "half an SSE line, framing complete": [
        b'data: {"id":"1","choices":[{"index":0,"delta":{"con',
        Send(b"0\r\n\r\n"),
        Close(),
    ],
    "half an SSE line and a reset": [b"data: {", Sleep(0.05), Reset()],
    "a broken chunk size": [Send(b"zz\r\n"), Close()],
    "an error event": [wire.event({"error": {"message": "overloaded", "type": "server_error"}}), Close()],
    "an error event and a proper end": [wire.event({"error": {"message": "overloaded"}}), Send(b"0\r\n\r\n")],
    "a drip that passes the total time": [
        wire.word_event("."),
        *[Sleep(0.3), Send(scripts.frame(b": x\n\n"))] * 20,
    ],
}


@pytest.mark.parametrize("rest", BROKEN.values(), ids=BROKEN.keys())
def test_a_stream_that_fails_after_content_ends_with_one_error_event(gateway, upstream, scripted, rest):
    name, rid = scripted(scripts.stream([wire.role_event(), W, *rest], end=False)), new_id()
    reply = gateway.chat(f"twice/{name}", rid=rid, stream=True)
    assert (reply.status, reply.complete) == (200, True)
    *before, last = reply.events
    assert "[DONE]" not in reply.events
    error = json.loads(last)["error"]
    assert error["message"]
    assert all("error" not in json.loads(e) for e in before)
    assert "hello" in "".join(before)
    assert len(upstream.of(name)) == 1, "nothing is tried again after content"
    row = gateway.row(rid)
    assert row["end"] == "upstream_error_partial"
    assert eventually(lambda: upstream.answering == 0, 1.0)


def test_a_stall_is_noticed_in_time_and_only_by_silence(gateway, scripted):
    name = scripted(scripts.stream([W, *[wire.word_event("x")] * 6, Wait(NEVER, 3)], gap=0.2, end=False))
    reply = gateway.chat(f"x/{name}", stream=True)
    silence = reply.ended - reply.arrivals[-2][0]
    assert 0.4 < silence < 1.5
    assert reply.words == "hello" + "x" * 6


def test_a_timeout_closes_the_upstream(gateway, upstream, scripted):
    name = scripted([Wait(NEVER, 3)])
    assert gateway.chat(f"x/{name}").status == 504
    eventually(lambda: upstream.of(name)[0].gone, 1.0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_gzip_reply_is_understood(gateway, upstream, scripted, stream):
    plain = b"".join(wire.openai_stream(["zip"], Usage(), asked=True)) if stream else BODY
    kind = "text/event-stream" if stream else "application/json"
    name, rid = scripted(scripts.reply(gzip.compress(plain), kind=kind, content_encoding="gzip")), new_id()
    reply = gateway.chat(f"x/{name}", rid=rid, stream=stream, stream_options={"include_usage": True})
    assert reply.status == 200
    body = gzip.decompress(reply.body) if reply.header("content-encoding") == "gzip" else reply.body
    assert body == plain
    assert reply.header("content-encoding") is None, "this client did not accept gzip"
    assert gateway.row(rid)["usage_source"] == "provider"
    assert "gzip" not in (upstream.of(name)[0].header("accept-encoding") or "")


def test_broken_gzip_is_a_bad_reply(gateway, scripted):
    name = scripted(scripts.reply(gzip.compress(BODY)[:-20], content_encoding="gzip"))
    assert_clean_error(gateway.chat(f"x/{name}"), 502, "provider_bad_reply")


def test_a_gzip_bomb_stops_at_the_limit(gateway, scripted):
    name = scripted(scripts.reply(gzip.compress(b'"' + b"a" * 50_000_000 + b'"'), content_encoding="gzip"))
    assert_clean_error(gateway.chat(f"small/{name}"), 502, "provider_bad_reply")


def test_a_reply_over_the_limit_is_a_bad_reply(gateway, upstream, scripted):
    name = scripted(scripts.reply(wire.chat_body("x" * 400_000)))
    assert_clean_error(gateway.chat(f"small/{name}"), 502, "provider_bad_reply")


def test_a_stream_over_the_limit_ends_with_an_error_event(gateway, scripted):
    name = scripted(scripts.stream([wire.word_event("x" * 1000)] * 400))
    reply = gateway.chat(f"small/{name}", stream=True)
    assert reply.complete
    assert "error" in json.loads(reply.events[-1])
    assert len(reply.body) < 400_000


@pytest.mark.parametrize("tail", [b"garbage", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison", b"\r\n\r\n\r\n"])
@pytest.mark.parametrize("stream", [False, True])
def test_bytes_after_a_reply_poison_nothing(gateway, upstream, scripted, tail, stream):
    steps = [*scripts.stream([W, F, D], end=False), Send(b"0\r\n\r\n" + tail)]
    name = scripted(steps if stream else scripts.reply(BODY, tail=tail), scripts.reply(BODY))
    reply = gateway.chat(f"x/{name}", stream=stream)
    assert (reply.status, reply.complete) == (200, True)
    after = gateway.chat(f"x/{name}")
    assert (after.status, after.body) == (200, BODY)
    if tail.strip():
        first, second = upstream.of(name)
        assert first.connection != second.connection


def test_a_late_tail_poisons_nothing(gateway, upstream, scripted):
    late = [*scripts.reply(BODY), Sleep(0.1), Send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")]
    name = scripted(late, scripts.reply(BODY))
    assert gateway.chat(f"x/{name}").body == BODY
    eventually(lambda: upstream.of(name)[0].finished)
    time.sleep(0.05)
    assert gateway.chat(f"x/{name}").body == BODY


def test_a_kept_alive_connection_that_closed_under_us_is_not_the_callers_problem(gateway, upstream, scripted):
    name = scripted(scripts.chat(), [Reset()], scripts.chat(["again"]))
    assert gateway.chat(f"x/{name}").status == 200
    reply = gateway.chat(f"x/{name}")
    seen = upstream.of(name)
    assert seen[0].connection == seen[1].connection, "it was used again, and so this shows something"
    assert (reply.status, len(seen)) == (200, 3)
    assert "again" in reply.body.decode()
    assert seen[2].nth == 0, "the second try is on a new connection"


def test_a_stale_connection_is_excused_once_only(gateway, upstream, scripted):
    name = scripted(scripts.chat(), [Reset()], [Reset()], scripts.chat())
    assert gateway.chat(f"x/{name}").status == 200
    reply = gateway.chat(f"x/{name}")
    assert_clean_error(reply, 502, reply.fault)
    assert len(upstream.of(name)) == 3


def test_idle_connections_closed_by_the_upstream_go_unnoticed(gateway, upstream, scripted):
    name = scripted(scripts.chat())
    for _ in range(5):
        assert gateway.chat(f"x/{name}").status == 200
        upstream.drop_idle()
        eventually(lambda: upstream.open_connections == 0)
    assert len(upstream.of(name)) == 5


def test_connection_close_is_respected(gateway, upstream, scripted):
    name = scripted(scripts.reply(BODY, connection="close"))
    for _ in range(2):
        assert gateway.chat(f"x/{name}").status == 200
    assert [s.nth for s in upstream.of(name)] == [0, 0]


def test_an_interim_reply_is_skipped(gateway, scripted):
    steps = [
        Send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"),
        *scripts.reply(BODY),
    ]
    reply = gateway.chat(f"x/{scripted(steps)}")
    assert (reply.status, reply.body) == (200, BODY)


@pytest.mark.parametrize("name", ["nobody", "nameless"])
def test_an_upstream_that_cannot_be_reached(gateway, name):
    reply = gateway.chat(name)
    assert_clean_error(reply, 502, "provider_unreachable")
    for address in ("127.0.0.1", "no-such-host", "Connect call"):
        assert address not in reply.error["message"], "where it is, is not the client's business"


@pytest.mark.parametrize("status", [400, 402, 404, 405, 409, 413, 415, 422])
def test_other_refusals_pass_through_unchanged(gateway, scripted, status):
    body = b'{"error" : {"message":"odd \xc3\xa9", "type":"x_error","param":"tools","code":null}, "x":1 }'
    reply = gateway.chat(f"x/{scripted(scripts.reply(body, status))}")
    assert (reply.status, reply.body, reply.fault) == (status, body, "provider_rejected")


def test_connections_and_queue_of_an_endpoint_are_bounded(gateway, upstream, scripted):
    go = threading.Event()
    name = scripted([Wait(go), *scripts.reply(BODY)])
    first = gateway.open(f"narrow/{name}", new_id())
    eventually(lambda: upstream.of(name))
    second = gateway.open(f"narrow/{name}", new_id())
    time.sleep(0.1)
    third = gateway.chat(f"narrow/{name}")
    assert_clean_error(third, 503, third.fault)
    late = second.response()
    assert late.status == 503, "waited longer than queue_timeout"
    assert len(upstream.of(name)) == 1
    go.set()
    assert first.response().status == 200
    for conn in (first, second):
        conn.close()
    assert gateway.chat(f"narrow/{name}").status == 200
