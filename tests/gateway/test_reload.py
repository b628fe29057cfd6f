"""The configuration is live: a change within two seconds, a mistake never, running requests undisturbed."""

from __future__ import annotations

import copy
import threading
import time

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway, digest, endpoint, eventually, key, new_id, route
from tests.fakes.upstream import Wait
from tests.fakes.wire import Usage

SECOND = "sk-tg-second-key-0123456789"


@pytest.fixture(scope="module")
def base(upstream):
    return {
        "endpoint": [endpoint(upstream.url)],
        "route": [route("x/*"), route("gpt", "up/one", price={"input": 1.0, "output": 1.0})],
        "key": [key("tester"), key("second", SECOND)],
    }


@pytest.fixture(scope="module")
def running(start, base) -> Gateway:
    return start(base)


@pytest.fixture
def gateway(running, base):
    """The gateway with the base configuration, before and after the test."""
    yield running
    running.write(base)
    eventually(lambda: running.chat("gpt", secret=SECOND).status == 200, 10)


def changed(base, change) -> dict:
    config = copy.deepcopy(base)
    change(config)
    return config


def test_a_revoked_key_is_refused_within_a_second(gateway, base):
    assert gateway.chat("gpt", secret=SECOND).status == 200
    gateway.write(changed(base, lambda c: c["key"].pop()))
    begin = time.monotonic()
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 401, 10)
    assert time.monotonic() - begin < 1.0
    assert gateway.chat("gpt").status == 200


def test_a_disabled_key_is_refused_within_a_second(gateway, base):
    gateway.write(changed(base, lambda c: c["key"][1].update(enabled=False)))
    begin = time.monotonic()
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 401, 10)
    assert time.monotonic() - begin < 1.0


def test_a_new_route_is_live_and_a_removed_one_is_gone(gateway, base):
    gateway.write(changed(base, lambda c: c["route"].append(route("fresh", "up/two"))))
    eventually(lambda: gateway.chat("fresh").status == 200, 2)
    gateway.write(base)
    eventually(lambda: gateway.chat("fresh").status == 404, 2)


TARGET = [{"endpoint": "up", "model": "m"}]
MISTAKES = {
    "not TOML": "[[route\n",
    "empty": "",
    "cut in the middle": None,
    "an unknown field": ("route", {"name": "bad", "target": TARGET, "colour": "red"}),
    "an unknown endpoint": ("route", {"name": "bad", "target": [{"endpoint": "nowhere", "model": "m"}]}),
    "a route without targets": ("route", {"name": "bad", "target": []}),
    "an unknown fallback": ("route", {"name": "bad", "target": TARGET, "fallback": "nowhere"}),
    "a fallback to itself": ("route", {"name": "bad", "target": TARGET, "fallback": "bad"}),
    "a route twice": ("route", {"name": "gpt", "target": TARGET}),
    "a key twice": ("key", {"name": "third", "sha256": digest(SECOND)}),
    "an unknown team": ("key", {"name": "third", "sha256": digest("a"), "team": "nowhere"}),
    "an unknown provider": (
        "endpoint",
        {"name": "odd", "provider": "nothing", "base_url": "http://127.0.0.1:1/v1"},
    ),
    "a secret that is not there": ("key", {"name": "third", "key": "env:NOT_SET_ANYWHERE"}),
    "a bad price": ("route", {"name": "bad", "target": TARGET, "price": {"input": -1}}),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_file_with_a_mistake_changes_nothing_and_is_reported(gateway, base, mistake):
    lines = len(gateway.log_lines)
    if isinstance(mistake, tuple):
        table, record = mistake
        # The same file would also revoke a key: nothing of a bad file may become live.
        config = changed(base, lambda c: (c["key"].pop(), c[table].append(record)))
        if table == "key" and record["name"] == "third" and record.get("sha256") == digest(SECOND):
            config["key"].append(key("second", SECOND))
        gateway.write(config)
    elif mistake is None:
        gateway.write_text(gateway.file.read_text()[:-40])
    else:
        gateway.write_text(mistake)

    def reported() -> bool:
        return any(
            '"warning"' in line.lower() or '"error"' in line.lower()
            for line in gateway.log_lines[lines:]
            if "access" not in line
        )

    eventually(reported, 10, "nothing in the log says that the file is bad")
    assert gateway.chat("gpt", secret=SECOND).status == 200
    assert gateway.chat("bad").status == 404


def test_a_missing_file_changes_nothing(gateway):
    gateway.file.unlink()
    time.sleep(1.2)
    assert gateway.chat("gpt").status == 200


def test_a_good_file_after_a_bad_one_is_live(gateway, base):
    gateway.write_text("[[[")
    time.sleep(0.3)
    gateway.write(changed(base, lambda c: c["route"].append(route("after", "up/three"))))
    eventually(lambda: gateway.chat("after").status == 200, 2)


def test_a_running_stream_keeps_its_snapshot(gateway, upstream, base):
    go = threading.Event()
    parts = [
        wire.word_event("a"),
        Wait(go),
        wire.word_event("b"),
        wire.finish_event(),
        wire.usage_event(Usage(100, 0)),
    ]
    before = gateway.row(gateway.chat("gpt", rid=new_id()).request_id)["snapshot"]
    upstream.queue("one", scripts.stream([*parts, wire.DONE]))
    rid = new_id()
    with gateway.open("gpt", rid, stream=True, secret=SECOND) as conn:
        conn.response(stop=10)

        def change(config):
            config["route"] = [route("gpt", "up/elsewhere", price={"input": 50.0, "output": 50.0})]
            config["key"].pop()

        gateway.write(changed(base, change))
        eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 401, 2)
        assert gateway.chat("gpt").header("x-tunegate-target") == "up/elsewhere"
        go.set()
        data = conn.rest()
    assert b'"b"' in data
    assert b"[DONE]" in data
    row = gateway.row(rid)
    assert (row["end"], row["cost_nano"], row["snapshot"]) == ("success", 100_000, before)


def test_limits_survive_a_reload(gateway, base):
    """A reload must not hand out fresh allowances."""

    def limit(config):
        config["key"].append(key("few", "sk-tg-few", limits={"rpm": 3}))

    gateway.write(changed(base, limit))
    eventually(lambda: gateway.chat("nowhere", secret="sk-tg-few").status != 401, 2)
    assert [gateway.chat("gpt", secret="sk-tg-few").status for _ in range(4)].count(429) >= 1

    def more(config):
        limit(config)
        config["route"].append(route("sign", "up/one"))

    gateway.write(changed(base, more))
    eventually(lambda: gateway.chat("sign").status == 200, 2)
    assert gateway.chat("gpt", secret="sk-tg-few").status == 429


def test_readiness_and_models_follow(gateway, base):
    gateway.write(changed(base, lambda c: c["route"].append(route("listed", "up/one"))))

    def listed():
        return "listed" in {m["id"] for m in gateway.call("GET", "/v1/models").json["data"]}

    eventually(listed, 2)
    assert gateway.call("GET", "/readyz", secret=None).status == 200
