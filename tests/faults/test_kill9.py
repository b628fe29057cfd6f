"""kill -9 under load, twenty times: nothing that was served is lost, nothing is counted twice."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from tests.fakes.gateway import Gateway, endpoint, eventually, route
from tests.fakes.load import Load
from tests.fakes.upstream import Upstream

ROUNDS = 20
PRICE = {"input": 1.0, "output": 2.0}


def total(row: dict) -> int:
    return sum(row["tokens"].values())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """The load, what the upstream served, and the final ledger."""
    dice = random.Random(9)
    with Upstream() as upstream:
        config = {"endpoint": [endpoint(upstream.url)], "route": [route("x/*", price=PRICE)]}
        gateway = Gateway(config, tmp_path_factory.mktemp("kill9")).start()
        try:
            with Load(lambda: gateway.url, "x/auto", clients=10) as load:
                for _ in range(ROUNDS):
                    start = load.finished
                    eventually(lambda start=start: load.finished > start + 20, 10, "the load stands still")
                    time.sleep(dice.random() * 0.15)
                    gateway.kill9()
                    gateway.start()
                start = load.finished
                eventually(lambda: load.finished > start + 20, 10)
            eventually(lambda: upstream.answering == 0, 10)
            assert gateway.stop() == 0
            # What a kill left in the spool is replayed at the next start; once more, to be sure that it ends.
            for _ in range(2):
                gateway.start()
                time.sleep(0.4)
                gateway.stop()
            yield load.asked, upstream, gateway.ledger()
        finally:
            gateway.stop()


@pytest.mark.timeout(180)
def test_the_load_was_a_load(outcome):
    asked, _, rows = outcome
    ends = Counter(r["end"] for r in rows)
    print(f"\n{len(asked)} asked, {sum(a.whole for a in asked)} whole, {ROUNDS} kills; rows: {dict(ends)}")
    assert sum(a.whole for a in asked) > ROUNDS * 15
    assert sum(bool(a.trouble) for a in asked) >= ROUNDS, "the kills hit nobody"
    assert len(rows) > ROUNDS * 15


def test_every_answer_that_arrived_whole_is_in_the_ledger_exactly_once(outcome):
    asked, _, rows = outcome
    by_id: dict[str, list[dict]] = {}
    for row in rows:
        by_id.setdefault(row["request_id"], []).append(row)
    whole = [a for a in asked if a.whole]
    wrong = {a.rid: by_id.get(a.rid) for a in whole if len(by_id.get(a.rid, [])) != 1}
    assert wrong == {}, f"{len(wrong)} of {len(whole)} answers"
    for one in whole:
        (row,) = by_id[one.rid]
        if row["end"] == "interrupted":
            continue  # counted below: the process died between the last byte and the record of it
        assert (row["end"], row["usage_source"]) == ("success", "provider"), row
        assert (row["tokens"]["input"], row["tokens"]["output"]) == (one.prompt, one.completion)


def test_an_answer_that_arrived_whole_is_not_interrupted(outcome):
    """Design § 10: usage rows lost under kill -9: none. The record is safe before the last byte goes out."""
    asked, _, rows = outcome
    whole = {a.rid for a in asked if a.whole}
    lost = [r["request_id"] for r in rows if r["end"] == "interrupted" and r["request_id"] in whole]
    assert lost == [], f"{len(lost)} whole answers are not charged"


def test_no_id_is_there_twice(outcome):
    _, _, rows = outcome
    assert [i for i, n in Counter(r["id"] for r in rows).items() if n > 1] == []
    assert [i for i, n in Counter(r["request_id"] for r in rows).items() if n > 1] == []


def test_provider_usage_was_served_by_the_provider(outcome):
    _, upstream, rows = outcome
    for row in rows:
        if row["usage_source"] == "provider":
            served = upstream.served.get(row["request_id"])
            assert served is not None, row
            assert (row["tokens"]["input"], row["tokens"]["output"]) == (served.prompt, served.completion)


def test_interrupted_rows_carry_no_charge(outcome):
    _, _, rows = outcome
    for row in rows:
        if row["end"] == "interrupted":
            assert (row["cost_nano"], total(row), row["usage_source"]) == (0, 0, "none")


def test_no_admitted_request_is_without_a_row(outcome):
    """Everything that the upstream saw was admitted, so it has a row: complete, partial or interrupted."""
    _, upstream, rows = outcome
    known = {r["request_id"] for r in rows}
    seen = {str(s.json.get("user")) for s in upstream.requests}
    assert seen - known == set(), f"{len(seen - known)} of {len(seen)} requests left no trace"


def test_the_sums_agree(outcome):
    """Σ ledger == Σ served to completion, minus those whose row says interrupted or was cut by the kill."""
    _, upstream, rows = outcome
    charged = {r["request_id"] for r in rows if r["usage_source"] == "provider"}
    served = sum(u.prompt + u.completion for rid, u in upstream.served.items() if rid in charged)
    assert sum(total(r) for r in rows if r["usage_source"] == "provider") == served
    ends = {r["request_id"]: r["end"] for r in rows}
    left = {rid for rid in upstream.served if rid.startswith("test-") and rid not in charged}
    assert {ends.get(rid) for rid in left} <= {"interrupted", "client_gone", "client_gone_partial", "stopped"}
    cost = sum(r["cost_nano"] for r in rows if r["usage_source"] == "provider")
    expected = sum(u.prompt * 1000 + u.completion * 2000 for rid, u in upstream.served.items() if rid in charged)
    assert cost == expected


def test_the_upstream_served_nothing_twice(outcome):
    _, upstream, _ = outcome
    assert [i for i, n in upstream.served_count.items() if n > 1] == []
