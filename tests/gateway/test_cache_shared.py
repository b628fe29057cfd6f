"""Answers that gateways share in Redis, and questions that mean the same: neither ever holds up or fails a request."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes import scripts
from tests.fakes.gateway import Config, Gateway, digest, endpoint, eventually, key, new_id, route
from tests.fakes.redis_server import RedisServer
from tests.fakes.upstream import Mark, Seen, Upstream, Wait
from tests.fakes.wire import Usage

PRICE = {"input": 1000.0, "output": 1000.0}
USED = Usage(7, 3)
OTHER = "sk-tg-" + digest("other")[:40]


def config(upstream: Upstream, **more: Any) -> Config:
    semantic = {"route": "vectors", "threshold": 0.95, "candidates": 5, "timeout": 2.0}
    return {
        "endpoint": [endpoint(upstream.url)],
        "route": [
            route("c/*", price=PRICE, cache={"ttl": 600.0}),
            route("short/*", price=PRICE, cache={"ttl": 1.0}),
            route("s/*", price=PRICE, cache={"ttl": 600.0, "semantic": semantic}),
            route("hasty/*", price=PRICE, cache={"ttl": 600.0, "semantic": {**semantic, "timeout": 0.05}}),
            route("vectors", "up/vectors", price={"input": 1.0}),
        ],
        "key": [key("tester"), key("other", OTHER)],
        **more,
    }


def said(gateway: Gateway, model: str, text: str = "Say hello", **fields: Any) -> tuple[str | None, str]:
    """(what the cache had, what the client heard)."""
    fields.setdefault("messages", [{"role": "user", "content": text}])
    reply = gateway.chat(model, **fields)
    assert reply.status == 200, reply.body
    return reply.header("x-tunegate-cache"), reply.json["choices"][0]["message"]["content"]


@pytest.fixture
def model(scripted) -> str:
    return scripted(*(scripts.chat([f"answer {n}"], USED) for n in range(1, 20)))


# ---- Redis


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def pair(start, upstream, redis) -> list[Gateway]:
    """Two gateways with one Redis; they wait for it longer than any busy machine takes."""
    limits = {"backend": "redis", "url": redis.url, "wait": 1.0}
    return [start(config(upstream, limits=limits)) for _ in range(2)]


def dump(redis: RedisServer) -> dict[str, str]:
    """Name of each kept answer -> its bytes, as Redis tells them."""
    with socket.create_connection(("127.0.0.1", redis.port), 2) as conn:

        def ask(*words: str) -> str:
            conn.sendall("".join((f"*{len(words)}\r\n", *(f"${len(w)}\r\n{w}\r\n" for w in words))).encode())
            time.sleep(0.02)
            return conn.recv(1_000_000).decode("latin-1")

        return {name: ask("GET", name) for name in re.findall(r"\{tunegate\}:answer:\w+", ask("KEYS", "*:answer:*"))}


def test_what_one_gateway_has_heard_another_knows(pair, upstream, redis, model):
    first, second = pair
    rid = new_id()
    assert said(first, f"c/{model}") == ("miss", "answer 1")
    eventually(lambda: dump(redis), 5)
    assert said(second, f"c/{model}", rid=rid) == ("hit", "answer 1")
    assert second.row(rid)["cache"]["saved_nano"] == 10_000_000
    assert said(second, f"c/{model}", secret=OTHER) == ("miss", "answer 2")
    assert len(upstream.of(model)) == 2
    held = dump(redis)
    assert held
    for name, value in held.items():
        assert "answer" not in value, "it is sealed"
        assert "tester" not in name + value
        assert 0 < int(redis.command("PTTL", name)[1:]) <= 600_000
    assert second.metric('^tunegate_cache_redis_calls_total.*"found"') >= 1


def test_redis_that_was_flushed_has_nothing_and_what_it_is_told_is_not_believed(pair, redis, model):
    first, second = pair
    said(first, f"c/{model}")
    eventually(lambda: dump(redis), 5)
    for name in dump(redis):
        redis.command("SET", name, "forged-and-much-longer-than-a-nonce")
    assert said(second, f"c/{model}") == ("miss", "answer 2")
    eventually(lambda: second.metric('^tunegate_cache_redis_calls_total.*"unreadable"') == 1, 5)
    redis.command("FLUSHALL")
    assert said(second, f"c/{model}", seed=1) == ("miss", "answer 3")
    assert said(first, f"c/{model}") == ("hit", "answer 1"), "its own memory has it"


def test_it_is_too_old_for_everybody_at_the_same_time(pair, redis, model):
    first, second = pair
    assert said(first, f"short/{model}") == ("miss", "answer 1")
    time.sleep(1.1)
    assert said(second, f"short/{model}") == ("miss", "answer 2")


def test_a_redis_that_is_silent_or_dead_is_a_miss_and_comes_back(start, upstream, model):
    with RedisServer() as own:
        gateway = start(config(upstream, limits={"backend": "redis", "url": own.url, "wait": 0.05}))
        eventually(lambda: said(gateway, f"c/{model}", seed=0) and dump(own), 5)
        own.pause()
        for seed in range(1, 7):
            began = time.monotonic()
            assert said(gateway, f"c/{model}", seed=seed)[0] == "miss"
            assert time.monotonic() - began < 2.0
        assert said(gateway, f"c/{model}", seed=3)[0] == "hit", "its own memory has it"
        calls = gateway.metrics()
        told = {re.search(r'outcome="(\w+)"', name)[1] for name in calls if "cache_redis_calls" in name}  # type: ignore[index]
        assert {"late", "left_out"} <= told | {"failed"}
        own.go_on()
        own.kill()
        assert said(gateway, f"c/{model}", seed=7)[0] == "miss"
        own.start()
        seeds = iter(range(100, 1000))
        eventually(lambda: said(gateway, f"c/{model}", seed=next(seeds)) and dump(own), 10)


# ---- meaning


PLACES = {
    "What is a lease?": [1.0, 0.0, 0.1],
    "What's a lease, please?": [1.0, 0.02, 0.1],
    "How do I cook rice?": [0.0, 1.0, 0.2],
}


@pytest.fixture(scope="module")
def meaning(upstream) -> None:
    """The model that embeds: each text has its place."""

    def embed(seen: Seen) -> list[Any]:
        text = seen.json["input"]
        numbers = [*PLACES.get(text, [0.0, 0.0, 0.0]), *(float(text == f"Far away, {n}") for n in range(5)), 0.01]
        data = [{"object": "embedding", "index": 0, "embedding": numbers}]
        body = {"object": "list", "data": data, "model": "v", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
        return scripts.reply(json.dumps(body).encode())

    upstream.on("vectors", embed)


@pytest.fixture(scope="module")
def gateway(start, upstream, meaning) -> Gateway:
    return start(config(upstream))


FIRST, SAME, FAR = PLACES


def test_a_question_that_means_the_same_gets_the_same_answer(gateway, model):
    rids = [new_id() for _ in range(3)]
    assert said(gateway, f"s/{model}", FIRST, rid=rids[0]) == ("miss", "answer 1")
    assert said(gateway, f"s/{model}", SAME, rid=rids[1]) == ("semantic", "answer 1")
    assert said(gateway, f"s/{model}", FAR, rid=rids[2]) == ("miss", "answer 2")
    assert said(gateway, f"s/{model}", FIRST)[0] == "hit"
    rows = eventually(lambda: len(found := gateway.rows(rids[1])) == 2 and found, 5)
    by_operation = {row["operation"]: row for row in rows}
    embedded, hit = by_operation["embeddings"], by_operation["chat"]
    assert (embedded["key"], embedded["route"], embedded["cost_nano"]) == ("tester", "vectors", 5_000)
    assert (hit["cache"]["result"], hit["cost_nano"], hit["cache"]["saved_nano"]) == ("semantic", 0, 10_000_000)


@pytest.mark.parametrize(
    "other",
    [
        {"secret": OTHER},
        {"temperature": 0.1},
        {"unknown": 1},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SAME}]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"},
                      {"role": "user", "content": SAME}]},
        {"messages": [{"role": "user", "content": SAME + " " * 3 + "x" * 2000}]},
        {"headers": {"cache_control": "no-cache"}},
    ],
)  # fmt: skip
def test_but_only_if_all_else_is_equal(gateway, model, other):
    assert said(gateway, f"s/{model}", FIRST) == ("miss", "answer 1")
    had, answer = said(gateway, f"s/{model}", SAME, **other)
    assert had in ("miss", "bypass")
    assert answer == "answer 2"


def test_pictures_and_several_answers_are_not_compared(gateway, model):
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": FIRST}, picture]}]}
    for fields in (asked, {"n": 2}, {"messages": [{"role": "user", "content": " "}]}):
        rid = new_id()
        assert said(gateway, f"s/{model}", FIRST, rid=rid, **fields)[0] == "miss"
        assert gateway.row(rid)["operation"] == "chat", "and no other"


def test_streams_and_other_dialects_are_compared_too(gateway, model):
    assert said(gateway, f"s/{model}", FIRST, temperature=0.7)[1] == "answer 1"
    reply = gateway.chat(
        f"s/{model}", stream=True, temperature=0.7, user="u", messages=[{"role": "user", "content": SAME}]
    )
    assert reply.header("x-tunegate-cache") == "semantic"
    assert b"answer 1" in reply.body
    body = {"model": f"s/{model}", "max_tokens": 9}
    for text, had in ((FIRST, "miss"), (SAME, "semantic")):
        message = json.dumps({**body, "messages": [{"role": "user", "content": text}]}).encode()
        assert gateway.call("POST", "/v1/messages", message).header("x-tunegate-cache") == had


def test_only_the_latest_questions_are_candidates(gateway, model):
    assert said(gateway, f"s/{model}", FIRST)[1] == "answer 1"
    for number in range(5):
        said(gateway, f"s/{model}", f"Far away, {number}", secret=OTHER)
    assert said(gateway, f"s/{model}", SAME)[0] == "semantic", "those were another caller's"
    for number in range(5):
        assert said(gateway, f"s/{model}", f"Far away, {number}")[0] == "miss"
    assert said(gateway, f"s/{model}", SAME)[0] == "miss"
    assert said(gateway, f"s/{model}", FIRST) == ("hit", "answer 1"), "an equal one is found all the same"


BAD = {
    "down": scripts.error(500),
    "no vector": scripts.reply(b'{"object": "list", "data": []}'),
    "no number": scripts.reply(b'{"data": [{"embedding": ["a"]}]}'),
    "nothing": scripts.reply(b'{"data": [{"embedding": [0, 0]}]}'),
    "huge": scripts.reply(b'{"data": [{"embedding": [' + b"1," * 600_000 + b"1]}]}"),
}


@pytest.mark.parametrize("what", list(BAD))
def test_without_an_embedding_the_model_is_asked(gateway, upstream, model, what):
    upstream.queue("vectors", BAD[what])
    assert said(gateway, f"s/{model}", FIRST) == ("miss", "answer 1")
    assert said(gateway, f"s/{model}", SAME) == ("miss", "answer 2"), "the first one has no vector"


def test_a_slow_embedding_is_not_waited_for_and_is_there_for_the_next(gateway, upstream, model):
    go, began = threading.Event(), threading.Event()
    data = [{"embedding": PLACES[FIRST]}]
    upstream.queue("vectors", [Mark(began), Wait(go), *scripts.reply(json.dumps({"data": data}).encode())])
    assert said(gateway, f"hasty/{model}", FIRST) == ("miss", "answer 1")
    assert began.is_set()
    go.set()
    assert said(gateway, f"hasty/{model}", FIRST)[0] == "hit"


def test_a_stop_settles_an_embedding_that_is_under_way(start, upstream, meaning, model, tmp_path):
    own = start(config(upstream), folder=tmp_path)
    go, rid = threading.Event(), new_id()
    upstream.queue("vectors", [Wait(go, 20.0)])
    assert said(own, f"hasty/{model}", FIRST, rid=rid)[0] == "miss"
    assert own.stop(10.0) == 0
    go.set()
    ends = {row["operation"]: row["end"] for row in own.rows(rid)}
    assert ends == {"chat": "success", "embeddings": "stopped"}
