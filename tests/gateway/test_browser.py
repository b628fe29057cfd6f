"""Web pages that call the gateway: only those of origins that the settings name may read what it answers."""

from __future__ import annotations

import json

import pytest

from tests.fakes.gateway import KEY, Gateway, chat_request, endpoint, key, new_id, route
from tests.fakes.http import Connection

PAGE = "http://console.example:8080"
OTHER = "https://evil.example"
CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    config = {
        "gateway": {"cors_origins": [PAGE], "max_body_bytes": 10_000},
        "endpoint": [endpoint(upstream.url)],
        "route": [route("gpt")],
        "key": [key("tester"), key("limited", "sk-tg-limited-0123456789", limits={"rpm": 1})],
    }
    return start(config)


@pytest.fixture(scope="module")
def plain(start, upstream) -> Gateway:
    return start({"endpoint": [endpoint(upstream.url)], "route": [route("gpt")]})


def preflight(gateway, path, origin, method="POST"):
    fields = {"access-control-request-method": method, "access-control-request-headers": "authorization,content-type"}
    return gateway.call("OPTIONS", path, secret=None, origin=origin, **fields)


def cors(reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers if name.startswith("access-control-")}


def readable(reply, origin=PAGE) -> bool:
    """Whether a browser shows the answer to a page of the origin."""
    assert len(reply.all("access-control-allow-origin")) <= 1
    allowed = reply.header("access-control-allow-origin")
    assert reply.header("access-control-allow-credentials") is None
    assert (reply.header("vary") == "origin") == (allowed is not None)
    return allowed == origin


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/models", "/v1/no-such-thing"])
def test_a_preflight_of_an_allowed_page_is_answered_without_a_key(gateway, path):
    reply = preflight(gateway, path, PAGE)
    assert reply.status == 204
    assert readable(reply)
    assert "authorization" in reply.header("access-control-allow-headers")
    assert reply.header("access-control-allow-methods") == "GET, POST, DELETE"


@pytest.mark.parametrize("origin", [OTHER, "null", "", PAGE + "0", PAGE + "/", PAGE.replace("http", "https"), "*"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
def test_a_preflight_of_another_page_is_an_ordinary_wrong_method(gateway, path, origin):
    reply = preflight(gateway, path, origin)
    assert (reply.status, reply.fault) == (405, "caller_bad_method")
    assert cors(reply) == {}


def test_without_the_setting_no_page_may_call(plain):
    assert preflight(plain, CHAT, PAGE).status == 405
    reply = plain.chat("gpt", headers={"origin": PAGE})
    assert (reply.status, cors(reply)) == (200, {})


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_readable_to_an_allowed_page_only(gateway, stream):
    reply = gateway.chat("gpt", stream=stream, headers={"origin": PAGE})
    assert reply.status == 200
    assert readable(reply)
    exposed = reply.header("access-control-expose-headers")
    for name in ("x-request-id", "x-tunegate-target", "x-tunegate-error", "x-ratelimit-limit-requests", "retry-after"):
        assert name in exposed.split(", ")
    assert reply.header("date")
    for headers in ({"origin": OTHER}, {}):
        other = gateway.chat("gpt", stream=stream, headers=headers)
        assert (other.status, cors(other), other.header("vary")) == (200, {}, None)


def test_the_same_connection_may_carry_requests_with_and_without_an_origin(gateway):
    with Connection(gateway.url) as conn:
        for origin in (PAGE, PAGE, None, OTHER, PAGE):  # the second is recognised by the head of the first
            headers = {"authorization": f"Bearer {KEY}", "x-request-id": new_id()}
            conn.request(
                "POST", CHAT, json.dumps(chat_request("gpt")).encode(), headers | ({"origin": origin} if origin else {})
            )
            reply = conn.response()
            assert reply.status == 200
            assert readable(reply, PAGE) == (origin == PAGE)


ERRORS = {
    "no key": (BODY, {"secret": None}, 401),
    "unknown model": (BODY.replace(b"gpt", b"nope"), {}, 404),
    "not JSON": (b"{", {}, 400),
    "too large, before the pipeline": (b" " * 10_001, {}, 413),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_page_can_read_why_it_was_refused(gateway, case):
    body, call, status = ERRORS[case]
    reply = gateway.call("POST", CHAT, body, origin=PAGE, **call)
    assert (reply.status, readable(reply)) == (status, True)
    assert reply.error["message"]
    assert reply.request_id
    assert cors(gateway.call("POST", CHAT, body, origin=OTHER, **call)) == {}


def test_a_page_can_read_how_long_to_wait(gateway):
    replies = [gateway.chat("gpt", secret="sk-tg-limited-0123456789", headers={"origin": PAGE}) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 429]
    assert readable(replies[1])
    assert replies[1].header("retry-after")


def test_bytes_that_are_no_http_are_refused_as_ever(gateway):
    with Connection(gateway.url) as conn:
        conn.send(b"\x00\x01\x02\r\n\r\n")
        reply = conn.response()
        assert (reply.status, cors(reply)) == (400, {})


def test_models_are_readable_and_operators_paths_are_not(gateway):
    assert readable(gateway.call("GET", "/v1/models", origin=PAGE))
    assert readable(gateway.call("GET", "/v1/models", secret=None, origin=PAGE))
    for path in ("/metrics", "/healthz", "/readyz"):
        assert cors(gateway.call("GET", path, secret=None, origin=PAGE)) == {}


@pytest.mark.parametrize(
    "origin", ["*", "console.example", "http://a.example/", "http://user@a.example", "http://A.example", "ftp://a"]
)
def test_what_is_no_origin_is_refused_at_start(start, upstream, origin):
    with pytest.raises(AssertionError, match="is not an origin"):
        start({"gateway": {"cors_origins": [origin]}, "endpoint": [endpoint(upstream.url)], "route": [route("gpt")]})


def test_origins_come_from_the_environment_too(start, upstream):
    env = {"TUNEGATE_GATEWAY_CORS_ORIGINS": f"http://first.example, {PAGE}"}
    running = start({"endpoint": [endpoint(upstream.url)], "route": [route("gpt")]}, env=env)
    assert readable(running.chat("gpt", headers={"origin": PAGE}))
