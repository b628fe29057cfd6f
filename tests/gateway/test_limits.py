"""Rates, concurrency and budgets: exact under concurrency, given back on every ending, explained."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway, chat_request, digest, endpoint, eventually, key, new_id, route
from tests.fakes.upstream import Reset, Wait
from tests.fakes.wire import Usage

NEVER = threading.Event()
PRICE = {"input": 1.0, "output": 1.0}
"""One token costs 1000 nano-units, 0.000001 of the currency."""


def secret(name: str) -> str:
    return "sk-tg-" + digest(name)[:40]


KEYS = {
    "rpm": {"limits": {"rpm": 5}},
    "rpm-race": {"limits": {"rpm": 10}},
    "tpm": {"limits": {"tpm": 1000}},
    "tpm-late": {"limits": {"tpm": 1000}},
    "tpm-big": {"limits": {"tpm": 1000}},
    "concurrency": {"limits": {"concurrency": 2}},
    "budget": {"budget": [{"amount": 0.001, "window": "day"}]},
    "budget-race": {"budget": [{"amount": 0.0004, "window": "total"}]},
    "budget-zero": {"budget": [{"amount": 0, "window": "month"}]},
    "budget-refund": {"budget": [{"amount": 0.002, "window": "month"}]},
    "in-team-1": {"team": "small"},
    "in-team-2": {"team": "small"},
    "free": {},
    "wide": {"limits": {"rpm": 1000, "tpm": 1_000_000, "concurrency": 50}},
}


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    times = {"first_byte": 0.5, "idle": 0.5}
    config = {
        "endpoint": [endpoint(upstream.url, timeouts=times)],
        "route": [
            route("x/*", price=PRICE),
            route("narrow", price=PRICE, limits={"rpm": 3}),
        ],
        "team": [{"name": "small", "limits": {"rpm": 4}}],
        "key": [key(name, secret(name), **fields) for name, fields in KEYS.items()],
    }
    return start(config)


def assert_refused(reply, fault, code="rate_limit_exceeded", *, retry=True):
    assert (reply.status, reply.fault) == (429, fault)
    assert reply.error["code"] == code
    if retry:
        seconds = reply.header("retry-after")
        assert seconds is not None
        assert 0 < int(seconds) <= 61


def used(gateway, who: str, stream=False, **fields):
    return gateway.chat("x/ok", secret=secret(who), stream=stream, **fields)


def test_requests_per_minute(gateway):
    assert [used(gateway, "rpm").status for _ in range(5)] == [200] * 5
    reply = used(gateway, "rpm")
    assert_refused(reply, "policy_rate")
    assert "5" in reply.error["message"], "the size of the limit"
    assert re.search(r"rpm|requests? per minute", reply.error["message"], re.IGNORECASE), "which limit"
    assert reply.header("x-ratelimit-limit-requests") == "5"
    assert reply.header("x-ratelimit-remaining-requests") == "0"
    assert reply.header("x-ratelimit-reset-requests")


def test_requests_per_minute_are_exact_under_concurrency(gateway):
    with ThreadPoolExecutor(30) as pool:
        statuses = [f.result().status for f in [pool.submit(used, gateway, "rpm-race") for _ in range(30)]]
    assert statuses.count(200) == 10
    assert statuses.count(429) == 20


def test_a_success_says_what_is_left(gateway):
    first, then = used(gateway, "wide"), used(gateway, "wide", stream=True)
    for reply, n in ((first, 1), (then, 2)):
        assert reply.header("x-ratelimit-limit-requests") == "1000"
        assert reply.header("x-ratelimit-remaining-requests") == str(1000 - n)
        assert reply.header("x-ratelimit-limit-tokens") == "1000000"
        assert 990_000 < int(reply.header("x-ratelimit-remaining-tokens") or 0) < 1_000_000
        for kind in ("requests", "tokens"):
            assert re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", reply.header(f"x-ratelimit-reset-{kind}") or "")


def test_no_limit_no_headers(gateway):
    assert not [k for k, _ in used(gateway, "free").headers if k.startswith("x-ratelimit")]


def test_a_route_and_a_team_have_limits_too(gateway):
    who = secret("free")
    assert [gateway.chat("narrow", secret=who).status for _ in range(4)] == [200, 200, 200, 429]
    assert used(gateway, "free").status == 200, "the limit belongs to that route"
    statuses = [used(gateway, f"in-team-{1 + n % 2}").status for n in range(6)]
    assert statuses == [200] * 4 + [429] * 2


def test_tokens_per_minute_count_what_was_used(gateway, scripted):
    name = scripted(scripts.chat(usage=Usage(700, 290)))
    rid = new_id()
    assert gateway.chat(f"x/{name}", secret=secret("tpm"), rid=rid, max_tokens=10).status == 200
    gateway.row(rid)
    reply = gateway.chat(f"x/{name}", secret=secret("tpm"), max_tokens=100)
    assert_refused(reply, "policy_tokens")
    assert reply.header("x-ratelimit-limit-tokens") == "1000"
    assert 0 <= int(reply.header("x-ratelimit-remaining-tokens") or -1) <= 30
    assert "1000" in reply.error["message"].replace(",", "")


def test_a_reservation_that_was_too_high_is_given_back(gateway, scripted):
    name = scripted(scripts.chat(usage=Usage(10, 10)))
    for _ in range(4):
        rid = new_id()
        reply = gateway.chat(f"x/{name}", secret=secret("tpm-late"), rid=rid, max_tokens=800)
        assert reply.status == 200
        gateway.row(rid)


def test_a_request_over_the_whole_limit_waits_for_a_full_allowance(gateway):
    """It could never run otherwise; but it may not slip through when something was used already."""
    assert used(gateway, "tpm-big").status == 200
    reply = used(gateway, "tpm-big", max_tokens=50_000)
    assert (reply.status, reply.fault) == (429, "policy_tokens")


# ---- concurrency ----

HELD = scripts.stream([wire.word_event("a"), Wait(NEVER, 3)], end=False)
ENDINGS = {
    "success": (scripts.chat(), True),
    "success, stream": (scripts.chat(), True),
    "upstream 500": (scripts.error(500), True),
    "upstream 400": (scripts.error(400), True),
    "reset": ([Reset()], True),
    "time-out": ([Wait(NEVER, 1)], True),
    "error after content": (scripts.stream([wire.word_event("a"), Reset()], end=False), True),
    "client gone before content": ([Wait(NEVER, 2)], False),
    "client gone after content": (HELD, False),
}


@pytest.mark.parametrize(("script", "waits"), ENDINGS.values(), ids=ENDINGS.keys())
def test_a_place_is_free_again_after_every_ending(gateway, upstream, scripted, script, waits):
    who = secret("concurrency")
    for _ in range(3):
        name, rid = scripted(script), new_id()
        with gateway.open(f"x/{name}", rid, secret=who, stream=True) as conn:
            if waits:
                assert conn.response().status != 429
            elif script is HELD:
                conn.response(stop=1)
            else:
                eventually(lambda name=name: upstream.of(name))
        gateway.row(rid, within=3)
    assert gateway.chat("x/ok", secret=who).status == 200


def test_concurrency_is_bounded(gateway, upstream, scripted):
    go, who = threading.Event(), secret("concurrency")
    name = scripted(lambda seen: [Wait(go), *scripts.chat()(seen)])
    conns = [gateway.open(f"x/{name}", new_id(), secret=who) for _ in range(2)]
    eventually(lambda: len(upstream.of(name)) == 2)
    assert_refused(gateway.chat("x/ok", secret=who), "policy_concurrency", retry=False)
    go.set()
    for conn in conns:
        with conn:
            assert conn.response().status == 200
    assert gateway.chat("x/ok", secret=who).status == 200


def test_a_refused_request_takes_no_place_and_no_money(gateway):
    for _ in range(5):
        assert gateway.chat("nowhere", secret=secret("concurrency")).status == 404
        reply = gateway.call("POST", "/v1/chat/completions", b"{", secret=secret("concurrency"))
        assert reply.status == 400
    assert gateway.chat("x/ok", secret=secret("concurrency")).status == 200


# ---- budget ----


def test_a_spent_budget_refuses(gateway, scripted):
    name, who = scripted(scripts.chat(usage=Usage(900, 150))), secret("budget")
    rid = new_id()
    assert gateway.chat(f"x/{name}", secret=who, rid=rid, max_tokens=10).status == 200
    assert gateway.row(rid)["cost_nano"] == 1_050_000
    reply = gateway.chat(f"x/{name}", secret=who, max_tokens=10)
    assert (reply.status, reply.fault) == (429, "policy_budget")
    assert reply.error["code"] == "insufficient_quota"
    assert "day" in reply.error["message"]


def test_a_budget_of_zero_is_not_unlimited(gateway):
    assert used(gateway, "budget-zero").fault == "policy_budget"


def test_fifty_at_once_cannot_pass_a_budget(gateway, upstream, scripted):
    """Each costs 100 tokens = 0.0001; four fit into 0.0004."""
    go, who = threading.Event(), secret("budget-race")
    name = scripted(lambda seen: [Wait(go, 0.4), *scripts.chat(usage=Usage(50, 50))(seen)])
    ids = [new_id() for _ in range(50)]

    def ask(rid):
        return gateway.chat(f"x/{name}", secret=who, rid=rid, max_tokens=50).status

    with ThreadPoolExecutor(50) as pool:
        statuses = [f.result() for f in [pool.submit(ask, rid) for rid in ids]]
    assert statuses.count(200) + statuses.count(429) == 50
    assert 1 <= statuses.count(200) <= 7, "the reservation is an estimate of the prompt; 50 output tokens are certain"
    assert len(upstream.of(name)) == statuses.count(200)
    spent = sum(r["cost_nano"] for rid, s in zip(ids, statuses, strict=True) if s == 200 for r in [gateway.row(rid)])
    assert spent <= 700_000
    while gateway.chat(f"x/{name}", secret=who, max_tokens=50).status == 200:
        spent += 100_000
        assert spent <= 700_000, "the budget never closes"


@pytest.mark.parametrize(
    "script",
    [scripts.error(500), scripts.error(422), [Reset()], [Wait(NEVER, 1)]],
    ids=["500", "422", "reset", "time-out"],
)
def test_a_failed_request_gives_its_reservation_back(gateway, scripted, script):
    who = secret("budget-refund")
    for _ in range(4):
        rid = new_id()
        reply = gateway.chat(f"x/{scripted(script)}", secret=who, rid=rid, max_tokens=1500)
        assert reply.status not in (200, 429)
        gateway.row(rid)
    assert gateway.chat("x/ok", secret=who, max_tokens=1500).status == 200


def test_what_is_spent_survives_a_restart(start, upstream, tmp_path):
    upstream.on("dear", scripts.chat(usage=Usage(900, 150)))
    config = {
        "endpoint": [endpoint(upstream.url)],
        "route": [route("x/*", price=PRICE)],
        "key": [key("poor", secret("poor"), budget=[{"amount": 0.001, "window": "total"}])],
    }
    gateway = start(config, folder=tmp_path)
    rid = new_id()
    assert gateway.chat("x/dear", secret=secret("poor"), rid=rid).status == 200
    gateway.row(rid)
    gateway.stop()
    gateway.start()
    assert gateway.chat("x/dear", secret=secret("poor")).fault == "policy_budget"


def test_max_tokens_is_read_from_every_dialect(gateway):
    """A reservation follows `max_tokens` and `max_completion_tokens`: a small limit refuses both."""
    assert used(gateway, "tpm-big").status in (200, 429)
    for field in ("max_tokens", "max_completion_tokens"):
        body = json.dumps(chat_request("x/ok", **{field: 40_000})).encode()
        reply = gateway.call("POST", "/v1/chat/completions", body, secret=secret("tpm-big"))
        assert reply.fault == "policy_tokens", field
