"""A shadow sees copies of requests; clients, limits and budgets see nothing of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway, endpoint, eventually, key, new_id, route
from tests.fakes.upstream import Mark, Reset, Sleep, Wait
from tests.fakes.wire import Usage

PRICE = {"input": 1000.0, "output": 1000.0}
POOR = "sk-tg-poor-key-0123456789"


def shadowed(name: str, **more) -> dict:
    """A route whose copies go to the model `copy-NAME`."""
    shadow = {"endpoint": "other", "model": f"copy-{name}", "share": 1.0} | more.pop("shadow", {})
    return route(name, f"up/{name}", shadow=shadow, price=PRICE, **more)


@pytest.fixture(scope="module")
def config(upstream):
    names = ("plain", "slow", "bad", "gone", "few", "dead", "stop", "kill", "poor")
    special = {
        "few": {"shadow": {"concurrency": 2}},
        "dead": {"breaker": {"failures": 2, "cooldown": 60.0}},
        "timed": {"shadow": {"endpoint": "hasty"}},
        "kept": {"log": {"bodies": "both", "redact": []}},
        "prompt": {"system_prompt": "Be kind."},
        "half": {"shadow": {"share": 0.5}},
        "cheap": {"shadow": {"price": {"input": 1.0, "output": 1.0}}},
    }
    return {
        "endpoint": [
            endpoint(upstream.url),
            endpoint(upstream.url, "other"),
            endpoint(upstream.url, "hasty", timeouts={"first_byte": 0.4}),
        ],
        "route": [
            *(shadowed(name, **special.pop(name, {})) for name in names),
            *(shadowed(name, **more) for name, more in special.items()),
            route("w/*", shadow={"endpoint": "other", "share": 1.0}),
        ],
        "key": [key("tester"), key("poor", POOR, budget=[{"amount": 0.05, "window": "total"}])],
    }


@pytest.fixture(scope="module")
def gateway(start, config) -> Gateway:
    return start(config)


def pair(gateway: Gateway, rid: str) -> tuple[dict, dict]:
    """The ledger's rows of a request and of its copy."""
    rows = eventually(lambda: len(found := gateway.rows(rid)) >= 2 and found, 5, "no two rows")
    assert len(rows) == 2, rows
    (original,) = [row for row in rows if "shadow_of" not in row]
    (copy,) = [row for row in rows if "shadow_of" in row]
    assert copy["shadow_of"] == original["id"] != copy["id"]
    return original, copy


@pytest.mark.parametrize("stream", [False, True])
def test_a_copy_is_sent_and_settled_as_a_row_of_its_own(gateway, upstream, stream):
    upstream.on("plain", scripts.chat(["one"], Usage(7, 3)))
    upstream.on("copy-plain", scripts.chat(["two ", "words"], Usage(8, 5)))
    rid = new_id()
    reply = gateway.chat("plain", rid=rid, stream=stream, user=rid)
    assert (reply.words if stream else reply.json["choices"][0]["message"]["content"]) == "one"
    original, copy = pair(gateway, rid)
    assert (original["endpoint"], original["upstream_model"], original["cost_nano"]) == ("up", "plain", 10_000_000)
    assert (copy["endpoint"], copy["upstream_model"], copy["cost_nano"]) == ("other", "copy-plain", 13_000_000)
    same = ("key", "team", "operation", "model", "route", "stream", "request_id", "snapshot")
    assert [original[name] for name in same] == [copy[name] for name in same]
    assert (copy["end"], copy["usage_source"], copy["status"]) == ("success", "provider", 200)
    assert (copy["ttft_ms"] is not None, len(copy["attempts"])) == (True, 1)
    asked, copied = upstream.of("plain")[-1], upstream.of("copy-plain")[-1]
    assert {**asked.json, "model": ""} == {**copied.json, "model": ""}
    assert copied.header("x-request-id") == rid


def test_a_shadow_may_have_its_own_price(gateway):
    rid = new_id()
    gateway.chat("cheap", rid=rid)
    original, copy = pair(gateway, rid)
    assert (original["cost_nano"], copy["cost_nano"]) == (30_000_000, 30_000)


def test_a_copy_has_been_through_the_routes_steps(gateway, upstream):
    rid = new_id()
    gateway.chat("prompt", rid=rid)
    pair(gateway, rid)
    assert upstream.of("copy-prompt")[-1].json["messages"][0] == {"role": "system", "content": "Be kind."}


def test_a_wildcard_route_hands_on_the_name_that_was_asked_for(gateway, upstream):
    rid = new_id()
    gateway.chat("w/any", rid=rid)
    pair(gateway, rid)
    assert [seen.json["model"] for seen in upstream.of("any")] == ["any", "any"]


def test_a_slow_shadow_delays_nobody(gateway, upstream):
    go = threading.Event()
    upstream.on("copy-slow", [Wait(go), *scripts.error(500)])
    rid, began = new_id(), time.monotonic()
    for _ in range(3):
        assert gateway.chat("slow", rid=rid).status == 200
    assert time.monotonic() - began < 1.0
    assert not [row for row in gateway.rows(rid) if "shadow_of" in row]
    go.set()
    rows = eventually(lambda: [row for row in gateway.rows(rid) if "shadow_of" in row], 10)
    assert (rows[0]["end"], rows[0]["error"], rows[0]["cost_nano"]) == ("upstream_error", "provider_5xx", 0)


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ([Reset()], "upstream_error"),
        (scripts.error(429), "upstream_error"),
        (scripts.error(400), "upstream_error"),
        (scripts.reply(b"<html>"), "upstream_error"),
        (scripts.stream([wire.word_event("half"), Reset()], end=False), "upstream_error_partial"),
    ],
)
def test_a_failing_shadow_fails_nobody_and_is_not_asked_again(gateway, upstream, answer, end):
    upstream.on("copy-bad", answer)
    rid = new_id()
    reply = gateway.chat("bad", rid=rid, stream=True)
    assert (reply.status, reply.complete) == (200, True)
    original, copy = pair(gateway, rid)
    assert (original["end"], copy["end"]) == ("success", end)
    assert len(copy["attempts"]) == 1


def test_a_request_that_fails_is_copied_too_and_one_that_is_refused_is_not(gateway, upstream):
    upstream.on("gone", scripts.error(500))
    rid, refused = new_id(), new_id()
    assert gateway.chat("gone", rid=rid).status == 500
    original, copy = pair(gateway, rid)
    assert (original["end"], copy["end"]) == ("upstream_error", "success")
    asked = len(upstream.of("copy-gone"))
    assert gateway.chat("gone", rid=refused, secret="sk-tg-nobody-0123456789abc").status == 401
    assert gateway.chat("gone", rid=refused, messages=[]).status == 400
    time.sleep(0.3)
    assert len(upstream.of("copy-gone")) == asked


def test_a_client_that_leaves_does_not_end_the_copy(gateway, upstream):
    upstream.on("plain", scripts.stream([wire.word_event("a"), Sleep(5.0)]))
    upstream.on("copy-plain", scripts.chat(["whole"]))
    rid = new_id()
    with gateway.open("plain", rid, stream=True) as conn:
        conn.response(stop=10)
        conn.abort()
    original, copy = pair(gateway, rid)
    assert (original["end"], copy["end"]) == ("client_gone_partial", "success")


def test_no_more_copies_than_allowed_are_under_way(gateway, upstream):
    go = threading.Event()
    upstream.on("copy-few", lambda seen: [Wait(go), *scripts.chat()(seen)])
    rid = new_id()
    for _ in range(6):
        assert gateway.chat("few", rid=rid).status == 200
    eventually(lambda: gateway.metric(r"^tunegate_shadows_total\{(?=.*few)(?=.*full)") == 4, 10)
    go.set()
    rows = eventually(lambda: len(found := gateway.rows(rid)) == 8 and found, 10)
    assert sum("shadow_of" in row for row in rows) == 2
    assert gateway.metric(r"^tunegate_shadows_total\{(?=.*few)(?=.*sent)") == 2


def test_its_breaker_is_its_own(gateway, upstream):
    upstream.on("copy-dead", scripts.error(500))
    for _ in range(2):
        rid = new_id()
        assert gateway.chat("dead", rid=rid).status == 200
        pair(gateway, rid)
    rid = new_id()
    assert gateway.chat("dead", rid=rid).status == 200
    eventually(lambda: gateway.metric(r"^tunegate_shadows_total\{.*resting") == 1, 10)
    gateway.row(rid)  # one, and no copy's
    assert gateway.metric(r"^tunegate_target_breaker\{.*other/copy-dead \(shadow\)") == 2
    assert gateway.metric(r"^tunegate_target_breaker\{.*up/dead") == 0


def test_a_copy_keeps_the_time_outs_of_its_endpoint(gateway, upstream):
    upstream.on("copy-timed", [Sleep(5.0)])
    rid, began = new_id(), time.monotonic()
    assert gateway.chat("timed", rid=rid).status == 200
    _, copy = pair(gateway, rid)
    assert (copy["end"], copy["error"]) == ("upstream_error", "provider_timeout")
    assert time.monotonic() - began < 3.0


def test_a_share_is_a_share(gateway):
    rids = [new_id() for _ in range(60)]
    for rid in rids:
        gateway.chat("half", rid=rid)
    time.sleep(0.5)
    copies = sum("shadow_of" in row for row in gateway.ledger() if row["request_id"] in rids)
    assert 10 <= copies <= 50


def test_copies_count_for_no_budget_and_no_sum(gateway, start, config, tmp_path):
    own = start(config, folder=tmp_path)
    rid = new_id()
    assert own.chat("poor", rid=rid, secret=POOR).status == 200
    _, copy = pair(own, rid)
    assert copy["cost_nano"] == 30_000_000
    own.kill9()
    own.start()
    assert own.chat("poor", secret=POOR).status == 200, "0.03 of 0.05 are spent; with the copy it would be 0.06"
    assert own.chat("poor", secret=POOR).status == 429
    eventually(lambda: sum("shadow_of" in row for row in own.ledger()) == 2, 10)
    own.stop()
    for flag, cost, requests in (("", "0.06", "2"), ("--shadow", "0.06", "2")):
        assert usage(own, flag) == [["poor", requests, cost]]


def usage(gateway: Gateway, flag: str) -> list[list[str]]:
    argv = [sys.executable, "-m", "gateway", "usage", "--config", str(gateway.file), "--by", "key", "--csv"]
    done = subprocess.run([*argv, *filter(None, [flag])], check=True, capture_output=True, text=True)
    return [[line.split(",")[i] for i in (0, 1, 5)] for line in done.stdout.splitlines()[1:]]


def test_metrics_keep_copies_apart(gateway):
    before = gateway.metric(r'^tunegate_requests_total\{.*route="cheap"')
    rid = new_id()
    gateway.chat("cheap", rid=rid)
    pair(gateway, rid)
    assert gateway.metric(r'^tunegate_requests_total\{.*route="cheap"') == before + 1
    assert gateway.metric(r'^tunegate_requests_total\{.*route="cheap \(shadow\)"') == before + 1
    assert gateway.metric("^tunegate_in_flight_requests") == 0


def test_both_answers_are_kept_for_comparison(gateway, upstream):
    upstream.on("kept", scripts.chat(["ours"]))
    upstream.on("copy-kept", scripts.chat(["theirs"]))
    for stream in (False, True):
        rid = new_id()
        gateway.chat("kept", rid=rid, stream=stream)
        original, copy = pair(gateway, rid)

        def kept() -> dict:
            lines = [
                line for file in (gateway.data / "request-log").glob("*") for line in file.read_text().splitlines()
            ]
            return {entry["id"]: entry for entry in map(json.loads, lines)}

        eventually(lambda: {original["id"], copy["id"]} <= kept().keys(), 10)  # noqa: B023
        assert "ours" in kept()[original["id"]]["response"]
        assert "theirs" in kept()[copy["id"]]["response"]
        assert kept()[copy["id"]]["request"] is None, "it is the original's"
    rid = new_id()
    gateway.chat("kept", rid=rid, headers={"x_tunegate_no_log": "1"})
    original, copy = pair(gateway, rid)
    time.sleep(0.6)
    assert not {original["id"], copy["id"]} & kept().keys(), "the caller's wish holds for the copy too"


def test_a_stop_settles_copies_that_are_under_way(start, config, upstream, tmp_path):
    own, began = start(config, folder=tmp_path), threading.Event()
    upstream.on("copy-stop", [Mark(began), Sleep(20.0)])
    rid = new_id()
    assert own.chat("stop", rid=rid).status == 200
    assert began.wait(3)
    assert own.stop(5.0) == 0
    original, copy = pair(own, rid)
    assert (original["end"], copy["end"], copy["cost_nano"]) == ("success", "stopped", 0)


def test_kill_9_leaves_a_copy_interrupted_exactly_once(start, config, upstream, tmp_path):
    own, began = start(config, folder=tmp_path), threading.Event()
    upstream.on("copy-kill", [Mark(began), Sleep(20.0)])
    rid = new_id()
    assert own.chat("kill", rid=rid).status == 200
    assert began.wait(3)
    own.kill9()
    own.start()
    original, copy = pair(own, rid)
    assert (original["end"], copy["end"], copy["usage_source"]) == ("success", "interrupted", "none")
    own.kill9()
    own.start()
    time.sleep(0.4)
    assert len(own.rows(rid)) == 2
