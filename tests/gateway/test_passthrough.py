"""Bytes pass through: what the client sent goes upstream, what the upstream sent comes back."""

from __future__ import annotations

import base64
import json
import random
import threading

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import KEY, Gateway, chat_request, endpoint, new_id, route
from tests.fakes.upstream import Upstream, Wait
from tests.fakes.wire import Usage

PROVIDER_KEY = "provider-secret"


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    extra = {
        "api_key": "env:PROVIDER_KEY",
        "headers": {"x-organization": "acme"},
        "forward_headers": ["x-trace", "openai-beta"],
    }
    config = {
        "endpoint": [endpoint(upstream.url, **extra)],
        "route": [route("renamed", "up/real-name", aliases=["nick"]), route("same", "up/same"), route("x/*")],
    }
    return start(config, env={"PROVIDER_KEY": PROVIDER_KEY})


def post(gateway: Gateway, body: bytes, **headers: str):
    return gateway.call("POST", "/v1/chat/completions", body, **headers)


BODIES = {
    "compact": b'{"model":"renamed","messages":[{"role":"user","content":"hi"}]}',
    "weird spacing": b'\n {\t"messages" :[ {"role":"user"} ] ,\r\n\t"model"\t:\r\n "renamed" , "x" : 1 }\n\n',
    "unknown fields": '{"zz":{"a":[null,true,{}]},"model":"renamed","messages":[{"role":"user"}],"é":"你好"}'.encode(),
    "numbers as written": b'{"model":"renamed","messages":[{"role":"user"}],"n":1.0,"i":12345678901234567890,"e":1E+2}',
    "escapes as written": b'{"messages":[{"content":"\\u4f60\\/\\ud83d\\ude00\\u0000"}],"model":"renamed"}',
    "other keys named model": (
        b'{"metadata":{"model":"renamed"},"messages":[{"role":"user","content":"\\"model\\":\\"renamed\\"",'
        b'"model":"renamed"}],"tools":[{"model":"renamed"}],"model":"renamed"}'
    ),
    "braces in strings": b'{"messages":[{"content":"}{][\\\\\\""}],"model":"renamed","stop":["}"]}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_only_the_model_value_is_replaced(gateway, upstream, body):
    assert post(gateway, body).status == 200
    before, _, after = body.rpartition(b'"renamed"')
    assert upstream.requests[-1].body == before + b'"real-name"' + after


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_model_with_the_same_name_upstream_changes_no_byte(gateway, upstream, body):
    body = body.replace(b'"model":"renamed"', b'"model":"same"').replace(b'"renamed" , "x"', b'"same" , "x"')
    assert post(gateway, body).status == 200
    assert upstream.requests[-1].body == body


@pytest.mark.parametrize("name", ["renamed", "nick", "re\\u006eamed"])
def test_aliases_and_escaped_values_find_their_route(gateway, upstream, name):
    reply = post(gateway, b'{"model":"%b","messages":[{"role":"user"}]}' % name.encode())
    assert reply.status == 200
    assert reply.header("x-tunegate-route") == "renamed"
    assert upstream.requests[-1].body == b'{"model":"real-name","messages":[{"role":"user"}]}'


AMBIGUOUS = {
    "twice the same": b'{"model":"renamed","model":"renamed","messages":[{"role":"user"}]}',
    "two routes": b'{"model":"renamed","model":"same","messages":[{"role":"user"}]}',
    "the other order": b'{"model":"same","messages":[{"role":"user"}],"model":"renamed"}',
    "escaped key": b'{"mod\\u0065l":"renamed","messages":[{"role":"user"}]}',
    "escaped key and plain key": b'{"mod\\u0065l":"same","messages":[{"role":"user"}],"model":"renamed"}',
    "plain key and escaped key": b'{"model":"renamed","messages":[{"role":"user"}],"\\u006dodel":"same"}',
}


@pytest.mark.parametrize("body", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_an_ambiguous_model_is_refused_or_means_the_same_to_everyone(gateway, upstream, body):
    before = len(upstream.requests)
    reply = post(gateway, body)
    if reply.status == 400:
        assert reply.fault in ("caller_bad_request", "caller_bad_json")
        assert len(upstream.requests) == before
        return
    assert reply.status == 200
    pairs: list[tuple[str, object]] = []
    json.loads(upstream.requests[-1].body, object_pairs_hook=pairs.extend)
    expected = {"renamed": "real-name", "same": "same"}[reply.header("x-tunegate-route") or ""]
    assert {v for k, v in pairs if k == "model"} == {expected}


def test_credentials_and_private_headers_stay_here(gateway, upstream):
    body = BODIES["compact"]
    private = {
        "cookie": "a=b",
        "x_api_key": "mine",
        "proxy_authorization": "Basic eA==",
        "x_forwarded_for": "1.2.3.4",
    }
    reply = post(gateway, body, **private, x_trace="t-1", openai_beta="b-1", x_other="no", te="trailers")
    assert reply.status == 200
    seen = upstream.requests[-1]
    assert seen.header("authorization") == f"Bearer {PROVIDER_KEY}"
    assert KEY not in seen.raw.decode("latin-1")
    for name in (*private, "x_other", "te"):
        assert seen.header(name.replace("_", "-")) is None, name
    assert seen.header("x-trace") == "t-1"
    assert seen.header("openai-beta") == "b-1"
    assert seen.header("x-organization") == "acme"
    assert seen.header("host") == f"127.0.0.1:{upstream.port}"
    assert seen.header("content-type") == "application/json"
    assert seen.header("content-length") == str(len(seen.body))
    assert seen.header("transfer-encoding") is None
    assert seen.target == "/v1/chat/completions"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 70_000, 3_000_000])
def test_a_complete_reply_comes_back_byte_for_byte(gateway, scripted, framing, size):
    body = wire.chat_body("é€😀" + "x" * size, Usage(3, 4).openai())
    name = scripted(scripts.reply(body, framing=framing))
    reply = gateway.chat(f"x/{name}")
    assert (reply.status, reply.complete) == (200, True)
    assert reply.body == body
    assert reply.header("content-type") == "application/json"


def test_hop_by_hop_headers_of_the_upstream_stay_there(gateway, scripted):
    hop = {"keep_alive": "timeout=5", "proxy_authenticate": "Basic", "trailer": "x-t", "upgrade": "h2c"}
    name = scripted(scripts.reply(wire.chat_body(), connection="keep-alive, x-private", x_private="1", **hop))
    reply = gateway.chat(f"x/{name}")
    assert reply.status == 200
    for header in (*hop, "x_private"):
        assert reply.header(header.replace("_", "-")) is None, header


def test_a_reply_says_what_happened(gateway, scripted):
    reply = gateway.chat("renamed", rid="my-id-1")
    assert reply.request_id == "my-id-1"
    assert reply.header("x-tunegate-route") == "renamed"
    assert reply.header("x-tunegate-target") == "up/real-name"
    assert reply.header("x-tunegate-attempts") == "1"
    assert 0 < int(reply.header("x-tunegate-overhead-us") or 0) < 1_000_000


def test_the_overhead_does_not_count_the_upstreams_time(gateway, scripted):
    name = scripted(scripts.chat(gap=0.4))
    reply = gateway.chat(f"x/{name}")
    assert int(reply.header("x-tunegate-overhead-us") or 0) < 200_000


@pytest.mark.parametrize("sent", ["a b", "x" * 5000, "é", "a\tb"])
def test_an_unusable_request_id_is_replaced(gateway, sent):
    reply = gateway.chat("same", rid=sent)
    assert reply.status == 200
    assert reply.request_id not in ("", sent)


@pytest.mark.parametrize("flavour", wire.STREAMS)
def test_a_stream_of_a_client_that_asks_for_usage_comes_back_byte_for_byte(gateway, scripted, flavour):
    name = scripted(scripts.chat(["Hel", "lo", "😀"], flavour=flavour))
    reply = gateway.chat(f"x/{name}", stream=True, stream_options={"include_usage": True})
    expected = b"".join(wire.STREAMS[flavour](["Hel", "lo", "😀"], Usage(), name, asked=True))
    model = json.loads(reply.events[0])["model"]
    assert reply.body.replace(model.encode(), name.encode()) == expected
    assert reply.complete
    assert (reply.header("content-type") or "").startswith("text/event-stream")
    assert reply.header("content-length") is None


SHAPES = {
    "CRLF": b"".join(wire.openai_stream(["a", "b"], Usage(), asked=True)).replace(b"\n", b"\r\n"),
    "no space after the colon": b"".join(wire.openai_stream(["a"], Usage(), asked=True)).replace(b"data: ", b"data:"),
    "comments and other fields": (
        b": hello\n\nid: 1\nevent: message\nretry: 10\n"
        + wire.word_event("a")
        + b": ping\n\n: pong\n\n"
        + wire.usage_event(Usage())
        + wire.DONE
    ),
    "one event in two data lines": (
        b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,\n'
        b'data: "delta":{"content":"two lines"},"finish_reason":null}]}\n\n' + wire.usage_event(Usage()) + wire.DONE
    ),
    "unknown event types": b'event: odd\ndata: {"type":"odd"}\n\n'
    + wire.word_event("a")
    + wire.usage_event(Usage())
    + wire.DONE,
}


@pytest.mark.parametrize("pieces", ["one write", "single bytes"])
@pytest.mark.parametrize("data", SHAPES.values(), ids=SHAPES.keys())
def test_odd_but_legal_streams_come_back_byte_for_byte(gateway, scripted, data, pieces):
    script = scripts.stream([data]) if pieces == "one write" else scripts.byte_by_byte(data)
    rid = new_id()
    reply = gateway.chat(f"x/{scripted(script)}", rid=rid, stream=True, stream_options={"include_usage": True})
    assert (reply.status, reply.complete) == (200, True)
    assert reply.body == data
    row = gateway.row(rid)
    assert (row["end"], row["usage_source"]) == ("success", "provider")
    assert row["tokens"] == Usage().buckets()


def test_a_stream_is_not_held_back(gateway, scripted):
    go = threading.Event()
    first, second = wire.word_event("first"), wire.word_event("second")
    name = scripted(scripts.stream([wire.role_event(), first, Wait(go), second, wire.finish_event(), wire.DONE]))
    with gateway.open(f"x/{name}", new_id(), stream=True) as conn:
        part = conn.response(stop=len(wire.role_event() + first))
        assert b"first" in part.body
        assert b"second" not in part.body
        go.set()
        assert b"second" in conn.rest()


def test_headers_wait_for_the_first_content(gateway, scripted):
    go = threading.Event()
    quiet = [wire.KEEP_ALIVE, wire.role_event(), wire.event(wire.chunk("m", wire.delta({"content": None})))]
    name = scripted(scripts.stream([*quiet, Wait(go), wire.word_event("now"), wire.finish_event(), wire.DONE]))
    with gateway.open(f"x/{name}", new_id(), stream=True) as conn:
        conn.sock.settimeout(0.4)
        with pytest.raises(TimeoutError):
            conn.sock.recv(1)
        go.set()
        conn.sock.settimeout(5)
        reply = conn.response()
    assert reply.complete
    assert reply.body == b"".join([*quiet, wire.word_event("now"), wire.finish_event(), wire.DONE])


TOOL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
CONTENT = {
    "text": {"content": "a"},
    "a space": {"content": " "},
    "reasoning": {"content": None, "reasoning_content": "hm"},
    "reasoning, newer name": {"reasoning": "hm"},
    "a tool call": {"role": "assistant", "content": None, "tool_calls": [TOOL]},
    "a function call": {"function_call": {"name": "f", "arguments": ""}},
    "a refusal": {"refusal": "I cannot"},
    "audio": {"audio": {"id": "a1", "data": "AAAA"}},
}


@pytest.mark.parametrize("fields", CONTENT.values(), ids=CONTENT.keys())
def test_every_kind_of_content_goes_out_at_once(gateway, scripted, fields):
    go = threading.Event()
    first = wire.event(wire.chunk("m", wire.delta(fields)))
    name = scripted(scripts.stream([wire.role_event(), first, Wait(go), wire.finish_event(), wire.DONE]))
    with gateway.open(f"x/{name}", new_id(), stream=True, timeout=3) as conn:
        part = conn.response(stop=len(wire.role_event() + first))
        assert part.body == wire.role_event() + first
        go.set()
        assert b"[DONE]" in conn.rest()


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_an_answer_without_a_word_is_an_answer_if_it_was_finished(gateway, scripted, reason):
    events = [wire.role_event(), wire.finish_event(reason=reason), wire.usage_event(Usage(9, 0)), wire.DONE]
    rid = new_id()
    name = scripted(scripts.stream(events))
    reply = gateway.chat(f"x/{name}", rid=rid, stream=True, stream_options={"include_usage": True})
    assert (reply.status, reply.body) == (200, b"".join(events))
    assert gateway.row(rid)["tokens"] == Usage(9, 0).buckets()


def test_choices_may_come_interleaved(gateway, scripted):
    def piece(index: int, text: str) -> bytes:
        return wire.event(wire.chunk("m", [{"index": index, "delta": {"content": text}, "finish_reason": None}]))

    events = [piece(1, "b"), piece(0, "a"), piece(1, "d"), piece(0, "c"), wire.finish_event(), wire.DONE]
    reply = gateway.chat(f"x/{scripted(scripts.stream(events))}", n=2, stream=True)
    assert reply.body == b"".join(events)


@pytest.mark.parametrize("stream", [False, True])
def test_ten_megabytes_with_a_base64_image_pass_both_ways(gateway, upstream, scripted, stream):
    image = base64.b64encode(random.Random(1).randbytes(7_700_000)).decode()
    parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]
    messages = [{"role": "user", "content": parts}]
    if stream:
        words = [image[i : i + 400_000] for i in range(0, len(image), 400_000)]
        data = b"".join(wire.openai_stream(words, Usage(), asked=True))
        script = scripts.stream([data[i : i + 300_000] for i in range(0, len(data), 300_000)])
    else:
        data = wire.chat_body(image, Usage().openai())
        script = scripts.reply(data)
    name = scripted(script)
    reply = gateway.chat(f"x/{name}", messages=messages, stream=stream, stream_options={"include_usage": True})
    assert reply.status == 200
    assert reply.body == data
    assert upstream.requests[-1].json["messages"] == messages


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
def test_the_other_endpoints_pass_through_too(gateway, upstream, path):
    body = b'{ "model" : "renamed", "prompt": "a",  "input":["a","b"], "odd": 1.50 }'
    rid = new_id()
    reply = gateway.call("POST", path, body, x_request_id=rid)
    assert reply.status == 200
    seen = upstream.requests[-1]
    assert seen.target == path
    assert seen.body == body.replace(b"renamed", b"real-name")
    expected = scripts.stream_text(scripts.auto()(seen)).partition(b"\r\n\r\n")[2]
    assert reply.body == expected
    row = gateway.row(rid)
    assert row["operation"] == path.rpartition("/")[2]
    assert row["tokens"]["input"] == 20


def test_a_completions_stream_passes_through_and_hides_the_usage_it_asked_for(gateway, upstream):
    rid = new_id()
    reply = gateway.call(
        "POST",
        "/v1/completions",
        b'{"model":"renamed","prompt":"a","stream":true}',
        x_request_id=rid,
    )
    model = upstream.requests[-1].model
    events = wire.completion_stream(["w0 ", "w1 "], Usage(), model, asked=True)
    assert upstream.requests[-1].asks_usage
    assert reply.body == b"".join(e for e in events if b'"choices":[]' not in e)
    row = gateway.row(rid)
    assert (row["usage_source"], row["stream"]) == ("provider", True)


def test_a_kept_alive_client_connection_serves_many_requests(gateway, scripted):
    name = scripted(scripts.chat())
    with gateway.open(f"x/{name}", new_id()) as conn:
        assert conn.response().status == 200
        for stream in (True, False, True):
            body = json.dumps(chat_request(f"x/{name}", stream=stream)).encode()
            conn.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}"})
            reply = conn.response()
            assert (reply.status, reply.complete) == (200, True)


def test_upstream_connections_are_reused(gateway, scripted, upstream: Upstream):
    name = scripted(scripts.chat())
    for _ in range(5):
        assert gateway.chat(f"x/{name}").status == 200
    assert len({s.connection for s in upstream.of(name)}) == 1


def test_header_and_first_body_bytes_come_in_one_write(gateway, scripted):
    name = scripted(scripts.chat(["one"]))
    with gateway.open(f"x/{name}", new_id(), stream=True) as conn:
        first = conn.sock.recv(65_536)
        assert b"\r\n\r\n" in first
        assert b"data:" in first
