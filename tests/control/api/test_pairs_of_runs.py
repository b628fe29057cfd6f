"""Judges that compare answers in pairs: both orders, once each, and what the report makes of it."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2 as httpx
import pytest

from control.comparisons.journal import Journal
from control.comparisons.matches import Verdict
from tests.control.api.conftest import Running
from tests.control.api.test_runs import RUNS, SUITES, begun, bill, client, control, gateway, says, state, suite
from tests.fakes import scripts
from tests.fakes.upstream import Seen, Step, Upstream
from tests.fakes.wire import Usage
from tests.processes import eventually

__all__ = ["client", "control", "gateway"]
BETTER = {"name": "better", "kind": "pairwise_judge", "route": "judge", "rubric": "Be right."}
SHOWN = re.compile(r"answer ([AB]):\n<(\w+)>\n(.*?)\n</\2>", re.DOTALL)


def judge(swayed: int = 0) -> Any:
    """Prefers what says yes; of the questions up to q`swayed` whatever is shown first."""

    def answer(seen: Seen) -> list[Step]:
        if len(seen.json["messages"]) == 1:  # it is a candidate, too
            return scripts.error(400, "I only judge")
        told = seen.json["messages"][1]["content"]
        (number,) = re.findall(r"q(\d+)", told)
        answers = {name: text for name, _, text in SHOWN.findall(told)}
        assert len(answers) == 2
        good = [name for name, text in answers.items() if "yes" in text]
        better = "A" if int(number) <= swayed else good[0] if len(good) == 1 else "tie"
        return scripts.chat([json.dumps({"reason": "so it is", "better": better})], Usage(20, 5))(seen)

    return answer


@pytest.fixture
def judged(client: httpx.Client, gateway: Upstream) -> httpx.Client:
    gateway.on("judge", judge())
    return client


def verdicts(client: httpx.Client, run: str, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"{RUNS}/{run}/verdicts", params={"limit": 200, **query}).json()["items"]
    return items


def test_every_pair_is_judged_in_both_orders_once(control: Running, judged: httpx.Client, gateway: Upstream) -> None:
    gateway.on("judge", judge(swayed=5))
    suite(judged, 25, BETTER)
    run = begun(judged, "good", "bad", repeats=2)
    ended = state(judged, run)
    assert (ended["state"], ended["pairs"], ended["judged"]) == ("done", 50, 50)
    ids = [seen.header("x-request-id") for seen in gateway.of("judge")]
    assert len(ids) == len(set(ids)) == 100
    assert f"{run}.p0.3.0-1.1.b.0" in ids
    (one,) = [v for v in verdicts(judged, run, case=3) if v["repeat"] == 1]
    assert (one["forward"], one["backward"], one["winner"]) == ("first", "second", "tie")
    assert {v["winner"] for v in verdicts(judged, run) if v["case"] > 5} == {"first"}
    report = judged.get(f"{RUNS}/{run}/report").json()
    (by,) = report["comparisons"]
    (pair,) = by["pairs"]
    assert pair["judged"] == {"first": 40, "second": 0, "tie": 10, "swayed": 10, "unjudged": 0}
    assert (pair["points"], pair["met"], pair["verdict"]) == (22.5, 25, "better")
    assert pair["difference"]["value"] == pytest.approx(0.8)
    assert (by["swayed"]["value"], by["swayed"]["n"]) == (0.2, 50)
    assert [(one["name"], one["elo"]["value"] > 1000) for one in by["ratings"]] == [("good", True), ("bad", False)]
    assert [one["scores"]["better"]["value"] for one in report["candidates"]] == pytest.approx([0.9, 0.1])
    text = judged.get(f"{RUNS}/{run}/report/export", params={"format": "markdown"}).text
    assert "| good | bad | 40 | 0 | 10 | 10 | 0 |" in text
    bill(control, run, 100, [one for one in ids if one])
    eventually(lambda: judged.get(f"{RUNS}/{run}").json()["billed_nano"] == 100 * 200)


def test_all_candidates_meet_each_other_and_failed_ones_nobody(judged: httpx.Client, gateway: Upstream) -> None:
    suite(judged, 2, BETTER)
    gateway.on("judge", judge())
    run = begun(judged, "good", "bad", "judge", tries=1)
    ended = state(judged, run)
    assert (ended["state"], ended["failed"]) == ("partial", 2)
    assert {(v["first"], v["second"]) for v in verdicts(judged, run)} == {(0, 1)}


def test_a_judge_that_does_not_say_is_asked_again_only_when_wanted(judged: httpx.Client, gateway: Upstream) -> None:
    gateway.on("judge", scripts.error(400, "too\0 long"))
    suite(judged, 3, BETTER)
    run = begun(judged, "good", "bad")
    assert state(judged, run)["state"] == "done"
    assert len(gateway.of("judge")) == 3, "the second order is not asked where the first one failed"
    assert {(v["winner"], "too long" in v["note"]) for v in verdicts(judged, run)} == {(None, True)}
    report = judged.get(f"{RUNS}/{run}/report").json()
    assert (report["comparisons"][0]["pairs"], report["comparisons"][0]["swayed"]) == ([], None)
    assert report["candidates"][0]["unscored"] == {"better": 3}
    gateway.on("judge", judge())
    assert judged.post(f"{RUNS}/{run}/resume", json={"failed_again": True}).status_code == 200
    eventually(lambda: [v["winner"] for v in verdicts(judged, run)] == ["first"] * 3)
    assert len(gateway.of("good")) == 3


def test_a_pause_while_judging_keeps_what_was_said(judged: httpx.Client, gateway: Upstream) -> None:
    gateway.on("judge", says('{"better": "tie"}', 0.05))
    suite(judged, 60, BETTER)
    run = begun(judged, "good", "bad", concurrency=2)
    eventually(lambda: judged.get(f"{RUNS}/{run}").json()["judged"] >= 4, 20)
    judged.post(f"{RUNS}/{run}/pause")
    paused = state(judged, run, "paused")
    assert 4 <= paused["judged"] < paused["pairs"] == 60
    assert paused["judged"] == len(verdicts(judged, run))
    gateway.on("judge", judge())
    judged.post(f"{RUNS}/{run}/resume", json={})
    assert state(judged, run, "done")["judged"] == 60
    assert len({seen.header("x-request-id") for seen in gateway.of("judge")}) == len(gateway.of("judge")) == 120


def test_the_budget_holds_for_judges_of_pairs(control: Running, judged: httpx.Client, gateway: Upstream) -> None:
    gateway.on("judge", says('{"better": "tie"}', 0.05))
    suite(judged, 100, BETTER)
    run = begun(judged, "good", "bad", concurrency=2, budget_nano=205_000)

    def spent() -> bool:
        bill(control, run, 1000, [seen.header("x-request-id") or "" for seen in gateway.of("judge")])
        return bool(judged.get(f"{RUNS}/{run}").json()["state"] == "paused")

    eventually(spent, 30)
    paused = judged.get(f"{RUNS}/{run}").json()
    assert (paused["code"], paused["done"]) == ("budget", 200)
    assert paused["judged"] < 50


def test_verdicts_of_a_journal_are_taken_over_and_not_asked_again(
    control: Running, judged: httpx.Client, gateway: Upstream
) -> None:
    suite(judged, 3, BETTER)
    run = begun(judged, "good", "bad")
    state(judged, run)
    control.sql("DELETE FROM comparison_verdict WHERE case_number >= 2")
    journal = Journal(control.parts.files.path("comparisons", run))
    journal.add(Verdict(2, 0, 1, 0, 0, "second", "second", "second", "", [], "2026-11-24T09:30:00+00:00"))
    journal.close()
    control.sql("UPDATE comparison_run SET state = 'queued', claimed_until = NULL WHERE id = ?", run)
    eventually(lambda: len(verdicts(judged, run)) == 3)
    assert [one["winner"] for one in verdicts(judged, run)] == ["first", "second", "first"]
    assert len(gateway.of("judge")) == 2 * 3 + 2, "only the case that was in neither"


def test_a_case_without_the_rubrics_variable_is_not_judged_and_other_prompts_are_not_the_question(
    judged: httpx.Client, gateway: Upstream
) -> None:
    assert judged.post(SUITES, json={"name": "prompts"}).is_success
    prompts = [
        {"name": name, "messages": [{"role": "user", "content": f"{name}: {{{{question}}}}"}]}
        for name in ("kind", "curt")
    ]
    cases = [{"variables": {"question": "q1", "wish": "yes"}}, {"variables": {"question": "q2"}}]
    body = {
        "prompts": prompts, "sources": [{"kind": "cases", "cases": cases}],
        "scorers": [BETTER | {"rubric": "It says {{wish}}."}],
    }  # fmt: skip
    assert judged.post(f"{SUITES}/prompts/versions", json=body).is_success
    run = begun(judged, "good", name="prompts")
    assert state(judged, run)["pairs"] == 1
    told = gateway.of("judge")[0].json["messages"]
    assert "It says yes." in told[0]["content"]
    assert "question: q1" in told[1]["content"]
    assert "kind:" not in told[1]["content"]


def test_the_estimate_counts_both_orders_and_too_many_pairs_are_refused(judged: httpx.Client) -> None:
    suite(judged, 100, BETTER)
    two = judged.post(f"{SUITES}/questions/estimate", json={"candidates": [{"route": "good"}, {"route": "bad"}]})
    assert [(one["route"], one["requests"]) for one in two.json()["candidates"]][-1] == ("judge", 200)
    many = [{"route": "good", "name": f"n{number}"} for number in range(16)]
    refused = judged.post(f"{SUITES}/questions/runs", json={"candidates": many, "repeats": 9})
    assert (refused.status_code, refused.json()["code"]) == (422, "too_many_cells")
