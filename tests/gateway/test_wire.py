"""The client's side of the wire: bad framing, smuggling, pipelining, slow clients."""

from __future__ import annotations

import json
import time

import pytest

from tests.fakes import scripts
from tests.fakes.gateway import KEY, Gateway, chat_request, endpoint, eventually, key, route
from tests.fakes.http import Connection

AUTH = {"authorization": f"Bearer {KEY}"}
HEAD = f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n".encode()
GOOD = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n" + HEAD


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    config = {
        "gateway": {"max_body_bytes": 200_000, "max_header_bytes": 16_384, "request_timeout": 1.0},
        "endpoint": [endpoint(upstream.url)],
        "route": [route("m"), route("x/*")],
        "key": [key("tester"), key("limited", "sk-tg-limited", models=["m"])],
    }
    return start(config)


@pytest.fixture(autouse=True)
def nobody_else_is_affected(gateway, upstream):
    """After every test, an ordinary request works and nothing hangs upstream."""
    yield
    assert gateway.chat("m").status == 200
    eventually(lambda: upstream.answering == 0)


NOT_HTTP = {
    "TLS": bytes.fromhex("16030100c8010000c40303") + b"\x00" * 200,
    "noise": bytes(range(256)) * 4,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /v1/models\r\n\r\n",
    "a bad version": b"GET /v1/models HTTP/9.9\r\nhost: h\r\n\r\n",
    "a space before the colon": b"GET /v1/models HTTP/1.1\r\nhost : h\r\n" + HEAD + b"\r\n",
    "a null in a header": b"GET /v1/models HTTP/1.1\r\nhost: h\r\nx: a\x00b\r\n" + HEAD + b"\r\n",
    "a folded header": b"GET /v1/models HTTP/1.1\r\nhost: h\r\nx: a\r\n b\r\n" + HEAD + b"\r\n",
}


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP.keys())
def test_what_is_not_http_is_refused(gateway, data):
    with Connection(gateway.url, timeout=4) as conn:
        conn.send(data)
        try:
            reply = conn.response()
        except AssertionError:
            return  # some other protocol's answer
        assert reply.status in (0, 400, 401, 404, 505) or data is NOT_HTTP["a folded header"]


INNER = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-smuggled: 1\r\ncontent-length: 0\r\n\r\n"
SMUGGLING = {
    "both framings": b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n%b" % (5 + len(INNER), INNER),
    "both framings, other order": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n"
    + scripts.frame(GOOD)
    + b"0\r\n\r\n",
    "two lengths": b"content-length: %d\r\ncontent-length: 3\r\n\r\n%b" % (len(GOOD), GOOD),
    "a list of lengths": b"content-length: %d, 3\r\n\r\n%b" % (len(GOOD), GOOD),
    "a signed length": b"content-length: +%d\r\n\r\n%b" % (len(GOOD), GOOD),
    "a negative length": b"content-length: -1\r\n\r\n" + GOOD,
    "a hexadecimal length": b"content-length: 0x39\r\n\r\n" + GOOD,
    "chunked twice": b"transfer-encoding: chunked, chunked\r\n\r\n" + scripts.frame(GOOD) + b"0\r\n\r\n",
    "chunked, then identity": b"transfer-encoding: chunked, identity\r\n\r\n" + scripts.frame(GOOD) + b"0\r\n\r\n",
    "something like chunked": b"transfer-encoding: xchunked\r\n\r\n" + scripts.frame(GOOD) + b"0\r\n\r\n",
    "a chunk size with a sign": b"transfer-encoding: chunked\r\n\r\n+39\r\n" + GOOD + b"\r\n0\r\n\r\n",
    "a chunk size with 0x": b"transfer-encoding: chunked\r\n\r\n0x39\r\n" + GOOD + b"\r\n0\r\n\r\n",
    "a chunk size that is no number": b"transfer-encoding: chunked\r\n\r\nzz\r\n" + GOOD + b"\r\n0\r\n\r\n",
    "a gigantic chunk size": b"transfer-encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n" + GOOD,
    "a chunk longer than its size": b"transfer-encoding: chunked\r\n\r\n3\r\n" + GOOD + b"\r\n0\r\n\r\n",
    "a negative chunk size": b"transfer-encoding: chunked\r\n\r\n-1\r\n" + GOOD + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_ambiguous_framing_is_refused_and_the_connection_ends(gateway, upstream, rest):
    before = len(upstream.requests)
    with Connection(gateway.url, timeout=4) as conn:
        conn.send(POST + rest)
        reply = conn.response()
        assert reply.status in (0, 400, 501)
        assert conn.closed_by_peer(), "what follows cannot be trusted"
    assert len(upstream.requests) == before


def test_proper_chunks_are_a_body(gateway, upstream):
    parts = b"".join(scripts.frame(GOOD[i : i + 1]) for i in range(len(GOOD)))
    with Connection(gateway.url) as conn:
        conn.send(POST + b"transfer-encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n")
        assert conn.response().status == 200
    assert upstream.requests[-1].body == GOOD
    assert upstream.requests[-1].header("transfer-encoding") is None


def test_a_body_without_length_is_no_body(gateway):
    with Connection(gateway.url) as conn:
        conn.send(POST + b"\r\n")
        assert conn.response().status in (400, 411)


def test_pipelined_requests_are_answered_in_order(gateway, upstream, scripted):
    slow, quick = scripted(scripts.chat(["slow"], gap=0.2)), scripted(scripts.chat(["quick"]))
    bodies = [json.dumps(chat_request(f"x/{n}")).encode() for n in (slow, quick, slow)]
    with Connection(gateway.url) as conn:
        conn.send(b"".join(POST + b"content-length: %d\r\n\r\n%b" % (len(b), b) for b in bodies))
        answered = 0
        for word in ("slow", "quick", "slow"):
            reply = conn.response()
            assert reply.status == 200
            assert reply.json["choices"][0]["message"]["content"] == word
            answered += 1
            if reply.header("connection") == "close":  # allowed: the client asks the rest again
                assert conn.closed_by_peer()
                break
    assert len(upstream.of(slow)) + len(upstream.of(quick)) == answered, "what was not answered was not asked"


def test_pipelined_streams_do_not_mix(gateway, scripted):
    name = scripted(scripts.chat(["a", "b", "c"], gap=0.02))
    body = json.dumps(chat_request(f"x/{name}", stream=True)).encode()
    with Connection(gateway.url) as conn:
        conn.send((POST + b"content-length: %d\r\n\r\n%b" % (len(body), body)) * 3)
        for _ in range(3):
            reply = conn.response()
            assert (reply.complete, reply.words, reply.events[-1]) == (True, "abc", "[DONE]")
            if reply.header("connection") == "close":
                assert conn.closed_by_peer()
                break


def test_expect_100_continue_is_answered(gateway):
    with Connection(gateway.url) as conn:
        conn.send(POST + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(GOOD))
        assert conn.sock.recv(100).startswith(b"HTTP/1.1 100 ")
        conn.send(GOOD)
        assert conn.response().status == 200


def test_expect_100_continue_without_a_key_may_be_refused_at_once(gateway):
    with Connection(gateway.url) as conn:
        head = POST.replace(KEY.encode(), b"wrong")
        conn.send(head + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(GOOD))
        time.sleep(0.1)
        conn.send(GOOD)
        assert conn.response().status == 401


def test_http_1_0_gets_a_closed_connection(gateway):
    with Connection(gateway.url) as conn:
        conn.send(POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD)
        reply = conn.response()
        assert reply.status == 200
        assert reply.header("transfer-encoding") is None
        assert reply.json
        assert conn.closed_by_peer()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/ch", POST[:60], POST, POST + b"content-length: 57\r\n\r\n{"])
def test_a_slow_client_is_cut_off(gateway, sent):
    with Connection(gateway.url, timeout=5) as conn:
        conn.send(sent)
        begin = time.monotonic()
        reply = conn.response() if sent else None
        assert reply is None or reply.status in (0, 408), "caller_slow, or a closed connection"
        if reply is not None and reply.status:
            assert reply.fault == "caller_slow"
        if sent:
            assert conn.closed_by_peer(3)
            assert time.monotonic() - begin < 4


def test_a_client_that_drips_is_cut_off(gateway):
    """One header byte now and then must not hold a connection for longer than request_timeout."""
    with Connection(gateway.url, timeout=5) as conn:
        begin = time.monotonic()
        try:
            for byte in POST * 3:
                conn.send(bytes([byte]))
                time.sleep(0.1)
                if time.monotonic() - begin > 3.5:
                    break
        except OSError:
            pass
        assert time.monotonic() - begin < 3.5


def test_a_client_that_leaves_in_the_middle_of_its_request_harms_nothing(gateway, upstream):
    before = len(upstream.requests)
    for cut in (10, len(POST), len(POST) + 25):
        with Connection(gateway.url) as conn:
            conn.send((POST + b"content-length: 57\r\n\r\n" + GOOD)[:cut])
            conn.abort()
    assert len(upstream.requests) == before


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"content-length: %d\r\n\r\n" % (len(GOOD) - 1) + GOOD, (400,)),
        (b"content-length: 0%d\r\n\r\n" % len(GOOD) + GOOD, (200, 400)),
        (b"content-length: -%d\r\n\r\n" % len(GOOD) + GOOD, (400,)),
        (b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n" % len(GOOD) + GOOD, (400,)),
        (b"content-length: %d\r\ncontent-length: %d\r\n\r\n" % (len(GOOD), len(GOOD)) + GOOD, (400,)),
    ],
)
def test_a_request_whose_head_is_nearly_the_last_ones_is_parsed_as_strictly(gateway, sent, statuses):
    with Connection(gateway.url) as conn:
        for _ in range(3):
            conn.send(POST + b"content-length: %d\r\n\r\n%b" % (len(GOOD), GOOD))
            assert conn.response().status == 200
        conn.send(POST + sent)
        assert conn.response().status in statuses


def test_the_known_head_of_a_connection_does_not_outlive_a_change_of_its_headers(gateway):
    longer = GOOD.replace(b"hi", b"hello" * 50)
    with Connection(gateway.url) as conn:
        for body in (GOOD, longer, GOOD):
            conn.send(POST + b"content-length: %d\r\n\r\n%b" % (len(body), body))
            assert conn.response().status == 200
        refused = POST.replace(KEY.encode(), b"sk-tg-nobody")
        conn.send(refused + b"content-length: %d\r\n\r\n%b" % (len(GOOD), GOOD))
        assert conn.response().status == 401


def test_a_known_head_brings_no_body_above_the_limit(gateway):
    with Connection(gateway.url) as conn:
        conn.send(POST + b"content-length: %d\r\n\r\n%b" % (len(GOOD), GOOD))
        assert conn.response().status == 200
        body = GOOD.replace(b"hi", b"x" * 200_000)
        conn.send(POST + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        assert conn.response().status == 413
