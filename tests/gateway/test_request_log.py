"""Bodies are kept only where a route says so: redacted, bounded, for their days, and never at a request's expense."""

from __future__ import annotations

import json
import os
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes import control as fake, scripts, wire
from tests.fakes.control import ENV, Control, settings
from tests.fakes.gateway import Gateway, chat_request, endpoint, eventually, key, new_id, route
from tests.fakes.upstream import Reset, Sleep
from tests.fakes.wire import Usage

BOTH = {"bodies": "both"}
QUIET = "sk-tg-quiet-key-0123456789"
SECRETS = "Mail alice@example.com, call 13812345678, id 11010519491231002X, pay 4111111111111111, EMP-123456"


@pytest.fixture(scope="module")
def config(upstream):
    return {
        "endpoint": [endpoint(upstream.url)],
        "route": [
            route("off/*"),
            route("x/*", log={**BOTH, "redact_patterns": [r"EMP-\d{6}"]}),
            route("ask/*", log={"bodies": "request"}),
            route("answer/*", log={"bodies": "response", "keep_days": 3}),
            route("small/*", log={**BOTH, "max_bytes": 256, "redact": []}),
            route("none/*", log={**BOTH, "share": 0.0}),
            route("prompt", "up/m", log=BOTH, system_prompt="Be kind."),
        ],
        "key": [key("tester"), key("quiet", QUIET, log_bodies=False)],
    }


@pytest.fixture(scope="module")
def gateway(start, config) -> Gateway:
    return start(config)


def entries(gateway: Gateway) -> dict[str, dict]:
    found = {}
    for file in (gateway.data / "request-log").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            assert entry["id"] not in found, "an entry came twice"
            found[entry["id"]] = entry
    return found


def entry(gateway: Gateway, rid: str) -> dict:
    row = gateway.row(rid)
    return eventually(lambda: entries(gateway).get(row["id"]), 10)


def test_what_was_asked_and_answered_is_kept_without_what_must_not_be(gateway, scripted):
    rid, name = new_id(), scripted(scripts.chat(["Dear ", "bob@example.org"]))
    reply = gateway.chat(f"x/{name}", rid=rid, user=SECRETS)
    assert reply.status == 200
    kept = entry(gateway, rid)
    asked, answered = json.loads(kept["request"]), json.loads(kept["response"])
    assert asked["user"] == "Mail [email], call [phone], id [id_card], pay [bank_card], [custom]"
    assert asked["messages"] == chat_request("m")["messages"]
    assert answered["choices"][0]["message"]["content"] == "Dear [email]"
    assert kept["redacted"] == {"email": 2, "phone": 1, "id_card": 1, "bank_card": 1, "custom": 1}
    assert (kept["request_cut"], kept["response_cut"], kept["keep_days"]) == (False, False, 30)
    everything = "".join(f.read_text() for f in gateway.data.rglob("*.jsonl"))
    for secret in SECRETS.replace(",", "").split()[1::2]:
        assert secret not in everything
    assert b"bob@example.org" in reply.body, "the client gets what the model said"


def test_a_stream_is_kept_as_one_answer_although_a_number_came_in_pieces(gateway, scripted):
    words = ["Call ", "138", "123", "45", "678", "!"]
    rid, name = new_id(), scripted(scripts.chat(words, gap=0.005))
    reply = gateway.chat(f"x/{name}", rid=rid, stream=True)
    assert reply.words == "".join(words)
    kept = entry(gateway, rid)
    answered = json.loads(kept["response"])
    assert answered["choices"][0]["delta"]["content"] == "Call [phone]!"
    assert not kept["response_cut"]


def test_a_stream_of_another_dialect_is_kept_whole_and_redacted_too(gateway, scripted):
    rid, name = new_id(), scripted(scripts.chat(["Call ", "138", "123", "45", "678", "!"]))
    body = json.dumps({**chat_request(f"x/{name}", stream=True), "max_tokens": 9}).encode()
    assert b"message_stop" in gateway.call("POST", "/v1/messages", body, x_request_id=rid).body
    answered = json.loads(entry(gateway, rid)["response"])
    assert [block["text"] for block in answered["content"]] == ["Call [phone]!"]
    assert answered["stop_reason"] == "end_turn"


def test_an_error_is_kept_as_the_client_got_it(gateway, scripted):
    rid, name = new_id(), scripted(scripts.error(400, "no such thing"))
    reply = gateway.chat(f"x/{name}", rid=rid)
    kept = entry(gateway, rid)
    assert (reply.status, json.loads(kept["response"])) == (400, reply.json)


def test_a_stream_that_breaks_is_kept_up_to_there(gateway, scripted):
    parts = [wire.word_event("half"), Sleep(0.05), Reset()]
    rid, name = new_id(), scripted(scripts.stream(parts, end=False))
    gateway.chat(f"x/{name}", rid=rid, stream=True)
    kept = entry(gateway, rid)
    answered = json.loads(kept["response"])
    assert answered["choices"][0]["delta"]["content"] == "half"
    assert answered["error"]["code"] == "upstream_unreachable"


def test_a_client_that_left_leaves_what_it_asked_and_got(gateway, scripted):
    rid, name = new_id(), scripted(scripts.stream([wire.word_event("first"), Sleep(5.0)]))
    with gateway.open(f"x/{name}", rid, stream=True) as conn:
        conn.response(stop=10)
        conn.abort()
    kept = entry(gateway, rid)
    assert json.loads(kept["response"])["choices"][0]["delta"]["content"] == "first"
    assert gateway.row(rid)["end"] == "client_gone_partial"


@pytest.mark.parametrize(("model", "asked", "answered"), [("ask/m", True, False), ("answer/m", False, True)])
def test_a_route_may_keep_one_of_both(gateway, model, asked, answered):
    rid = new_id()
    assert gateway.chat(model, rid=rid).status == 200
    kept = entry(gateway, rid)
    assert (kept["request"] is not None, kept["response"] is not None) == (asked, answered)


def test_the_clients_own_request_is_kept_and_not_what_the_steps_made_of_it(gateway, upstream):
    rid = new_id()
    assert gateway.chat("prompt", rid=rid).status == 200
    assert len(upstream.requests[-1].json["messages"]) == 2
    assert json.loads(entry(gateway, rid)["request"])["messages"] == chat_request("m")["messages"]


@pytest.mark.parametrize("stream", [False, True])
def test_long_bodies_are_cut_and_say_so(gateway, scripted, stream):
    rid, name = new_id(), scripted(scripts.chat(["y" * 3000, "z" * 1_200_000]))
    reply = gateway.chat(f"small/{name}", rid=rid, stream=stream, user="u" * 1000)
    assert len(reply.body) > 1_200_000
    kept = entry(gateway, rid)
    assert kept["request_cut"]
    assert kept["response_cut"]
    assert len(kept["request"].encode()) <= 256
    assert len(kept["response"].encode()) <= 256


def test_nothing_is_kept_unless_the_route_and_the_caller_agree(gateway):
    rids = [new_id() for _ in range(5)]
    gateway.chat("off/m", rid=rids[0])
    gateway.chat("none/m", rid=rids[1])
    gateway.chat("x/m", rid=rids[2], headers={"x_tunegate_no_log": "1"})
    gateway.chat("x/m", rid=rids[3], secret=QUIET)
    gateway.chat("x/m", rid=rids[4], secret="sk-tg-wrong-key-0123456789")
    last = new_id()
    gateway.chat("x/m", rid=last)
    entry(gateway, last)
    kept = entries(gateway)
    assert not [rid for rid in rids[:4] if gateway.row(rid)["id"] in kept]
    assert gateway.metric(r"^tunegate_request_log_total\{.*kept") == len(kept)


def test_the_opt_out_does_not_reach_the_upstream(gateway, upstream):
    gateway.chat("x/m", headers={"x_tunegate_no_log": "1"})
    assert upstream.requests[-1].header("x-tunegate-no-log") is None


def test_files_are_private_and_go_on_their_day(start, config, tmp_path):
    gateway = start(config, folder=tmp_path)
    rid = new_id()
    gateway.chat("answer/m", rid=rid)
    entry(gateway, rid)
    folder = gateway.data / "request-log"
    (file,) = folder.glob("*.jsonl")
    assert file.name == f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}.w0.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    gateway.stop()
    old = folder / f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}.w0.jsonl"
    file.rename(old)
    today = folder / f"{datetime.now(UTC):%Y-%m-%d}.w0.jsonl"
    today.write_text("{}\n")
    gateway.start()
    eventually(lambda: not old.exists(), 10)
    assert today.exists()


def test_a_stop_delivers_what_waits(start, config, tmp_path):
    gateway = start(config, folder=tmp_path)
    rids = [new_id() for _ in range(30)]
    for rid in rids:
        gateway.chat("x/m", rid=rid)
    assert gateway.stop() == 0
    assert {gateway.row(rid)["id"] for rid in rids} == set(entries(gateway))
    assert not gateway.events("request_log.lost_at_stop")


def test_a_disk_that_refuses_costs_bodies_and_no_request(start, config, tmp_path):
    gateway = start({**config, "usage": {"bodies_max_bytes": 1_048_576}}, folder=tmp_path)
    if os.geteuid() == 0:
        Path(gateway.data / "request-log").write_text("a file where the folder should be")
    else:
        (gateway.data / "request-log").mkdir(mode=0o500)
    for _ in range(12):
        assert gateway.chat("x/m", user="u" * 200_000).status == 200
    full = eventually(lambda: gateway.metric(r"^tunegate_request_log_total\{.*full"), 10)
    assert full >= 3
    assert gateway.metric("^tunegate_request_log_bytes") <= 1_048_576
    eventually(lambda: gateway.events("request_log.delivery_failed"), 10)
    Path(gateway.data / "request-log").unlink() if os.geteuid() == 0 else (gateway.data / "request-log").chmod(0o700)
    eventually(lambda: gateway.metric("^tunegate_request_log_bytes") == 0, 15)
    assert gateway.metric(r"^tunegate_request_log_total\{.*kept") == 12 - full
    assert len(gateway.events("request_log.delivery_failed")) == 1, "said once"


# ---- with control


@pytest.fixture
def control():
    with Control() as server:
        yield server


@pytest.fixture
def remote(control, config, tmp_path):
    control.publish(config)
    with Gateway(settings(control), tmp_path, env=ENV) as running:
        yield running


def test_control_gets_the_entries_and_an_outage_delays_them(control, remote):
    control.manners["request-log"] = fake.answering(503)
    rids = [new_id() for _ in range(5)]
    for rid in rids:
        assert remote.chat("x/m", rid=rid).status == 200
    eventually(lambda: control.count("request-log") >= 1, 10)
    control.bodies.clear()
    control.manners.clear()
    eventually(lambda: len(control.bodies) == 5, 6)
    ids = {event["id"] for event in control.ledger.values() if event["request_id"] in rids}
    assert set(control.bodies) == ids
    assert not (remote.data / "request-log").exists()
    assert remote.metric(r"^tunegate_control_failures_total\{call=.request_log") >= 1


@pytest.mark.parametrize("status", [404, 413, 422])
def test_entries_that_control_refuses_are_dropped_and_counted(control, remote, status):
    control.manners["request-log"] = fake.answering(status)
    assert remote.chat("x/m").status == 200
    eventually(lambda: remote.metric(r"^tunegate_request_log_total\{.*refused") == 1, 10)
    control.manners.clear()
    assert remote.chat("x/m").status == 200
    eventually(lambda: remote.metric(r"^tunegate_request_log_total\{.*kept") == 1, 10)
    assert remote.metric("^tunegate_request_log_bytes") == 0


def test_bodies_do_not_outlive_a_kill_and_the_ledger_does(control, remote):
    control.manners["request-log"] = fake.hang
    rid = new_id()
    assert remote.chat("x/m", rid=rid).status == 200
    eventually(lambda: control.count("request-log") == 1, 10)
    remote.kill9()
    control.bodies.clear()
    control.manners.clear()
    remote.start()
    eventually(lambda: any(e["request_id"] == rid for e in control.ledger.values()), 15)
    time.sleep(0.6)
    assert control.bodies == {}


def test_a_slow_reader_of_a_kept_stream_still_pauses_the_upstream(gateway, scripted, upstream):
    piece = "p" * 10_000
    rid, name = new_id(), scripted(scripts.chat([piece] * 2000, Usage()))
    with gateway.open(f"x/{name}", rid, stream=True, timeout=20) as conn:
        time.sleep(1.0)
        assert upstream.answering == 1, "20 MB do not fit into anybody's buffer"
        assert conn.response().complete
    assert entry(gateway, rid)["response_cut"]
