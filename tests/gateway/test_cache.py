"""The response cache before a scriptable upstream: what is answered again, to whom, in which form, at what price."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import scripts
from tests.fakes.gateway import Gateway, chat_request, eventually, new_id
from tests.fakes.upstream import Mark, Wait
from tests.gateway.caching import FULL, USED, asked, configuration, heard, secret


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


# ---- equal requests


@pytest.mark.parametrize(("first", "second"), [(False, False), (True, True), (False, True), (True, False)])
def test_an_equal_request_gets_the_same_answer_streamed_or_not(gateway, upstream, model, first, second):
    rid = new_id()
    assert asked(gateway, f"c/{model}", stream=first) == ("miss", "answer 1")
    reply = gateway.chat(f"c/{model}", stream=second, rid=rid)
    assert (reply.header("x-tunegate-cache"), heard(reply)) == ("hit", "answer 1")
    assert int(reply.header("age") or "99") < 60
    assert reply.header("x-tunegate-attempts") == "0"
    assert reply.header("x-tunegate-target") is None
    assert len(upstream.of(model)) == 1
    row = gateway.row(rid)
    assert row["cache"] == {"result": "hit", "age": 0, "saved_nano": FULL}
    assert (row["end"], row["status"], row["attempts"], row["endpoint"]) == ("success", 200, [], None)
    assert (row["tokens"]["input"], row["tokens"]["output"], row["usage_source"]) == (7, 3, "provider")


def test_a_whole_answer_and_a_stream_come_back_byte_for_byte(gateway, scripted):
    model = scripted(scripts.chat(["odd "], USED))
    for stream in (False, True):
        fields = {"stream": stream, "seed": int(stream)}
        first, second = gateway.chat(f"c/{model}", **fields), gateway.chat(f"c/{model}", **fields)
        assert second.header("x-tunegate-cache") == "hit"
        assert second.body == first.body


def test_a_streams_usage_chunk_is_there_for_whoever_asks_for_it(gateway, model):
    wanted = {"stream": True, "stream_options": {"include_usage": True}}
    assert asked(gateway, f"c/{model}", stream=True)[0] == "miss"
    reply = gateway.chat(f"c/{model}", **wanted)
    assert (reply.header("x-tunegate-cache"), heard(reply)) == ("hit", "answer 1")
    usage = scripts.payloads(reply.body)[-1]["usage"]
    assert isinstance(usage, dict)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (7, 3)
    again = gateway.chat(f"c/{model}", stream=True)
    assert not any(chunk.get("usage") for chunk in scripts.payloads(again.body))


@pytest.mark.parametrize(
    "same", [{"user": "u"}, {"metadata": {"a": "b"}}, {"prompt_cache_key": "k"}, {"safety_identifier": "s"}]
)
def test_what_changes_no_answer_is_not_in_the_key(gateway, model, same):
    asked(gateway, f"c/{model}")
    assert asked(gateway, f"c/{model}", **same) == ("hit", "answer 1")


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 0.5}, {"seed": 1}, {"messages": [{"role": "user", "content": "say hello to the world"}]},
        {"unknown": None}, {"max_tokens": 5}, {"tools": []}, {"headers": {"openai_beta": "x"}},
    ],
)  # fmt: skip
def test_anything_else_is(gateway, model, other):
    asked(gateway, f"c/{model}")
    assert asked(gateway, f"c/{model}", **other) == ("miss", "answer 2")


def test_the_order_of_members_and_blanks_do_not_count(gateway, model):
    body = chat_request(f"c/{model}", seed=1, temperature=0.5)
    for text in (json.dumps(body), json.dumps(dict(reversed(body.items())), indent=3)):
        reply = gateway.call("POST", "/v1/chat/completions", text.encode())
    assert (reply.header("x-tunegate-cache"), heard(reply)) == ("hit", "answer 1")


def test_other_operations_are_answered_again_in_their_own_form(gateway, upstream, scripted):
    model = scripted(scripts.chat(["text"], USED))
    for path, fields in (
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/completions", {"prompt": "x", "stream": True}),
        ("/v1/embeddings", {"input": ["x", "y"]}),
    ):
        before = len(upstream.of(model))
        body = json.dumps({"model": f"c/{model}", **fields}).encode()
        first, second = (gateway.call("POST", path, body) for _ in range(2))
        assert [one.header("x-tunegate-cache") for one in (first, second)] == ["miss", "hit"], path
        assert first.body == second.body
        assert len(upstream.of(model)) == before + 1


# ---- whose it is


def test_an_answer_is_its_keys_own_or_its_teams(gateway, model):
    def who(name: str, prefix: str) -> str:
        return asked(gateway, f"{prefix}/{model}", secret=secret(name))[0]

    assert [who(name, "c") for name in ("ann", "ben", "cleo", "ann")] == ["miss", "miss", "miss", "hit"]
    assert [who(name, "team") for name in ("ann", "ben", "cleo", "alone", "alone-too")] == [
        "miss", "hit", "miss", "miss", "miss",
    ]  # fmt: skip


def test_rights_and_limits_come_first(gateway, model):
    for _ in range(2):
        assert asked(gateway, f"c/{model}", secret=secret("few"))[1] == "answer 1"
    assert gateway.chat(f"c/{model}", secret=secret("few")).status == 429, "a hit counts, too"
    asked(gateway, f"free/{model}", secret=secret("narrow"))
    assert gateway.chat(f"c/{model}", secret=secret("narrow")).status == 403
    assert gateway.chat(f"c/{model}", secret="sk-tg-nobody-0123456789abc").status == 401


def test_a_revoked_key_gets_nothing(start, config, model, tmp_path):
    own = start(config, folder=tmp_path)
    assert asked(own, f"team/{model}", secret=secret("ann"))[0] == "miss"
    assert asked(own, f"team/{model}", secret=secret("ann"))[0] == "hit"
    own.write({**config, "key": [{**one, "enabled": one["name"] != "ann"} for one in config["key"]]})
    eventually(lambda: own.chat(f"team/{model}", secret=secret("ann")).status == 401, 10)
    assert asked(own, f"team/{model}", secret=secret("ben")) == ("hit", "answer 1"), "its team has it still"


@pytest.mark.parametrize("change", [{"price": {"input": 2.0}}, {"system_prompt": "New."}, {"cache": {"ttl": 601.0}}])
def test_a_changed_route_forgets_its_answers(start, config, model, tmp_path, change):
    own = start(config, folder=tmp_path)
    for _ in range(2):
        assert asked(own, f"c/{model}")[1] == "answer 1"
    own.write({**config, "route": [{**one, **change} if one["name"] == "c/*" else one for one in config["route"]]})
    eventually(lambda: own.events("snapshot.swapped"), 10)
    assert asked(own, f"c/{model}") == ("miss", "answer 2")


# ---- what it costs


@pytest.mark.parametrize(("policy", "cost"), [("free", 0), ("half", FULL // 2), ("full", FULL)])
def test_a_hit_costs_its_part_of_the_price(gateway, model, policy, cost):
    rids = [new_id(), new_id()]
    for rid in rids:
        asked(gateway, f"{policy}/{model}", rid=rid)
    first, second = map(gateway.row, rids)
    assert (first["cost_nano"], first["cache"]) == (FULL, {"result": "miss", "age": 0, "saved_nano": 0})
    assert (second["cost_nano"], second["cache"]["saved_nano"]) == (cost, FULL - cost)


def test_free_answers_leave_the_budget_alone_and_a_spent_one_refuses_them(gateway, model):
    mine = {"secret": secret("poor"), "max_tokens": 1}  # of 15 million, 10 are spent by one answer
    body = {"messages": [{"role": "user", "content": "x"}]}
    assert asked(gateway, f"free/{model}", **mine, **body)[0] == "miss"
    budget = {"secret": secret("poor"), **body}
    assert [asked(gateway, f"free/{model}", **mine, **body)[0] for _ in range(3)] == ["hit"] * 3
    assert asked(gateway, f"full/{model}", **mine, **body)[0] == "miss"
    assert gateway.chat(f"free/{model}", **budget).status == 429


def test_the_answer_of_a_fallback_costs_what_it_cost_there(gateway, upstream, scripted):
    upstream.on("broken", scripts.error(500))
    upstream.on("rescue", scripts.chat(["saved"], USED))
    rids = [new_id(), new_id()]
    assert [asked(gateway, "spare/x", rid=rid) for rid in rids] == [("miss", "saved"), ("hit", "saved")]
    assert gateway.row(rids[1])["cache"]["saved_nano"] == FULL


# ---- what stands beside


def test_hits_are_logged_and_not_copied_to_a_shadow(gateway, upstream, model):
    upstream.on("copy", scripts.chat(["copied"], USED))
    rids = [new_id(), new_id()]
    for rid in rids:
        assert asked(gateway, f"shadowed/{model}", rid=rid)[1] == "answer 1"
    eventually(lambda: len(gateway.rows(rids[0])) == 2, 5)
    hit = gateway.row(rids[1])

    def logged() -> list[dict[str, Any]]:
        files = (gateway.data / "request-log").glob("*")
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    [entry] = eventually(lambda: [one for one in logged() if one["id"] == hit["id"]], 5)
    assert "answer 1" in entry["response"]
    assert len(upstream.of("copy")) == 1


def test_the_routes_prompt_is_part_of_the_question(gateway, upstream, model):
    asked(gateway, f"prompted/{model}")
    assert asked(gateway, f"prompted/{model}") == ("hit", "answer 1")
    assert upstream.of(model)[-1].json["messages"][0]["content"] == "Be kind."


def test_equal_requests_at_a_time_are_all_sent_and_the_last_answer_stays(gateway, upstream, scripted):
    go, began = threading.Event(), threading.Event()
    slow = lambda seen: [Mark(began), Wait(go), *scripts.chat(["slow"], USED)(seen)]  # noqa: E731
    model = scripted(slow, scripts.chat(["fast"], USED))
    results: list[tuple[str, str]] = []
    thread = threading.Thread(target=lambda: results.append(asked(gateway, f"c/{model}")))
    thread.start()
    assert began.wait(5)
    assert asked(gateway, f"c/{model}") == ("miss", "fast")
    go.set()
    thread.join(10)
    assert results == [("miss", "slow")]
    assert asked(gateway, f"c/{model}") == ("hit", "slow")


def test_metrics_tell_hits_from_misses(gateway, model):
    pattern = (
        r'^tunegate_cache_total\{.*result="%s".*route="full/\*"|^tunegate_cache_total\{.*route="full/\*".*result="%s"'
    )
    before = [gateway.metric(pattern % (what, what)) for what in ("hit", "miss")]
    for _ in range(3):
        asked(gateway, f"full/{model}")
    assert [gateway.metric(pattern % (what, what)) for what in ("hit", "miss")] == [before[0] + 2, before[1] + 1]
    assert gateway.metric("^tunegate_in_flight_requests") == 0


def test_a_gateway_without_memory_for_answers_keeps_none(start, config, model, tmp_path: Path):
    own = start({**config, "cache": {"max_bytes": 0}}, folder=tmp_path)
    for number in (1, 2):
        assert asked(own, f"c/{model}") == ("miss", f"answer {number}")
