"""What the response cache does not keep, and what clients may say about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway, chat_request, eventually, new_id
from tests.fakes.upstream import Reset, Sleep
from tests.gateway.caching import USED, asked, configuration
from tests.matrix.told import Said
from tests.matrix.vendors import VENDORS, script


@pytest.fixture(scope="module")
def config(upstream) -> dict[str, Any]:
    return configuration(upstream.url)


@pytest.fixture(scope="module")
def gateway(start, config) -> Gateway:
    return start(config)


@pytest.fixture
def model(scripted) -> str:
    """The name of a model that answers each request with its number."""
    return scripted(*(scripts.chat([f"answer {n}"], USED) for n in range(1, 10)))


BROKEN = {
    "an error": scripts.error(500),
    "an error inside": scripts.reply(b'{"error": {"message": "no", "code": 500}}'),
    "no end": scripts.reply(wire.chat_body("half").replace(b'"stop"', b"null")),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_failed_and_unfinished_answers_are_not_kept(gateway, scripted, what):
    model = scripted(BROKEN[what], scripts.chat(["good"], USED))
    gateway.chat(f"c/{model}")
    assert asked(gateway, f"c/{model}") == ("miss", "good")
    assert asked(gateway, f"c/{model}") == ("hit", "good")


CUT = {
    "reset": scripts.stream([wire.word_event("half"), Reset()], end=False),
    "ended early": scripts.stream([wire.word_event("half")]),
    "an error in the middle": scripts.stream(
        [wire.word_event("half"), b'data: {"error": {"message": "no"}}\n\n', b"data: [DONE]\n\n"]
    ),
    "one of two ended": scripts.stream(
        [
            wire.word_event("half"),
            wire.event(wire.chunk("m", [{"index": 1, "delta": {"content": "x"}, "finish_reason": None}])),
            wire.finish_event(),
            b"data: [DONE]\n\n",
        ]
    ),
}


@pytest.mark.parametrize("what", list(CUT))
def test_a_stream_that_broke_off_is_not_kept(gateway, scripted, what):
    model = scripted(CUT[what], scripts.chat(["good"], USED))
    gateway.chat(f"c/{model}", stream=True)
    assert asked(gateway, f"c/{model}", stream=True) == ("miss", "good")


def test_the_answer_of_a_client_that_left_is_not_kept(gateway, upstream, scripted):
    model, rid = scripted(scripts.stream([wire.word_event("half"), Sleep(5.0)]), scripts.chat(["good"], USED)), new_id()
    with gateway.open(f"c/{model}", rid, stream=True) as conn:
        conn.response(stop=10)
        conn.abort()
    assert gateway.row(rid)["end"] == "client_gone_partial"
    assert asked(gateway, f"c/{model}", stream=True) == ("miss", "good")


def test_too_long_an_answer_is_not_kept(gateway, scripted):
    model = scripted(scripts.chat(["x" * 900], USED))
    for stream in (False, True):
        for _ in range(2):
            assert asked(gateway, f"small/{model}", stream=stream)[0] == "miss"


def test_answers_that_somebody_keeps_under_their_id_are_asked_for_again(gateway, upstream, scripted):
    vendor, arrived = VENDORS["openai"], []
    model = scripted([])
    upstream.on(model, script(vendor, Said("Hello"), arrived.append))
    for fields in ({}, {"store": True}, {"store": False}, {"store": False}):
        body = json.dumps({"model": f"c/{model}", "input": "x", **fields}).encode()
        reply = gateway.call("POST", "/v1/responses", body)
        fields["id"] = reply.json["id"]
        last = reply.header("x-tunegate-cache")
    assert (last, len(arrived)) == ("hit", 3)
    assert asked(gateway, f"c/{model}", store=True)[0] == "bypass"


def test_an_answer_is_forgotten_when_its_time_is_over(gateway, model):
    assert asked(gateway, f"short/{model}")[0] == "miss"
    eventually(lambda: asked(gateway, f"short/{model}") == ("miss", "answer 2"), 5)


def test_the_least_recently_used_go_when_there_is_no_room(gateway, scripted):
    model = scripted(scripts.chat(["x" * 9000], USED))
    for seed in (0, 1, 2):
        asked(gateway, f"c/{model}", seed=seed)
    for seed in (*range(3, 9), 0, *range(9, 14)):
        asked(gateway, f"c/{model}", seed=seed)
    assert asked(gateway, f"c/{model}", seed=0)[0] == "hit"
    assert asked(gateway, f"c/{model}", seed=1)[0] == "miss"
    assert 50_000 < gateway.metric("^tunegate_cache_bytes") <= 100_000


# ---- what the client says


def test_no_store_neither_reads_nor_keeps(gateway, model):
    no = {"headers": {"cache_control": "no-store"}}
    assert asked(gateway, f"c/{model}", **no) == ("bypass", "answer 1")
    assert asked(gateway, f"c/{model}") == ("miss", "answer 2")
    assert asked(gateway, f"c/{model}", **no) == ("bypass", "answer 3")
    assert asked(gateway, f"c/{model}") == ("hit", "answer 2")


def test_no_cache_asks_anew_and_keeps_what_comes(gateway, model):
    asked(gateway, f"c/{model}")
    assert asked(gateway, f"c/{model}", headers={"cache_control": "No-Cache"}) == ("bypass", "answer 2")
    assert asked(gateway, f"c/{model}") == ("hit", "answer 2")


def test_an_answer_may_be_too_old_for_a_client(gateway, model):
    asked(gateway, f"c/{model}")
    assert asked(gateway, f"c/{model}", headers={"cache_control": "max-age=60, other"}) == ("hit", "answer 1")
    assert asked(gateway, f"c/{model}", headers={"cache_control": "max-age=0"}) == ("bypass", "answer 2")
    for nonsense in ("max-age=x", "max-age=-1", ",,=", "max-age=99999999999999999999", "\x80"):
        assert asked(gateway, f"c/{model}", headers={"cache_control": nonsense})[0] == "hit", nonsense


def test_bodies_that_are_to_be_kept_by_nobody_are_not_kept_here_either(gateway, model):
    no = {"headers": {"x_tunegate_no_log": "1"}}
    assert asked(gateway, f"c/{model}", **no)[0] == "miss"
    assert asked(gateway, f"c/{model}", **no) == ("miss", "answer 2")


def test_bodies_that_are_huge_or_nested_without_end_are_not_looked_for(gateway, model):
    deep = json.dumps(chat_request(f"c/{model}", odd="X")).replace('"X"', "[" * 400 + "]" * 400).encode()
    huge = json.dumps(chat_request(f"c/{model}", odd="x" * 1_100_000)).encode()
    for body in (deep, deep, huge, huge):
        reply = gateway.call("POST", "/v1/chat/completions", body)
        assert (reply.status, reply.header("x-tunegate-cache")) == (200, "bypass")


def test_a_body_with_a_member_twice_gives_nobody_an_answer(gateway, model):
    innocent = json.dumps(chat_request(f"team/{model}")).encode()
    twice = innocent.replace(b'"messages"', b'"messages": [{"role": "user", "content": "lie"}], "messages"', 1)
    assert json.loads(twice) == json.loads(innocent)
    told = [gateway.call("POST", "/v1/chat/completions", body) for body in (twice, innocent, twice)]
    assert [reply.header("x-tunegate-cache") for reply in told] == ["bypass", "miss", "bypass"]


def test_a_route_without_a_cache_says_nothing_of_one(gateway, model):
    rid = new_id()
    reply = gateway.chat(f"plain/{model}", rid=rid)
    assert reply.header("x-tunegate-cache") is None
    assert "cache" not in gateway.row(rid)


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_guard_has_restored_is_given_again_to_the_same_request_only(gateway, upstream, scripted, stream):
    """The model gets and says a mask; its client gets the number back, the second time from the cache."""
    model = scripted(scripts.chat(["call [PHONE_1]"], USED), scripts.chat(["call [PHONE_1] now"], USED))
    first, other = ([{"role": "user", "content": f"I am at {number}"}] for number in ("13812345678", "13900001111"))
    for messages, result, said in (
        (first, "miss", "call 13812345678"),
        (first, "hit", "call 13812345678"),
        (other, "miss", "call 13900001111 now"),
    ):
        assert asked(gateway, f"guarded/{model}", messages=messages, stream=stream) == (result, said)
    assert "138123" not in json.dumps([seen.json for seen in upstream.of(model)])


def test_an_answer_that_nobody_could_judge_is_not_given_again_unjudged(gateway, upstream, scripted):
    model = scripted(scripts.chat(["awful"], USED))
    upstream.on("judge", scripts.error(500))
    assert asked(gateway, f"judged/{model}") == ("miss", "awful")
    upstream.on("judge", scripts.reply(b'{"results": [{"flagged": true}]}'))
    reply = gateway.chat(f"judged/{model}")
    assert (reply.status, reply.header("x-tunegate-guard")) == (400, "blocked; by=moderation")
    upstream.on("judge", scripts.reply(b'{"results": [{"flagged": false}]}'))
    assert [asked(gateway, f"judged/{model}")[0] for _ in range(2)] == ["miss", "hit"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_a_guard_has_stopped_is_not_kept(gateway, scripted, stream):
    model = scripted(scripts.chat(["the falcon"], USED), scripts.chat(["a dove"], USED))
    gateway.chat(f"guarded/{model}", stream=stream)
    assert asked(gateway, f"guarded/{model}", stream=stream) == ("miss", "a dove")
