"""`include_usage` is added to every stream, and its extra chunk is hidden from a client that did not ask."""

from __future__ import annotations

import json

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway, endpoint, new_id, route
from tests.fakes.wire import Usage


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    kinds = ["openai", "deepseek", "vllm", "zhipu", "dashscope"]
    endpoints = [endpoint(upstream.url, kind) | {"provider": kind} for kind in kinds]
    return start({"endpoint": endpoints, "route": [route(f"{kind}/*", kind) for kind in kinds]})


def with_usage(reply) -> list[str]:
    """Events whose object has a usage that is not null."""
    return [e for e in reply.events if e != "[DONE]" and json.loads(e).get("usage")]


OPTIONS = {
    "absent": {},
    "null": {"stream_options": None},
    "empty": {"stream_options": {}},
    "false": {"stream_options": {"include_usage": False}},
    "other options": {"stream_options": {"include_obfuscation": False}},
}


@pytest.mark.parametrize("fields", OPTIONS.values(), ids=OPTIONS.keys())
def test_usage_is_asked_for_and_its_chunk_hidden(gateway, upstream, scripted, fields):
    name = scripted(scripts.chat(["a", "b"]))
    rid = new_id()
    reply = gateway.chat(f"openai/{name}", rid=rid, stream=True, odd=[1], **fields)
    seen = upstream.of(name)[-1]
    assert seen.asks_usage
    sent = seen.json
    options = sent.pop("stream_options")
    wanted = fields.get("stream_options") or {}
    assert {k: v for k, v in options.items() if k != "include_usage"} == {
        k: v for k, v in wanted.items() if k != "include_usage"
    }
    assert set(sent) == {"model", "messages", "stream", "odd"}
    events = wire.openai_stream(["a", "b"], Usage(), seen.model, asked=True)
    assert reply.body == b"".join(e for e in events if b'"choices":[]' not in e)
    assert reply.events[-1] == "[DONE]"
    assert gateway.row(rid)["usage_source"] == "provider"


def test_a_client_that_asks_gets_the_chunk_and_its_bytes_go_upstream_unchanged(gateway, upstream, scripted):
    name = scripted(scripts.chat(["a"]))
    reply = gateway.chat(f"openai/{name}", stream=True, stream_options={"include_usage": True, "x": 1})
    assert len(with_usage(reply)) == 1
    assert upstream.of(name)[-1].json["stream_options"] == {"include_usage": True, "x": 1}


def test_numbers_survive_the_injection(gateway, upstream, scripted):
    name = scripted(scripts.chat())
    body = (
        b'{"big":123456789012345678901,"f":1.0,\n "model":"openai/%b","stream":true,"messages":[{"role":"user"}]}'
        % name.encode()
    )
    assert gateway.call("POST", "/v1/chat/completions", body).status == 200
    raw = upstream.of(name)[-1].body
    assert b'"big":123456789012345678901,"f":1.0,\n ' in raw


def test_a_request_without_stream_gets_no_stream_options(gateway, upstream, scripted):
    name = scripted(scripts.chat())
    for fields in ({}, {"stream": False}, {"stream": None}):
        assert gateway.chat(f"openai/{name}", **fields).status == 200
        assert "stream_options" not in upstream.of(name)[-1].json


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("kind", ["openai", "deepseek", "vllm", "zhipu", "dashscope"])
def test_each_providers_usage_is_understood(gateway, scripted, kind, asked):
    usage = Usage(prompt=31, completion=17, cached=12, reasoning=5 if kind in ("openai", "deepseek") else 0)
    name = scripted(scripts.chat(["a", "b"], usage, flavour=kind))
    rid = new_id()
    options = {"stream_options": {"include_usage": True}} if asked else {}
    reply = gateway.chat(f"{kind}/{name}", rid=rid, stream=True, **options)
    assert reply.complete
    assert reply.words == "ab"
    assert reply.events[-1] == "[DONE]"
    finishes = [e for e in reply.events[:-1] if '"finish_reason":"stop"' in e]
    assert len(finishes) == 1, "the chunk that ends the answer must never be hidden, even if it has the usage"
    row = gateway.row(rid)
    assert (row["end"], row["usage_source"]) == ("success", "provider")
    assert row["tokens"] == usage.buckets()


@pytest.mark.parametrize("kind", ["openai", "deepseek", "vllm", "zhipu", "dashscope"])
def test_each_providers_usage_of_a_complete_reply_is_understood(gateway, scripted, kind):
    usage = Usage(prompt=31, completion=17, cached=12, reasoning=5 if kind in ("openai", "deepseek") else 0)
    name = scripted(scripts.chat(["a", "b"], usage, flavour=kind))
    rid = new_id()
    assert gateway.chat(f"{kind}/{name}", rid=rid).status == 200
    row = gateway.row(rid)
    assert (row["usage_source"], row["tokens"]) == ("provider", usage.buckets())


W, F, D = wire.word_event("hello"), wire.finish_event(), wire.DONE
ZERO = Usage(0, 0)
PLACES = {
    "before the content": (
        [wire.role_event(), wire.usage_event(Usage()), W, F, D],
        "provider",
        Usage().buckets(),
    ),
    "after the content": ([W, F, wire.usage_event(Usage()), D], "provider", Usage().buckets()),
    "after [DONE]": ([W, F, D, wire.usage_event(Usage())], "provider", Usage().buckets()),
    "twice, the last counts": (
        [W, wire.usage_event(Usage(1, 1)), F, wire.usage_event(Usage()), D],
        "provider",
        Usage().buckets(),
    ),
    "explicitly zero": ([W, F, wire.usage_event(ZERO), D], "provider", ZERO.buckets()),
    "absent": ([W, F, D], "estimated", None),
    "null": ([W, F, wire.event(wire.chunk("m", [], usage=None)), D], "estimated", None),
    "null in every event, then in the same write": (
        [
            W,
            *[wire.word_event(word, usage=None) for word in "ab"],
            wire.word_event("c", usage=None) + wire.finish_event(usage=None) + wire.usage_event(Usage()),
            D,
        ],
        "provider",
        Usage().buckets(),
    ),
    "null after it in the same write": (
        [W, F + wire.usage_event(Usage()) + wire.event(wire.chunk("m", [], usage=None)), D],
        "provider",
        Usage().buckets(),
    ),
    "not an object": ([W, F, wire.event(wire.chunk("m", [], usage="many")), D], "estimated", None),
    "negative": ([W, F, wire.event(wire.chunk("m", [], usage=Usage(-5, 2).openai())), D], "estimated", None),
    "in a string of the answer": (
        [wire.word_event('{"usage":{"prompt_tokens":999,"completion_tokens":999}}'), F, D],
        "estimated",
        None,
    ),
    "no [DONE] at all": ([W, F, wire.usage_event(Usage())], "provider", Usage().buckets()),
}


@pytest.mark.parametrize(("parts", "source", "tokens"), PLACES.values(), ids=PLACES.keys())
def test_usage_is_found_wherever_it_is(gateway, scripted, parts, source, tokens):
    rid = new_id()
    reply = gateway.chat(f"openai/{scripted(scripts.stream(parts))}", rid=rid, stream=True)
    assert reply.complete
    row = gateway.row(rid)
    assert (row["end"], row["usage_source"]) == ("success", source)
    if tokens is not None:
        assert row["tokens"] == tokens
    else:
        assert 0 < row["tokens"]["input"] < 100
        assert 0 < row["tokens"]["output"] < 100


def test_usage_split_over_many_writes_is_found(gateway, scripted):
    data = b"".join(wire.openai_stream(["a"], Usage(77, 33), asked=True))
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
    rid = new_id()
    reply = gateway.chat(f"openai/{scripted(scripts.stream(pieces))}", rid=rid, stream=True)
    assert reply.complete
    assert not with_usage(reply)
    assert gateway.row(rid)["tokens"] == Usage(77, 33).buckets()


def test_a_last_event_without_its_blank_line_still_counts(gateway, scripted):
    data = b"".join(wire.openai_stream(["a"], Usage(77, 33), asked=True)[:-1]).rstrip(b"\n")
    rid = new_id()
    gateway.chat(f"openai/{scripted(scripts.stream([data]))}", rid=rid, stream=True)
    assert gateway.row(rid)["tokens"] == Usage(77, 33).buckets()
