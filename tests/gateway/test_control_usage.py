"""A gateway that runs from control: what it used reaches control's ledger once, and the ledger's budgets hold here."""

from __future__ import annotations

import time

import pytest

from tests.fakes import control as fake
from tests.fakes.control import ENV, Control, changed, settings
from tests.fakes.gateway import Gateway, endpoint, eventually, key, new_id, route

SECOND = "sk-tg-second-key-0123456789"


@pytest.fixture
def control():
    with Control() as server:
        yield server


@pytest.fixture(scope="module")
def base(upstream):
    return {
        "endpoint": [endpoint(upstream.url)],
        "route": [route("gpt", "up/one", price={"input": 1_000.0, "output": 1_000.0})],
        "key": [key("tester"), key("second", SECOND)],
    }


@pytest.fixture
def gateway(control, base, tmp_path):
    """A running gateway that has the base configuration."""
    control.publish(base)
    with Gateway(settings(control), tmp_path, env=ENV) as running:
        yield running


# ---- usage ----


@pytest.mark.parametrize("manner", [fake.drop, fake.hang, fake.answering(200, b"{}"), fake.answering(503)])
def test_events_stay_until_they_are_acknowledged_and_survive_kill_9(gateway, control, manner):
    control.manners["usage"] = manner
    rids = [new_id() for _ in range(20)]
    assert all(gateway.chat("gpt", rid=rid).status == 200 for rid in rids)
    eventually(lambda: control.count("usage") >= 1, 10)
    gateway.kill9()
    control.manners.clear()
    gateway.start()
    eventually(lambda: {e["request_id"] for e in control.ledger.values()} >= set(rids), 15)
    eventually(lambda: gateway.metric("tunegate_spool_backlog_bytes") == 0, 10)
    assert control.duplicates > 0, "they were stored before, and nobody heard of it"
    assert len(control.ledger) == len(rids), "each once, however often it was sent"
    assert all(event["end"] == "success" for event in control.ledger.values())


def test_an_outage_that_fills_the_spool_ends_in_503_and_loses_nothing(control, base, tmp_path):
    control.publish(base)
    usage = {"spool_max_bytes": 1_048_576, "segment_bytes": 65_536}
    with Gateway(settings(control, usage=usage), tmp_path, env=ENV) as gateway:
        control.stop()
        served = []
        for _ in range(3_000):
            rid = new_id()
            answer = gateway.chat("gpt", rid=rid)
            if answer.status != 200:
                break
            served.append(rid)
        assert (answer.status, answer.fault) == (503, "tunegate_spool_full")
        control.start()
        eventually(lambda: gateway.chat("gpt").status == 200, 15)
        eventually(lambda: {e["request_id"] for e in control.ledger.values()} >= set(served), 15)


# ---- budgets ----


def budget(amount, window="total"):
    return lambda config: config["key"][1].update(budget=[{"amount": amount, "window": window}])


def test_a_budget_that_others_have_spent_is_spent_here_and_a_raised_one_is_not(gateway, control, base):
    control.publish(changed(base, budget(5)))
    eventually(lambda: gateway.chat("gpt", secret=SECOND).header("x-tunegate-route") == "gpt", 2)
    control.spend("key", "second", 5_000_000_000)
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 429, 2)
    assert gateway.chat("gpt").status == 200
    control.publish(changed(base, budget(50)))
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 200, 2)


def test_the_ledger_is_asked_before_the_first_request_and_again_for_a_new_budget(control, base, tmp_path):
    control.spend("key", "second", 5_000_000_000)
    control.publish(changed(base, budget(5)))
    with Gateway(settings(control), tmp_path, env=ENV) as gateway:
        assert gateway.chat("gpt", secret=SECOND).status == 429
        control.publish(base)
        eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 200, 2)
        control.publish(changed(base, budget(4)))
        eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 429, 2)


def test_figures_of_old_windows_and_unknown_scopes_are_ignored(gateway, control, base):
    control.publish(changed(base, budget(5, "day")))
    control.spend("key", "second", 5_000_000_000, window="day", start=time.time() // 86_400 * 86_400 - 86_400)
    control.spend("key", "nobody", 5_000_000_000)
    control.spend("team", "second", 5_000_000_000)
    asked = control.count("spend")
    eventually(lambda: control.count("spend") > asked + 2, 15)
    assert gateway.chat("gpt", secret=SECOND).status == 200
    control.spend("key", "second", 5_000_000_000, window="day", start=time.time() // 86_400 * 86_400)
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 429, 2)


def test_every_worker_refuses_what_the_ledger_says_is_spent(control, base, tmp_path):
    control.publish(changed(base, budget(10)))
    control.spend("key", "second", 9_999_999_999)
    with Gateway(settings(control, gateway={"workers": 3}), tmp_path, env=ENV) as gateway:
        eventually(lambda: control.count("spend") >= 6, 15)
        control.spend("key", "second", 10_000_000_000)
        eventually(lambda: all(gateway.chat("gpt", secret=SECOND).status == 429 for _ in range(12)), 10)


@pytest.mark.parametrize("manner", [fake.answering(200, b'{"cursor":"x"}'), fake.answering(500), fake.drop])
def test_a_ledger_that_cannot_be_read_stops_nobody(gateway, control, base, manner):
    control.manners["spend"] = manner
    control.publish(changed(base, budget(500)))
    eventually(lambda: gateway.metric('tunegate_control_failures_total.*call="spend"') > 0, 10)
    assert gateway.chat("gpt", secret=SECOND).status == 200
