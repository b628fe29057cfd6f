"""What a gateway tells control of itself: how its targets do, every few seconds, and on nobody's way."""

from __future__ import annotations

import pytest

from tests.fakes import control as fake
from tests.fakes.control import ENV, Control, settings
from tests.fakes.gateway import Gateway, endpoint, eventually, key, route


@pytest.fixture
def control():
    with Control() as server:
        yield server


@pytest.fixture
def gateway(control, upstream, tmp_path):
    control.publish({"endpoint": [endpoint(upstream.url)], "route": [route("gpt", "up/one")], "key": [key("tester")]})
    with Gateway(settings(control), tmp_path, env=ENV) as running:
        yield running


def only(control):
    (status,) = control.statuses.values()
    return status


def test_targets_are_told_and_nothing_waits_for_control(gateway, control, upstream):
    eventually(lambda: control.statuses, 10, "no report")
    first = only(control)
    assert (first.snapshot, first.targets, first.gateway.rpartition("/")[2]) == (control.version, (), "w0")
    for _ in range(3):
        assert gateway.chat("gpt").status == 200
    eventually(lambda: only(control).targets, 8, "no report of targets")
    (target,) = only(control).targets
    assert (target.id, target.breaker, target.in_flight) == ("up/one", "closed", 0)
    assert (target.successes, target.failures) == (3, 0)
    assert target.first_content_ms is not None
    assert 0 < target.first_content_ms < 5000
    control.manners["status"] = fake.hang
    failures = 'tunegate_control_failures.*call="status"'
    eventually(lambda: gateway.metric(failures) == 1, 12, "a report that nobody answers has not failed")
    assert gateway.chat("gpt").status == 200
    eventually(lambda: only(control).targets[0].successes == 1, 12)
    eventually(lambda: gateway.metric(failures) >= 2, 12)
    del control.manners["status"]
    answers = 'tunegate_control_answers.*call="status"'
    eventually(lambda: gateway.metric(answers) == 1, 12)
    assert only(control).targets[0].successes == 1, "what control did not take was told again"
    eventually(lambda: only(control).targets[0].successes == 0, 12, "and what it took was not")
