"""Messages and Gemini in front of upstreams that speak them: bytes pass through, usage is read on the side."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.fakes import scripts
from tests.fakes.gateway import KEY, Gateway, endpoint, eventually, key, new_id, route
from tests.matrix.anthropic_vendor import AnthropicVendor
from tests.matrix.gemini_vendor import GeminiVendor
from tests.matrix.told import Call, Said, Tokens

SAID = Said(
    "Hello, 世界", reasoning="Hm.", signature="c2ln", calls=(Call("c1", "f", {"a": 1}),), finish="tool_calls",
    tokens=Tokens(input=120, cached=80, output=30, reasoning=12),
)  # fmt: skip
BUCKETS = {"input": 120, "cache_read": 80, "cache_write": 0, "output": 30, "reasoning": 12}
LIMITED = "sk-tg-limited-0123456789abcdefghijklmnopqrstuvw"
RATED = "sk-tg-rated-0123456789abcdefghijklmnopqrstuvwxyz"
ONCE = "sk-tg-once-0123456789abcdefghijklmnopqrstuvwxyz0"


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    root = upstream.url.removesuffix("/v1")
    return start(
        {
            "gateway": {"max_body_bytes": 100_000},
            "endpoint": [
                endpoint(upstream.url, "claude", provider="anthropic"),
                endpoint(f"{root}/v1beta", "gemini", provider="gemini"),
                endpoint(upstream.url, "plain"),
                endpoint(f"{root}/v1/projects/p", "google", provider="vertex", options={"publisher": "anthropic"}),
            ],
            "route": [
                route("claude/*", "claude"),
                route("gemini/*", "gemini"),
                route("plain/*", "plain"),
                route("google/*", "google"),
                route("prompted/*", "google", system_prompt="Be brief."),
            ],
            "key": [
                key("tester"),
                key("limited", LIMITED, limits={"rpm": 1}),
                key("rated", RATED, limits={"rpm": 100, "tpm": 1_000_000}),
                key("once", ONCE, limits={"rpm": 1}),
            ],
        }
    )


def row(gateway: Gateway, rid: str):
    [found] = eventually(lambda: gateway.rows(rid), 10)
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_messages_pass_byte_for_byte(gateway, upstream, scripted, stream):
    vendor, rid = AnthropicVendor(), new_id()
    events = vendor.events(SAID, "m")
    answer = b"".join(events) if stream else vendor.whole(SAID, "m")
    model = scripted(scripts.stream(events) if stream else scripts.reply(answer))
    flag = b"true" if stream else b"false"
    body = b'{ "model":"claude/%b","max_tokens":9,"odd":1.0,"stream":%b,"messages":[{"role":"user","content":"x"}]}'
    body = body % (model.encode(), flag)
    reply = gateway.call(
        "POST", "/v1/messages", body, secret=None, x_api_key=KEY, x_request_id=rid, anthropic_beta="some-beta"
    )
    assert (reply.status, reply.body) == (200, answer)
    [seen] = upstream.of(model)
    assert (seen.target, seen.body) == ("/v1/messages", body.replace(b"claude/", b""))
    assert (seen.header("anthropic-beta"), seen.header("x-api-key")) == ("some-beta", None)
    found = row(gateway, rid)
    assert (found["tokens"], found["usage_source"], found["operation"]) == (BUCKETS, "provider", "messages")


@pytest.mark.parametrize("stream", [False, True])
def test_messages_pass_to_claude_at_google_with_its_version_for_the_model(gateway, upstream, scripted, stream):
    vendor, rid = AnthropicVendor(), new_id()
    events = vendor.events(SAID, "m")
    answer = b"".join(events) if stream else vendor.whole(SAID, "m")
    model = scripted(scripts.stream(events) if stream else scripts.reply(answer))
    flag = b"true" if stream else b"false"
    body = '{ "max_tokens":9,"model" : "google/%s","odd":1.0,"stream":%s,"messages":[{"role":"user","content":"中"}]}'
    body = (body % (model, flag.decode())).encode()
    reply = gateway.call("POST", "/v1/messages", body, x_request_id=rid)
    assert (reply.status, reply.body) == (200, answer)
    [seen] = upstream.of(model)
    method = "streamRawPredict" if stream else "rawPredict"
    assert seen.target == f"/v1/projects/p/publishers/anthropic/models/{model}:{method}"
    version = b'"anthropic_version":"vertex-2023-10-16"'
    assert seen.body == body.replace(b'"model" : "google/%b"' % model.encode(), version)
    assert row(gateway, rid)["tokens"] == BUCKETS
    prompted = body.replace(b"google/", b"prompted/")
    assert gateway.call("POST", "/v1/messages", prompted).status == 200
    told = upstream.of(model)[1].json
    assert (told["system"], told["anthropic_version"], "model" in told) == ("Be brief.", "vertex-2023-10-16", False)


@pytest.mark.parametrize("stream", [False, True])
def test_gemini_passes_byte_for_byte(gateway, upstream, scripted, stream):
    vendor, rid = GeminiVendor(), new_id()
    events = vendor.events(SAID, "m")
    answer = b"".join(events) if stream else vendor.whole(SAID, "m")
    model = scripted(scripts.stream(events) if stream else scripts.reply(answer))
    method = "streamGenerateContent?alt=sse&" if stream else "generateContent?"
    body = b'{ "contents":[{"role":"user","parts":[{"text":"x"}]}], "odd":1.0}'
    path = f"/v1beta/models/gemini%2F{model}:{method}key={KEY}"
    reply = gateway.call("POST", path, body, secret=None, x_request_id=rid)
    assert (reply.status, reply.body) == (200, answer)
    [seen] = upstream.of(model)
    assert seen.body == body
    assert KEY not in seen.target
    assert row(gateway, rid)["tokens"] == BUCKETS
    assert not [line for line in gateway.log_lines if KEY in line], "the key of the URL is in no log"


def test_a_stream_as_one_array_is_refused(gateway):
    reply = gateway.call("POST", "/v1beta/models/gemini%2Fm:streamGenerateContent", b'{"contents":[{}]}')
    assert reply.status == 400
    assert "alt=sse" in reply.json["error"]["message"]


def test_counting_tokens_passes_and_costs_nothing(gateway, upstream, scripted):
    rid = new_id()
    model = scripted(scripts.reply(b'{"input_tokens": 14}'))
    body = json.dumps({"model": f"claude/{model}", "messages": [{"role": "user", "content": "x"}]}).encode()
    reply = gateway.call("POST", "/v1/messages/count_tokens", body, x_request_id=rid)
    assert (reply.status, reply.json) == (200, {"input_tokens": 14})
    assert upstream.of(model)[0].target == "/v1/messages/count_tokens"
    found = row(gateway, rid)
    assert (sum(found["tokens"].values()), found["cost_nano"]) == (0, 0)


def message(model: str = "claude/m") -> bytes:
    return json.dumps({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}).encode()


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind"),
    [
        (message(), {}, 401, "authentication_error"),
        (message("nothing"), {"x_api_key": KEY}, 404, "not_found_error"),
        (b"{", {"x_api_key": KEY}, 400, "invalid_request_error"),
        (b'{"model":"claude/m"}', {"x_api_key": KEY}, 400, "invalid_request_error"),
        (b" " * 200_000, {"x_api_key": KEY}, 413, "request_too_large"),
    ],
)
def test_errors_have_anthropics_shape(gateway, body, headers, status, kind):
    reply = gateway.call("POST", "/v1/messages", body, secret=None, **headers)
    assert (reply.status, reply.json["type"], reply.json["error"]["type"]) == (status, "error", kind)


def test_a_limit_has_anthropics_shape(gateway, scripted):
    body = message(f"claude/{scripted(scripts.reply(AnthropicVendor().whole(SAID, 'm')))}")
    assert gateway.call("POST", "/v1/messages", body, secret=LIMITED).status == 200
    reply = gateway.call("POST", "/v1/messages", body, secret=LIMITED)
    assert (reply.status, reply.json["error"]["type"]) == (429, "rate_limit_error")
    assert reply.header("retry-after")
    limit, left = (reply.header(f"anthropic-ratelimit-requests-{what}") for what in ("limit", "remaining"))
    assert (limit, left, reply.header("x-ratelimit-limit-requests")) == ("1", "0", None)
    resets = datetime.fromisoformat(reply.header("anthropic-ratelimit-requests-reset") or "")
    assert 0 < (resets - datetime.now(UTC)).total_seconds() < 61


def test_what_is_left_is_told_in_anthropics_names_on_good_answers_too(gateway, scripted):
    model = scripted(scripts.reply(AnthropicVendor().whole(SAID, "m")))
    reply = gateway.call("POST", "/v1/messages", message(f"claude/{model}"), secret=RATED)
    assert reply.header("anthropic-ratelimit-requests-remaining") == "99"
    assert reply.header("anthropic-ratelimit-tokens-limit") == "1000000"
    assert not [name for name, _ in reply.headers if name.startswith("x-ratelimit")]


def test_a_limit_at_googles_url_says_in_its_body_when_to_come_back(gateway, scripted):
    model = scripted(scripts.reply(GeminiVendor().whole(SAID, "m")))
    path, body = f"/v1beta/models/gemini/{model}:generateContent", b'{"contents":[{"parts":[{"text":"x"}]}]}'
    assert gateway.call("POST", path, body, secret=ONCE).status == 200
    reply = gateway.call("POST", path, body, secret=ONCE)
    assert (reply.status, reply.json["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    details = {one["@type"].rpartition(".")[2]: one for one in reply.json["error"]["details"]}
    assert details["RetryInfo"]["retryDelay"] == f"{reply.header('retry-after')}s"
    assert details["QuotaFailure"]["violations"][0]["subject"] == "policy_rate"


def test_a_cut_stream_ends_with_anthropics_error(gateway, scripted):
    events = AnthropicVendor().events(SAID, "m")
    model = scripted([*scripts.stream(events[:6], end=False), scripts.Close()])
    body = json.dumps({**json.loads(message(f"claude/{model}")), "stream": True}).encode()
    reply = gateway.call("POST", "/v1/messages", body)
    assert reply.body.startswith(b"".join(events[:6]))
    last = reply.body.removeprefix(b"".join(events[:6]))
    assert last.startswith(b"event: error\ndata: ")
    assert json.loads(last.split(b"data: ")[1])["error"]["type"] == "api_error"
