"""The settlement table, cell by cell: how a request ended × whether the provider's usage is known."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import KEY, Gateway, endpoint, eventually, key, new_id, route
from tests.fakes.upstream import Close, Reset, Send, Wait
from tests.fakes.wire import Usage

PRICE = {"input": 1.0, "cached_input": 0.25, "output": 4.0, "reasoning": 8.0}
NANO = {"input": 1000, "cache_read": 250, "cache_write": 1000, "output": 4000, "reasoning": 8000}
USAGE = Usage(prompt=40, completion=25, cached=16, reasoning=5)
NONE = dict.fromkeys(NANO, 0)
NEVER = threading.Event()
"""Never set: the upstream hangs (until its time limit, which no test reaches)."""
WORDS = [wire.role_event(), *(wire.word_event(f"word{i} ") for i in range(12))]


def cost(tokens: dict[str, int]) -> int:
    """Nano-units for these buckets at PRICE."""
    return sum(tokens[k] * NANO[k] for k in NANO)


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    times = {"first_byte": 0.5, "idle": 0.5}
    config = {
        "endpoint": [
            endpoint(upstream.url, timeouts=times),
            endpoint(upstream.url, "drains", timeouts=times, on_client_gone="drain", drain_seconds=3.0),
        ],
        "route": [
            route("x/*", price=PRICE),
            route("drain/*", "drains", price=PRICE),
            route("cheap", {"endpoint": "up", "model": "m", "price": {"input": 2.0, "output": 3.0}}, price=PRICE),
            route("tiny", price={"input": 0.0001, "output": 0.0015}),
            route("again/*", price=PRICE, retry={"max_attempts": 3, "backoff": 0.01}),
        ],
        "key": [key("tester", team="red")],
        "team": [{"name": "red"}],
    }
    return start(config)


def check(row, end, source, status, tokens=None):
    assert (row["end"], row["usage_source"], row["status"]) == (end, source, status)
    if source == "none":
        assert row["tokens"] == NONE
        assert row["cost_nano"] == 0
    if tokens is not None:
        assert row["tokens"] == tokens
    assert row["cost_nano"] == cost(row["tokens"])


def one_row_only(gateway, rid):
    """Nothing is added to a settled request, even a little later."""
    time.sleep(0.3)
    assert len(gateway.rows(rid)) == 1


# ---- success ----


@pytest.mark.parametrize("stream", [False, True])
def test_success_with_usage_charges_it(gateway, scripted, stream):
    rid = new_id()
    reply = gateway.chat(f"x/{scripted(scripts.chat(usage=USAGE))}", rid=rid, stream=stream)
    assert reply.status == 200
    row = gateway.row(rid)
    check(row, "success", "provider", 200, USAGE.buckets())
    assert row["stream"] is stream
    assert row["error"] == ""


@pytest.mark.parametrize("stream", [False, True])
def test_success_without_usage_charges_a_marked_estimate(gateway, scripted, stream):
    rid = new_id()
    words = ["several ", "words ", "of ", "an ", "answer "] * 4
    reply = gateway.chat(f"x/{scripted(scripts.chat(words, usage=None))}", rid=rid, stream=stream)
    assert reply.status == 200
    row = gateway.row(rid)
    check(row, "success", "estimated", 200)
    assert 2 <= row["tokens"]["input"] <= 60
    assert 10 <= row["tokens"]["output"] <= 60


@pytest.mark.parametrize("stream", [False, True])
def test_success_with_explicit_zeros_charges_nothing_and_is_not_an_estimate(gateway, scripted, stream):
    rid = new_id()
    gateway.chat(f"x/{scripted(scripts.chat(usage=Usage(0, 0)))}", rid=rid, stream=stream)
    check(gateway.row(rid), "success", "provider", 200, NONE)


def test_embeddings_are_charged_their_input(gateway):
    rid = new_id()
    reply = gateway.call("POST", "/v1/embeddings", b'{"model":"x/emb","input":"text"}', x_request_id=rid)
    assert reply.status == 200
    check(gateway.row(rid), "success", "provider", 200, {**NONE, "input": 20})


# ---- client gone ----


@pytest.mark.parametrize("prefix", ["x", "drain"])
def test_client_gone_before_content_charges_nothing(gateway, scripted, upstream, prefix):
    rid = new_id()
    name = scripted([Wait(NEVER, 1.0), Reset()])
    with gateway.open(f"{prefix}/{name}", rid, stream=True):
        eventually(lambda: upstream.of(name))
    row = gateway.row(rid, within=4)
    check(row, "client_gone", "none", 0)
    one_row_only(gateway, rid)


def test_client_gone_from_a_complete_reply_closes_the_upstream(gateway, scripted, upstream):
    rid = new_id()
    name = scripted([Wait(NEVER, 3.0), *scripts.reply(wire.chat_body())])
    with gateway.open(f"x/{name}", rid):
        eventually(lambda: upstream.of(name))
    eventually(lambda: upstream.of(name)[0].gone, 1.0, "the upstream was not closed")
    check(gateway.row(rid), "client_gone", "none", 0)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_client_gone_after_content_charges_what_was_relayed(gateway, scripted, how):
    rid = new_id()
    name = scripted(scripts.stream([*WORDS, Wait(NEVER, 3.0)]))
    conn = gateway.open(f"x/{name}", rid, stream=True)
    conn.response(stop=len(b"".join(WORDS)))
    getattr(conn, how)()
    row = gateway.row(rid)
    check(row, "client_gone_partial", "estimated", 200)
    assert row["tokens"]["input"] > 0
    assert 8 <= row["tokens"]["output"] <= 50
    one_row_only(gateway, rid)


def test_client_gone_after_the_usage_chunk_charges_the_usage(gateway, scripted):
    rid = new_id()
    name = scripted(scripts.stream([*WORDS, wire.usage_event(USAGE), Wait(NEVER, 3.0)]))
    with gateway.open(f"x/{name}", rid, stream=True, stream_options={"include_usage": True}) as conn:
        conn.response(stop=len(b"".join([*WORDS, wire.usage_event(USAGE)])))
    check(gateway.row(rid), "client_gone_partial", "provider", 200, USAGE.buckets())


def test_client_gone_with_drain_charges_the_usage_that_still_came(gateway, scripted, upstream):
    rid, go = new_id(), threading.Event()
    rest = [wire.word_event("more"), wire.finish_event(), wire.usage_event(USAGE), wire.DONE]
    name = scripted(scripts.stream([*WORDS, Wait(go), *rest], served=USAGE))
    with gateway.open(f"drain/{name}", rid, stream=True) as conn:
        conn.response(stop=len(b"".join(WORDS)))
    time.sleep(0.2)
    assert upstream.of(name)[0].gone is None, "drain policy: the upstream stays open"
    go.set()
    check(gateway.row(rid), "client_gone_partial", "provider", 200, USAGE.buckets())
    assert upstream.of(name)[0].finished
    one_row_only(gateway, rid)


def test_client_gone_with_drain_but_no_usage_charges_an_estimate(gateway, scripted, upstream):
    rid = new_id()
    name = scripted(scripts.stream([*WORDS, wire.finish_event(), Reset()], end=False, gap=0.03))
    with gateway.open(f"drain/{name}", rid, stream=True) as conn:
        conn.response(stop=len(b"".join(WORDS[:4])))
    row = gateway.row(rid, within=4)
    check(row, "client_gone_partial", "estimated", 200)
    assert row["tokens"]["output"] > 0


# ---- upstream errors ----

BEFORE = {
    "500": (scripts.error(500), 500, "provider_5xx"),
    "503": (scripts.error(503), 503, "provider_5xx"),
    "500 with usage": (
        scripts.reply(json.dumps({"error": {"message": "x"}, "usage": USAGE.openai()}).encode(), 500),
        500,
        "provider_5xx",
    ),
    "401": (scripts.error(401), 502, "provider_auth"),
    "429": (scripts.error(429), 429, "provider_rate"),
    "422": (scripts.error(422), 422, "provider_rejected"),
    "reset": ([Reset()], 502, None),
    "no bytes": ([Close()], 502, None),
    "slow": ([Wait(NEVER, 1.5), Close()], 504, "provider_timeout"),
    "not HTTP": ([Send(b"SSH-2.0-OpenSSH_9.6\r\n"), Close()], 502, "provider_bad_reply"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("script", "status", "fault"), BEFORE.values(), ids=BEFORE.keys())
def test_upstream_error_before_content_charges_nothing(gateway, scripted, script, status, fault, stream):
    rid = new_id()
    reply = gateway.chat(f"x/{scripted(script)}", rid=rid, stream=stream)
    assert reply.status == status
    assert reply.complete
    if fault is not None:
        assert reply.fault == fault
    row = gateway.row(rid)
    check(row, "upstream_error", "none", status)
    assert row["error"] == reply.fault
    assert len(row["attempts"]) == 1


def broken_stream(*parts) -> list:
    return scripts.stream([*WORDS, *parts], end=False)


AFTER = {
    "reset": (broken_stream(Reset()), "estimated"),
    "cut": (broken_stream(Close()), "estimated"),
    "stall": (broken_stream(Wait(NEVER, 2.0), Close()), "estimated"),
    "error event": (broken_stream(wire.event({"error": {"message": "overloaded"}}), Close()), "estimated"),
    "reset, usage known": (broken_stream(wire.usage_event(USAGE), Reset()), "provider"),
    "stall, usage known": (broken_stream(wire.usage_event(USAGE), Wait(NEVER, 2.0), Close()), "provider"),
}


@pytest.mark.parametrize(("script", "source"), AFTER.values(), ids=AFTER.keys())
def test_upstream_error_after_content(gateway, scripted, script, source):
    rid = new_id()
    reply = gateway.chat(f"x/{scripted(script)}", rid=rid, stream=True)
    assert (reply.status, reply.complete) == (200, True)
    assert reply.words == "".join(f"word{i} " for i in range(12))
    row = gateway.row(rid)
    check(row, "upstream_error_partial", source, 200, USAGE.buckets() if source == "provider" else None)
    assert row["tokens"]["output"] > 0
    assert row["error"].startswith("provider_")
    one_row_only(gateway, rid)


# ---- rejected ----

REJECTED = {
    "401": ("sk-tg-wrong", b'{"model":"x/a","messages":[{"role":"user"}]}', 401),
    "404": (KEY, b'{"model":"nowhere","messages":[{"role":"user"}]}', 404),
    "400": (KEY, b"{", 400),
}


@pytest.mark.parametrize(("secret", "body", "status"), REJECTED.values(), ids=REJECTED.keys())
def test_a_rejected_request_has_a_metric_and_a_log_line_but_no_row(gateway, secret, body, status):
    rid = new_id()
    before = gateway.metrics()
    reply = gateway.call("POST", "/v1/chat/completions", body, secret=secret, x_request_id=rid)
    assert reply.status == status
    assert reply.fault
    one_more = [k for k, v in gateway.metrics().items() if reply.fault in k and v == before.get(k, 0) + 1]
    assert one_more, "no metric counts this refusal"
    eventually(lambda: [e for e in gateway.events() if rid in e.values()], 2, "no access-log line")
    time.sleep(0.3)
    assert gateway.rows(rid) == []


# ---- what a row says ----


def test_a_row_says_who_asked_and_who_answered(gateway, upstream, scripted):
    name, rid, now = scripted(scripts.chat(usage=USAGE)), new_id(), time.time()
    gateway.chat(f"x/{name}", rid=rid)
    row = gateway.row(rid)
    assert abs(row["ts"] - now) < 5
    assert (row["key"], row["team"], row["operation"]) == ("tester", "red", "chat")
    assert (row["model"], row["route"], row["endpoint"]) == (f"x/{name}", "x/*", "up")
    assert row["upstream_model"] == upstream.of(name)[0].model
    assert row["request_id"] == rid
    assert len(row["id"]) == 36
    assert row["id"][14] == "7"
    assert 0 < row["ttft_ms"] <= row["duration_ms"] < 10_000
    (attempt,) = row["attempts"]
    assert (attempt["endpoint"], attempt["status"], attempt["error"]) == ("up", 200, "")


def test_every_row_is_a_usage_event(gateway):
    from gateway.contract.usage import UsageEvent  # noqa: PLC0415 - the only test that reads the contract

    rows = gateway.ledger()
    assert rows
    for row in rows:
        UsageEvent.model_validate(row)
    assert len({r["id"] for r in rows}) == len(rows)


def test_the_targets_price_overrides_the_routes(gateway, upstream):
    upstream.on("m", scripts.chat(usage=Usage(100, 10)))
    rid = new_id()
    gateway.chat("cheap", rid=rid)
    assert gateway.row(rid)["cost_nano"] == 100 * 2000 + 10 * 3000


def test_fractions_of_a_nano_unit_are_rounded_once(gateway, upstream):
    upstream.on("tiny", scripts.chat(usage=Usage(3, 1)))
    rid = new_id()
    assert gateway.chat("tiny", rid=rid).status == 200
    assert gateway.row(rid)["cost_nano"] in (1, 2, 3)  # 0.3 + 1.5 = 1.8 exactly, whatever the rounding


def test_failed_attempts_before_a_success_are_in_the_one_row(gateway, scripted):
    rid = new_id()
    name = scripted(scripts.error(500), [Send(b"junk\r\n\r\n"), Close()], scripts.chat(usage=USAGE))
    reply = gateway.chat(f"again/{name}", rid=rid)
    assert reply.status == 200
    assert reply.header("x-tunegate-attempts") == "3"
    row = gateway.row(rid)
    check(row, "success", "provider", 200, USAGE.buckets())
    assert [a["status"] for a in row["attempts"]] == [500, 0, 200]
    assert row["attempts"][0]["error"] == "provider_5xx"
    assert row["attempts"][1]["error"].startswith("provider_")
