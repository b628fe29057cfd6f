"""People rate answers of a run: blind, each in an order of their own, each answer once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running
from tests.control.api.test_pairs_of_runs import BETTER, judge
from tests.control.api.test_runs import RUNS, begun, client, control, gateway, state, suite
from tests.fakes.upstream import Upstream

__all__ = ["client", "control", "gateway"]
SAYS = {"name": "says yes", "kind": "contains"}


@pytest.fixture
def run(client: httpx.Client, gateway: Upstream) -> str:
    """Three cases by good and bad."""
    gateway.on("judge", judge(swayed=1))
    suite(client, 3, SAYS, BETTER)
    identity = begun(client, "good", "bad")
    state(client, identity, "done")
    return identity


def path(run: str, item: str = "") -> str:
    return f"{RUNS}/{run}/review{item and '/'}{item}"


def rate_all(who: httpx.Client, run: str, points: Any) -> list[str]:
    """Rate all, by what is in the answer; the texts in the order in which they came."""
    texts, at = [], who.get(path(run)).json()
    while (item := at["item"]) is not None:
        texts.append(f"{item['messages'][0]['content']} {item['text']}")
        answer = who.post(path(run, item["item"]), json=points(item))
        assert answer.status_code == 201, answer.text
        at = answer.json()
    assert at["rated"] == at["total"] == 6
    return texts


def by_text(good: int, bad: int) -> Any:
    return lambda item: {"points": good if "yes" in item["text"] else bad}


def test_answers_come_blind_once_and_in_another_order_to_everybody(
    control: Running, client: httpx.Client, run: str
) -> None:
    first = client.get(path(run)).json()
    assert (first["scale"], first["total"], first["rated"]) == ("", 6, 0)
    assert set(first["item"]) == {"item", "messages", "expected", "text", "tool_calls"}
    assert "good" not in str(first)
    operator = control.as_("operator")
    mine, theirs = rate_all(client, run, by_text(5, 2)), rate_all(operator, run, by_text(4, 1))
    assert sorted(mine) == sorted(theirs)
    assert len(set(mine)) == 6
    assert mine != sorted(mine) or theirs != sorted(theirs)
    foreign = operator.post(path(run, first["item"]["item"]), json={"points": 3})
    assert foreign.status_code == 404, "an answer's name is one person's"
    again = client.post(path(run, first["item"]["item"]), json={"points": 3})
    assert (again.status_code, again.json()["code"]) == (409, "rated")


def test_the_report_says_how_far_people_and_scorers_agree(control: Running, client: httpx.Client, run: str) -> None:
    empty = client.get(path(run, "report")).json()
    assert (empty["raters"], empty["alpha"], empty["scorers"], empty["pairs"]) == ({}, None, [], [])
    rate_all(client, run, by_text(5, 1))
    rate_all(control.as_("operator"), run, by_text(4, 1))
    vote = {
        "messages": [{"role": "user", "content": "q2"}], "outcome": "best", "best": 0,
        "answers": [{"route": "bad", "text": "no"}, {"route": "good", "text": "yes"}],
    }  # fmt: skip
    assert client.post("/api/v1/votes", json=vote).status_code == 201
    report = client.get(path(run, "report")).json()
    assert (report["scale"], report["cells"], report["raters"]) == ("points", 6, {"engineer": 6, "operator": 6})
    # 3 pairs (1, .75) and 3 pairs (0, 0): observed Σ(a-b)²/n = 6 · .0625 / 12; the rest by its definition
    values = [1.0] * 3 + [0.75] * 3 + [0.0] * 6
    chance = sum((a - b) ** 2 for a in values for b in values) / (12 * 11)
    assert report["alpha"] == pytest.approx(1 - 6 * 0.0625 / 12 / chance)
    assert report["raters_in_pairs"] == [{"first": "engineer", "second": "operator", "n": 6, "kappa": 1.0}]
    assert [one["rating"]["value"] for one in report["candidates"]] == [0.875, 0.0]
    (scorer,) = report["scorers"]
    assert (scorer["scorer"], scorer["n"], scorer["kappa"], scorer["agreed"]["value"]) == ("says yes", 6, 1.0, 1.0)
    assert scorer["correlation"] == pytest.approx(1.0)
    pairs = {one["source"]: one for one in report["pairs"]}
    assert (pairs["ratings"]["n"], pairs["ratings"]["agreed"]["value"]) == (3, pytest.approx(2 / 3))
    assert (pairs["votes"]["n"], pairs["votes"]["agreed"]["value"]) == (1, 0.0), "the vote was for the bad one"


def test_a_run_has_one_scale_and_a_rating_can_be_taken_back(control: Running, client: httpx.Client, run: str) -> None:
    item = client.get(path(run)).json()["item"]["item"]
    assert client.delete(path(run, item)).status_code == 404
    assert client.post(path(run, item), json={"passed": True, "note": "fine"}).json()["scale"] == "passed"
    operator = control.as_("operator")
    other = operator.get(path(run)).json()["item"]["item"]
    refused = operator.post(path(run, other), json={"points": 3})
    assert (refused.status_code, refused.json()["code"]) == (409, "scale")
    back = client.delete(path(run, item)).json()
    assert (back["scale"], back["rated"], back["item"]["item"]) == ("", 0, item)
    assert operator.post(path(run, other), json={"points": 3}).status_code == 201
    noted = control.admin.get("/api/v1/audit", params={"resource_kind": "run"}).json()["items"]
    assert [one["action"] for one in noted][:3] == ["rate", "unrate", "rate"]


def test_one_rating_sent_many_times_at_once_is_kept_once(client: httpx.Client, run: str) -> None:
    item = client.get(path(run)).json()["item"]["item"]
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda points: client.post(path(run, item), json={"points": points}), (1, 2, 3, 4, 5, 1, 2, 3))
        statuses = sorted(answer.status_code for answer in sent)
    assert statuses == [201] + [409] * 7
    assert client.get(path(run)).json()["rated"] == 1


@pytest.mark.parametrize(
    "body",
    [{}, {"points": 0}, {"points": 6}, {"points": 3.5}, {"points": True}, {"points": "3"}, {"passed": 1},
     {"points": 3, "passed": True}, {"points": 3, "note": "\0"}, {"points": 3, "note": "x" * 1001}],
)  # fmt: skip
def test_what_is_no_rating_is_refused(control: Running, body: dict[str, Any]) -> None:
    assert control.admin.post(path("none", "none"), json=body).status_code == 422


def test_who_may_not_rate_may_look(control: Running, client: httpx.Client, run: str) -> None:
    viewer = control.as_("viewer")
    assert viewer.get(path(run)).status_code == 403
    assert viewer.get(path(run, "report")).status_code == 200
    assert client.get(path("nothing")).status_code == 404
    assert client.post(path(run, "nothing"), json={"points": 3}).status_code == 404
