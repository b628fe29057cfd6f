"""Embeddings, rerank and counts of tokens where client and upstream speak differently, over real sockets."""

from __future__ import annotations

import json

import anthropic
import pytest
from google import genai
from google.genai import types

from tests.fakes import scripts
from tests.fakes.gateway import KEY, Gateway, endpoint, new_id, route

VECTOR = {"embeddings": [{"values": [0.5, 1.0]}], "usageMetadata": {"promptTokenCount": 3}}


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    root = upstream.url.removesuffix("/v1")
    kinds = {"openai": upstream.url, "gemini": f"{root}/v1beta", "cohere": f"{root}/v2", "anthropic": upstream.url}
    endpoints = [endpoint(url, kind, provider=kind) for kind, url in kinds.items()]
    routes = [route(f"{kind}/*", kind, system_prompt="Be brief.", price={"input": 1000}) for kind in kinds]
    both = route("both/*", "anthropic", {"endpoint": "gemini", "priority": 1}, retry={"max_attempts": 2})
    return start({"endpoint": endpoints, "route": [*routes, both]})


def embed(gateway: Gateway, model: str, rid: str = "", **fields: object):
    body = {"model": model, "input": "Hello", **fields}
    return gateway.call("POST", "/v1/embeddings", json.dumps(body).encode(), x_request_id=rid or new_id())


def test_translated_embeddings_are_charged_by_the_providers_count(gateway, upstream, scripted):
    model, rid = scripted(scripts.reply(json.dumps(VECTOR).encode())), new_id()
    reply = embed(gateway, f"gemini/{model}", rid)
    assert reply.json["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]
    assert reply.json["model"] == f"gemini/{model}"
    row = gateway.row(rid)
    assert (row["operation"], row["tokens"]["input"], row["usage_source"]) == ("embeddings", 3, "provider")
    assert row["cost_nano"] == 3_000_000
    assert b"Be brief" not in upstream.of(model)[0].body, "a text that becomes a vector gets no system prompt"


def test_a_target_that_cannot_say_it_leaves_it_to_the_next_one(gateway, scripted):
    model = scripted(scripts.reply(json.dumps(VECTOR).encode()))
    assert embed(gateway, f"both/{model}").status == 200


@pytest.mark.parametrize(
    ("script", "status", "fault"),
    [
        (scripts.reply(b"{}"), 502, "provider_bad_reply"),
        (scripts.reply(b"<html>"), 502, "provider_bad_reply"),
        (scripts.reply(b'{"error":{"code":400,"message":"Too long"}}'), 400, "provider_rejected"),
        (scripts.reply(b'{"error":{"code":429,"message":"Slow down"}}', 429), 429, "provider_rate"),
        ([scripts.Send(scripts.head() + b"content-length: 99\r\n\r\n{"), scripts.Close()], 502, "provider_unreachable"),
    ],
)
def test_what_goes_wrong_there_is_told_in_the_clients_words(gateway, scripted, script, status, fault):
    rid = new_id()
    reply = embed(gateway, f"gemini/{scripted(script)}", rid)
    assert (reply.status, reply.fault) == (status, fault)
    assert reply.error["message"]
    assert gateway.row(rid)["cost_nano"] == 0


def test_token_ids_pass_to_openai_and_are_refused_elsewhere(gateway, upstream, scripted):
    model = scripted(scripts.reply(b'{"object":"list","data":[],"usage":{"prompt_tokens":2,"total_tokens":2}}'))
    assert embed(gateway, f"openai/{model}", input=[1, 2]).status == 200
    assert upstream.of(model)[0].json["input"] == [1, 2]
    assert embed(gateway, "gemini/m", input=[1, 2]).error["param"] == "input"


def test_googles_client_hears_errors_in_its_own_words(gateway, scripted):
    options = types.HttpOptions(base_url=gateway.url, api_version="v1beta")
    with genai.Client(api_key=KEY, vertexai=False, http_options=options) as client:
        with pytest.raises(genai.errors.ClientError) as caught:
            client.models.embed_content(model="anthropic/m", contents="x")
        assert caught.value.status == "INVALID_ARGUMENT"
    model = scripted(scripts.reply(json.dumps(VECTOR).encode()))
    path = f"/v1beta/models/gemini/{model}:embedContent"
    single = gateway.call("POST", path, b'{"content":{"parts":[{"text":"Hello"}]}}')
    assert single.json == {"embedding": {"values": [0.5, 1.0]}, "usageMetadata": {"promptTokenCount": 3}}


def test_tokens_are_counted_by_whoever_can_and_estimated_for_others(gateway, upstream, scripted):
    options = types.HttpOptions(base_url=gateway.url, api_version="v1beta")
    with genai.Client(api_key=KEY, vertexai=False, http_options=options) as client:
        model = scripted(scripts.reply(b'{"totalTokens":31}'))
        assert client.models.count_tokens(model=f"gemini/{model}", contents="Hello").total_tokens == 31
        assert upstream.of(model)[0].target.endswith(f"/models/{model}:countTokens")
        estimated = client.models.count_tokens(model="openai/m", contents="Hello, world! " * 10)
        assert estimated.total_tokens is not None
        assert 30 < estimated.total_tokens < 50
    with anthropic.Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as claude:
        told = claude.messages.with_raw_response.count_tokens(
            model="openai/m", messages=[{"role": "user", "content": "你好，世界" * 20}], system="x" * 40
        )
    assert 80 < told.parse().input_tokens < 110
    assert told.headers["x-tunegate-estimated"] == "true"
    assert not upstream.of("m"), "nobody was asked"


def test_an_estimate_is_a_row_that_costs_nothing(gateway):
    rid = new_id()
    body = b'{"model":"openai/m","messages":[{"role":"user","content":"Hello"}]}'
    reply = gateway.call("POST", "/v1/messages/count_tokens", body, x_request_id=rid)
    assert reply.json["input_tokens"] >= 1
    row = gateway.row(rid)
    assert (row["operation"], row["end"], row["cost_nano"], row["status"]) == ("count_tokens", "success", 0, 200)
