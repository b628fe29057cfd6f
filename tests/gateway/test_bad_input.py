"""Callers that send nonsense, or worse: every answer is OpenAI-shaped, the next caller unharmed."""

from __future__ import annotations

import contextlib
import gzip
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


def assert_bad(reply, status, *faults):
    assert reply.status == status, reply
    assert reply.fault in faults, reply
    assert reply.error["type"], reply
    assert reply.request_id


BAD_JSON = {
    "empty": b"",
    "spaces": b"  \n ",
    "cut": b'{"model":"m","messages":[',
    "not JSON": b"model=m&messages=hi",
    "two documents": GOOD + GOOD,
    "trailing comma": b'{"model":"m","messages":[{"role":"user"}],}',
    "single quotes": b"{'model':'m'}",
    "NaN": b'{"model":"m","messages":[{"role":"user"}],"temperature":NaN}',
    "a control character in a string": b'{"model":"m","messages":[{"role":"user"}],"x":"a\nb"}',
    "bytes that are not UTF-8": b'{"model":"m","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "a null byte": GOOD + b"\x00",
    "a number with a leading zero": b'{"model":"m","messages":[{"role":"user"}],"n":012}',
    "a bad escape": b'{"model":"m","messages":[{"role":"user"}],"x":"\\q"}',
    "deep arrays": b'{"model":"m","messages":' + b"[" * 100_000 + b"}",
    "deep arrays, closed": b'{"model":"m","messages":' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    "deep objects, closed": b'{"model":"m","x":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_bad_json_is_refused(gateway, upstream, body):
    before = len(upstream.requests)
    reply = gateway.call("POST", "/v1/chat/completions", body)
    assert_bad(reply, 400, "caller_bad_json", "caller_bad_request")
    assert len(upstream.requests) == before


BAD_REQUESTS = {
    "an array": b"[]",
    "a string": b'"model"',
    "null": b"null",
    "no model": b'{"messages":[{"role":"user"}]}',
    "model null": b'{"model":null,"messages":[{"role":"user"}]}',
    "model a number": b'{"model":1,"messages":[{"role":"user"}]}',
    "model an array": b'{"model":["m"],"messages":[{"role":"user"}]}',
    "model empty": b'{"model":"","messages":[{"role":"user"}]}',
    "stream a string": b'{"model":"m","messages":[{"role":"user"}],"stream":"yes"}',
    "stream a number": b'{"model":"m","messages":[{"role":"user"}],"stream":1}',
    "max_tokens negative": b'{"model":"m","messages":[{"role":"user"}],"max_tokens":-1}',
    "max_tokens a string": b'{"model":"m","messages":[{"role":"user"}],"max_tokens":"many"}',
    "max_tokens gigantic": b'{"model":"m","messages":[{"role":"user"}],"max_tokens":1e400}',
    "max_completion_tokens negative": b'{"model":"m","messages":[{"role":"user"}],"max_completion_tokens":-9}',
    "stream_options a string": b'{"model":"m","messages":[{"role":"user"}],"stream":true,"stream_options":"all"}',
}


@pytest.mark.parametrize("body", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_bad_request_is_refused(gateway, upstream, body):
    before = len(upstream.requests)
    reply = gateway.call("POST", "/v1/chat/completions", body)
    assert_bad(reply, 400, "caller_bad_request", "caller_bad_json")
    assert len(upstream.requests) == before


@pytest.mark.parametrize(
    "name", ["nowhere", "M", "m ", " m", "m\x00", "m/../m", "m" * 5000, "*", "x/*\r\nx: y", "$(id)", "😀"]
)
def test_a_model_that_is_not_there(gateway, name):
    reply = gateway.chat(name)
    if name.startswith("x/"):
        assert reply.status in (200, 400, 404)
    else:
        assert_bad(reply, 404, "caller_unknown_model")
        assert reply.error["code"] == "model_not_found"
    assert len(reply.raw) < 20_000


def test_a_model_name_of_a_wildcard_has_an_end(gateway, upstream):
    """The usage record holds it three times, and must fit into the spool."""
    assert gateway.chat("x/" + "a" * 253).status == 200
    before = len(upstream.requests)
    for size in (254, 60_000, 150_000):
        assert_bad(gateway.chat("x/" + "a" * size), 404, "caller_unknown_model")
    assert len(upstream.requests) == before


def test_a_wildcard_model_name_cannot_smuggle(gateway, upstream):
    reply = gateway.chat('x/a","tools":[],"b":"\r\nx-evil: 1')
    if reply.status == 200:
        seen = upstream.requests[-1]
        assert set(seen.json) == {"model", "messages"}
        assert seen.header("x-evil") is None
    assert reply.header("x-evil") is None


# ---- sizes ----


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_huge_body_is_413(gateway, framing):
    body = json.dumps(chat_request("m", pad="x" * 300_000)).encode()
    with Connection(gateway.url) as conn:
        try:
            if framing == "length":
                conn.send(POST + b"content-length: %d\r\n\r\n" % len(body) + body)
            else:
                conn.send(POST + b"transfer-encoding: chunked\r\n\r\n" + scripts.frame(body) + b"0\r\n\r\n")
        except OSError:
            pass  # refused before all was sent
        assert_bad(conn.response(), 413, "caller_too_large")


def test_a_body_that_says_it_is_huge_is_refused_before_it_is_sent(gateway):
    with Connection(gateway.url) as conn:
        conn.send(POST + b"content-length: 99999999999\r\n\r\n")
        assert_bad(conn.response(), 413, "caller_too_large")


def test_a_body_just_inside_the_limit_passes(gateway, upstream):
    body = json.dumps(chat_request("m", pad="")).encode()
    body = body.replace(b'"pad": ""', b'"pad": "' + b"x" * (200_000 - len(body)) + b'"')
    assert len(body) == 200_000
    assert gateway.call("POST", "/v1/chat/completions", body).status == 200
    assert upstream.requests[-1].body == body


@pytest.mark.parametrize("kind", ["one header", "many headers", "a long path", "no end"])
def test_huge_headers_are_refused(gateway, kind):
    lines = {
        "one header": b"x-a: " + b"a" * 50_000 + b"\r\n\r\n",
        "many headers": b"".join(b"x-%d: a\r\n" % i for i in range(5000)) + b"\r\n",
        "a long path": b"\r\n",
        "no end": b"x-a: " + b"a" * 200_000,
    }[kind]
    path = b"/v1/models?" + b"a" * 50_000 if kind == "a long path" else b"/v1/models"
    with Connection(gateway.url) as conn:
        with contextlib.suppress(OSError):  # refused before all was sent
            conn.send(b"GET " + path + b" HTTP/1.1\r\nhost: h\r\n" + HEAD + lines)
        try:
            reply = conn.response()
        except AssertionError:
            return  # cut in the middle of the refusal by the bytes that were still under way
        assert reply.status in (0, 400, 414, 431)
        assert conn.closed_by_peer()


# ---- content types ----


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", None])
def test_json_is_accepted(gateway, kind):
    with Connection(gateway.url) as conn:
        line = f"content-type: {kind}\r\n" if kind else ""
        conn.send(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n{line}"
            f"content-length: {len(GOOD)}\r\n\r\n".encode()
            + GOOD
        )
        assert conn.response().status == 200


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_a_wrong_content_type_is_refused(gateway, kind):
    reply = gateway.call("POST", "/v1/chat/completions", GOOD, content_type=kind)
    assert reply.status in (400, 415)
    assert reply.fault == "caller_bad_request"
    assert reply.error


def test_a_compressed_request_body_is_refused_or_understood(gateway, upstream):
    reply = gateway.call("POST", "/v1/chat/completions", gzip.compress(GOOD), content_encoding="gzip")
    if reply.status == 200:
        assert upstream.requests[-1].body == GOOD
    else:
        assert reply.status in (400, 415)
        assert reply.error


# ---- methods and paths ----


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
def test_a_wrong_method_is_405(gateway, method, path):
    reply = gateway.call(method, path)
    assert reply.status == 405
    assert "POST" in (reply.header("allow") or "")
    if method == "HEAD":
        assert reply.body == b""
    else:
        assert reply.error


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_wrong_method_on_models_is_405(gateway, method):
    reply = gateway.call(method, "/v1/models", b"{}")
    assert (reply.status, "GET" in (reply.header("allow") or "")) == (405, True)
    assert reply.error


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/chat",
        "/v1/chat/completions/x",
        "/v1/chat/completions/",
        "/v1/files/",
        "/v1/vector_stores/",
        "/healthz/",
        "/v1/assistants",
        "/v1//chat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/chat%2Fcompletions",
        "/V1/chat/completions",
        "/v1/chat/completions%00",
        "/v1/chat/completions;a=b",
        "/v1/%2e%2e/metrics",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_404_and_openai_shaped(gateway, upstream, path, method):
    before = len(upstream.requests)
    reply = gateway.call(method, path, GOOD if method == "POST" else None)
    assert_bad(reply, 404, "caller_not_found")
    assert len(upstream.requests) == before


def test_a_query_is_ignored(gateway, upstream):
    assert gateway.call("POST", "/v1/chat/completions?model=x&stream=true", GOOD).status == 200
    assert upstream.requests[-1].target == "/v1/chat/completions"


def test_a_percent_encoded_path_means_what_it_says(gateway):
    assert gateway.call("POST", "/v1/ch%61t/completions", GOOD).status in (200, 404)


def test_an_absolute_form_target_is_the_same_path(gateway, upstream):
    with Connection(gateway.url) as conn:
        conn.send(
            b"POST http://other.example/v1/chat/completions HTTP/1.1\r\nhost: h\r\n"
            + HEAD
            + b"content-length: %d\r\n\r\n" % len(GOOD)
            + GOOD
        )
        reply = conn.response()
    assert reply.status in (200, 400, 404)
    if reply.status == 200:
        assert upstream.requests[-1].header("host") == f"127.0.0.1:{upstream.port}"


def test_a_strange_host_header_chooses_nothing(gateway, upstream):
    reply = gateway.call("POST", "/v1/chat/completions", GOOD, host="169.254.169.254")
    assert reply.status == 200
    assert upstream.requests[-1].header("host") == f"127.0.0.1:{upstream.port}"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/v1/models/no", "/v1/no", "/healthz", "/metrics"])
def test_every_answer_tells_its_request_id_and_keeps_the_clients(gateway, path):
    reply = gateway.call("GET", path, x_request_id=f"mine{path}")
    assert reply.all("x-request-id") == [f"mine{path}"]
    assert len(gateway.call("GET", path, x_request_id="no good").request_id) == 36


def test_a_refusal_is_logged_with_the_address_it_came_from(gateway):
    rid = gateway.call("GET", "/v1/models", secret="sk-tg-wrong").request_id
    event = eventually(lambda: [e for e in gateway.events("request.rejected") if e["request_id"] == rid])[0]
    assert (event["peer"], event["error"]) == ("127.0.0.1", "policy_key")


def test_a_search_that_does_not_arrive_ends_like_any_other_request(gateway):
    head = f"POST /v1/knowledge/b/search HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n".encode()
    with Connection(gateway.url) as silent, Connection(gateway.url) as leaving:
        leaving.send(head + b"content-length: 100\r\n\r\n{")
        silent.send(head + b"content-length: 100\r\n\r\n{")
        leaving.abort()
        assert_bad(silent.response(), 408, "caller_slow")
        assert silent.closed_by_peer()
    time.sleep(0.1)
    assert not [e for e in gateway.events() if "exception" in e]
