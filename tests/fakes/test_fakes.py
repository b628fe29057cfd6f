"""The fakes themselves: what they do must be beyond doubt, or no other test means anything."""

from __future__ import annotations

import json
import threading
import tomllib

import pytest
import trustme

from tests.fakes import scripts, wire
from tests.fakes.gateway import eventually, toml
from tests.fakes.http import Connection, once, sse_data
from tests.fakes.tls import server_context, trusting
from tests.fakes.upstream import Close, Reset, Send, Upstream, Wait
from tests.fakes.wire import Usage


def ask(model: str, **more: object) -> bytes:
    return json.dumps({"model": model, "messages": [], **more}).encode()


def post(up: Upstream, body: bytes):
    return once(up.url, "POST", "/v1/chat/completions", body)


@pytest.fixture
def up():
    with Upstream() as server:
        yield server


def test_the_default_answers_streams_and_complete_replies(up):
    whole = post(up, ask("a"))
    assert whole.json["usage"]["prompt_tokens"] == 20
    flow = post(up, ask("b", stream=True, stream_options={"include_usage": True}, user="u1"))
    assert flow.events[-1] == "[DONE]"
    assert json.loads(flow.events[-2])["usage"]["completion_tokens"] == 10
    assert flow.words == "w0 w1 "
    eventually(lambda: up.served.get("u1") == Usage(20, 10))
    assert [s.model for s in up.requests] == ["a", "b"]
    assert up.requests[0].raw.endswith(ask("a"))


@pytest.mark.parametrize("flavour", wire.STREAMS)
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_every_flavour_streams_words_and_usage(up, flavour, framing):
    up.on("m", scripts.chat(["a", "b"], Usage(9, 4, 2, 1), flavour=flavour, framing=framing))
    reply = post(up, ask("m", stream=True, stream_options={"include_usage": True}))
    assert reply.complete
    assert reply.words == "ab"
    usage = [json.loads(e)["usage"] for e in reply.events[:-1] if json.loads(e).get("usage")]
    assert [u["total_tokens"] for u in usage] == [13]


def test_a_queue_comes_first_and_a_reset_is_a_reset(up):
    up.queue("m", [Reset()], [Send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), Close()])
    with Connection(up.url) as conn:
        conn.request("POST", "/v1/chat/completions", ask("m"))
        with pytest.raises(ConnectionResetError):
            conn.sock.recv(1)
    half = post(up, ask("m"))
    assert half.body == b"half"
    assert not half.complete
    assert post(up, ask("m")).complete


def test_it_notices_who_goes_away(up):
    up.on("m", [scripts.start_stream(), Send(scripts.frame(wire.role_event())), Wait(threading.Event())])
    with Connection(up.url) as conn:
        conn.request("POST", "/v1/chat/completions", ask("m"))
        conn.response(stop=10)
        assert up.answering == 1
    eventually(lambda: up.requests[0].gone)
    assert not up.requests[0].finished
    eventually(lambda: up.open_connections == 0)


def test_tls(up):
    ca = trustme.CA()
    with Upstream(server_context(ca)) as safe, Connection(safe.url, tls=trusting(ca)) as conn:
        conn.request("POST", "/v1/chat/completions", ask("m"))
        assert conn.response().status == 200


def test_events_by_the_standard():
    assert sse_data(b"data: a\ndata: b\n\n: c\n\ndata:c\r\n\r\ndata: lost\n") == ["a\nb", "c"]


def test_toml_is_what_tomllib_reads():
    config = {"a": {"x": 1, "y": [1.5, 'ü"\n'], "n": None}, "b": [{"t": [{"k": True, "a.b": {}}]}, {}]}
    assert tomllib.loads(toml(config)) == {
        "a": {"x": 1, "y": [1.5, 'ü"\n']},
        "b": [{"t": [{"k": True, "a.b": {}}]}, {}],
    }
