"""kill -9 of the gateway under load while control comes and goes and swallows answers: each request is in it once."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from tests.fakes import control as fake
from tests.fakes.control import ENV, Control, settings
from tests.fakes.gateway import Gateway, endpoint, eventually, key, route
from tests.fakes.load import Load
from tests.fakes.upstream import Upstream

ROUNDS = 9


@pytest.mark.timeout(180)
def test_every_whole_answer_is_in_the_ledger_of_control_exactly_once(tmp_path):
    dice = random.Random(11)
    with Upstream() as upstream, Control() as control:
        control.publish({"endpoint": [endpoint(upstream.url)], "route": [route("x/*")], "key": [key("tester")]})
        gateway = Gateway(settings(control), tmp_path, env=ENV).start()
        try:
            with Load(lambda: gateway.url, "x/auto", clients=6) as load:
                for number in range(ROUNDS):
                    start = load.finished
                    eventually(lambda start=start: load.finished > start + 20, 10, "the load stands still")
                    time.sleep(dice.random() * 0.15)
                    match number % 3:
                        case 0:
                            control.manners["usage"] = fake.drop
                        case 1:
                            control.stop()
                        case 2:
                            control.manners.clear()
                            control.start()
                    gateway.kill9()
                    gateway.start()
                start = load.finished
                eventually(lambda: load.finished > start + 20, 10)
            eventually(lambda: gateway.metric("tunegate_spool_backlog_bytes") == 0, 10)
            assert gateway.stop() == 0
        finally:
            gateway.stop()
        by_request = Counter(event["request_id"] for event in control.ledger.values())
        whole = [one.rid for one in load.asked if one.whole]
        print(f"\n{len(whole)} whole answers, {len(control.ledger)} events, {control.duplicates} sent again")
        assert len(whole) > ROUNDS * 15
        assert control.duplicates > 0
        assert [rid for rid in whole if by_request[rid] != 1] == []
        assert {e["end"] for e in control.ledger.values() if e["request_id"] in whole} == {"success"}
