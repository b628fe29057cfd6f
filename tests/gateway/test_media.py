"""Rerank, moderation, images and sound pass to whoever speaks them; who does not is told so by name."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest

from tests.fakes import scripts
from tests.fakes.forms import TYPE, File, form
from tests.fakes.gateway import KEY, Gateway, endpoint, key, new_id, route

LIMITED = "sk-tg-limited-0123456789abcdefghijklmnopqrstuvw"
RERANK = {"query": "q", "documents": ["a", "b"], "top_n": 1}
TOKENS = {"input": 7, "cache_read": 0, "cache_write": 0, "output": 5, "reasoning": 0}


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    url = upstream.url
    return start(
        {
            "endpoint": [
                endpoint(url, "openai"),
                endpoint(url, "azure", provider="azure", options={"api_version": "2025-01-01"}),
                endpoint(url, "vllm", provider="vllm"), endpoint(url, "cohere", provider="cohere"),
                endpoint(url, "zhipu", provider="zhipu"), endpoint(url, "claude", provider="anthropic"),
            ],
            "route": [route(f"{name}/*", name) for name in ("openai", "azure", "vllm", "cohere", "zhipu", "claude")],
            "key": [key("tester"), key("limited", LIMITED, limits={"rpm": 1})],
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def sdk(gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def post(gateway: Gateway, path: str, model: str, rid: str = "", secret: str = KEY, **fields: object):
    body = json.dumps({"model": model, **fields}).encode()
    return gateway.call("POST", path, body, secret=secret, x_request_id=rid or new_id())


@pytest.mark.parametrize(
    ("at", "path", "there", "usage", "tokens"),
    [
        ("openai", "/v1/rerank", "/v1/rerank", {"total_tokens": 12}, 12),
        ("vllm", "/v2/rerank", "/v1/rerank", {"prompt_tokens": 12, "total_tokens": 12}, 12),
        ("zhipu", "/v1/rerank", "/v1/rerank", {"prompt_tokens": 12, "total_tokens": 12}, 12),
    ],
)
def test_rerank_passes_byte_for_byte_and_its_tokens_count(gateway, upstream, scripted, at, path, there, usage, tokens):
    answer = json.dumps({"results": [{"index": 1, "relevance_score": 0.9}], "usage": usage}).encode()
    model, rid = scripted(scripts.reply(answer)), new_id()
    reply = post(gateway, path, f"{at}/{model}", rid, **RERANK, odd=[1])
    assert (reply.status, reply.body) == (200, answer)
    [seen] = upstream.of(model)
    assert (seen.target, seen.json) == (there, {"model": model, **RERANK, "odd": [1]})
    row = gateway.row(rid)
    assert (row["operation"][:6], row["tokens"]["input"], row["usage_source"]) == ("rerank", tokens, "provider")


def test_cohere_tells_search_units_so_the_tokens_are_estimated(gateway, upstream, scripted):
    answer = b'{"id":"r","results":[{"index":0,"relevance_score":0.9}],"meta":{"billed_units":{"search_units":1}}}'
    model, rid = scripted(scripts.reply(answer)), new_id()
    assert post(gateway, "/v2/rerank", f"cohere/{model}", rid, **RERANK).body == answer
    assert gateway.row(rid)["usage_source"] == "estimated"


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        ("/v1/rerank", {"documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "q", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "q", "documents": "a"}, "documents"),
        ("/v1/moderations", {}, "input"),
        ("/v1/images/generations", {"prompt": 7}, "prompt"),
        ("/v1/audio/speech", {"input": ""}, "input"),
    ],
)
def test_what_is_missing_is_named(gateway, path, fields, named):
    reply = post(gateway, path, "openai/auto", **fields)
    assert (reply.status, reply.error["param"], reply.fault) == (400, named, "caller_bad_request")


@pytest.mark.parametrize(
    ("path", "fields", "operation"),
    [
        ("/v1/rerank", RERANK, "rerank"),
        ("/v1/moderations", {"input": "x"}, "moderations"),
        ("/v1/images/generations", {"prompt": "x"}, "images"),
        ("/v1/audio/speech", {"input": "x", "voice": "a"}, "speech"),
    ],
)
def test_a_provider_without_it_is_a_400_that_names_it_and_costs_nothing(gateway, path, fields, operation):
    rid = new_id()
    reply = post(gateway, path, "claude/m", rid, **fields)
    assert (reply.status, reply.fault) == (400, "caller_unsupported")
    assert operation in reply.error["message"]
    assert "claude" in reply.error["message"]
    assert gateway.row(rid)["cost_nano"] == 0


def test_a_form_for_a_provider_without_it_is_the_same_400(gateway):
    body = form(model="claude/m", file=File(b"x"))
    reply = gateway.call("POST", "/v1/audio/transcriptions", body, content_type=TYPE.decode())
    assert (reply.status, reply.fault) == (400, "caller_unsupported")


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_speech_is_relayed_as_it_comes_and_untouched(gateway, upstream, scripted, sdk, framing):
    sound = bytes(range(256)) * 8192
    model = scripted(scripts.reply(sound, kind="audio/mpeg", framing=framing))
    with sdk.audio.speech.with_streaming_response.create(
        model=f"openai/{model}", input="Hello", voice="alloy"
    ) as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        assert answer.read() == sound
    [seen] = upstream.of(model)
    assert (seen.target, seen.header("accept")) == ("/v1/audio/speech", "*/*")


def test_speech_that_breaks_off_breaks_off_for_the_client_too(gateway, scripted):
    half = [*scripts.reply(b"", kind="audio/mpeg", framing="close")[:-1], scripts.Send(b"abc"), scripts.Close()]
    half[0] = scripts.Send(scripts.head(200, "audio/mpeg") + b"content-length: 10\r\n\r\n")
    model, rid = scripted(half), new_id()
    reply = post(gateway, "/v1/audio/speech", f"openai/{model}", rid, input="Hello", voice="alloy")
    assert (reply.body, reply.complete) == (b"abc", False)
    assert gateway.row(rid)["end"] == "upstream_error_partial"


def test_streamed_speech_and_images_are_events_with_their_usage(gateway, scripted):
    usage = b'"usage":{"input_tokens":7,"output_tokens":5,"total_tokens":12}'
    for path, fields, kind in (
        ("/v1/audio/speech", {"input": "x", "voice": "a", "stream_format": "sse"}, b"speech.audio"),
        ("/v1/images/generations", {"prompt": "x", "stream": True}, b"image_generation"),
    ):
        events = [
            b'data: {"type":"%b.delta","audio":"AAAA"}\n\n' % kind,
            b'data: {"type":"%b.done",%b}\n\n' % (kind, usage),
        ]
        model, rid = scripted(scripts.stream(events)), new_id()
        reply = post(gateway, path, f"openai/{model}", rid, **fields)
        assert reply.body == b"".join(events)
        row = gateway.row(rid)
        assert (row["tokens"], row["usage_source"], row["end"]) == (TOKENS, "provider", "success")


def test_an_error_in_place_of_sound_is_the_providers(gateway, scripted):
    model = scripted(scripts.error(400, "Voice unknown"))
    reply = post(gateway, "/v1/audio/speech", f"openai/{model}", input="x", voice="y")
    assert (reply.status, reply.error["message"]) == (400, "Voice unknown")


def test_images_pass_with_their_tokens_and_moderations_with_their_verdict(gateway, scripted, sdk):
    picture = json.dumps(
        {"created": 1, "data": [{"b64_json": "A" * 3_000_000}],
         "usage": {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12,
                   "input_tokens_details": {"text_tokens": 7, "image_tokens": 0}}}
    ).encode()  # fmt: skip
    rid, model = new_id(), scripted(scripts.reply(picture))
    reply = post(gateway, "/v1/images/generations", f"openai/{model}", rid, prompt="a cat")
    assert reply.body == picture
    assert gateway.row(rid)["tokens"] == TOKENS
    verdict = {"id": "m", "model": "x", "results": [{"flagged": True, "categories": {}, "category_scores": {}}]}
    model = scripted(scripts.reply(json.dumps(verdict).encode()))
    assert sdk.moderations.create(model=f"openai/{model}", input="x").results[0].flagged


def test_azure_has_its_deployments_in_the_path(gateway, upstream, scripted):
    model = scripted(scripts.reply(b'{"data":[]}'))
    post(gateway, "/v1/images/generations", f"azure/{model}", prompt="x")
    [seen] = upstream.of(model)
    assert seen.target == f"/v1/openai/deployments/{model}/images/generations?api-version=2025-01-01"


def test_limits_count_these_requests_too(gateway, scripted):
    model = scripted(scripts.reply(b'{"results":[]}'))
    assert post(gateway, "/v1/rerank", f"openai/{model}", secret=LIMITED, **RERANK).status == 200
    assert post(gateway, "/v1/moderations", f"openai/{model}", secret=LIMITED, input="x").fault == "policy_rate"
    body = form(model=f"openai/{model}", file=File(b"x"))
    reply = gateway.call("POST", "/v1/audio/transcriptions", body, secret=LIMITED, content_type=TYPE.decode())
    assert reply.fault == "policy_rate"
