"""Votes on answers side by side: kept, counted, and made into datasets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.control.api.conftest import Running
from tests.control.api.training import checked

VOTES, DATASETS = "/api/v1/votes", "/api/v1/datasets"
SINCE = "2020-01-01T00:00:00Z"


def vote(outcome: str = "best", best: int | None = 0, routes: str = "ab", **more: Any) -> dict[str, Any]:
    """A vote on answers of routes with names of one letter."""
    answers = [{"route": route, "text": f"{route} says"} for route in routes]
    asked = [{"role": "user", "content": "Where?"}]
    return {"messages": asked, "answers": answers, "outcome": outcome, "best": best, **more}


def test_a_vote_is_kept_whole_and_is_its_voters(control: Running) -> None:
    ann, bob = control.as_("engineer"), control.as_("viewer")
    told = vote(
        blind=True, reasons=["precise"], ideal="In Paris.",
        answers=[
            {"route": "a", "text": "x", "request_id": "r1", "latency_ms": 12.5, "ttft_ms": 3.0, "input_tokens": 7},
            {"route": "b", "text": "", "finish_reason": "failed"},
        ],
    )  # fmt: skip
    made = ann.post(VOTES, json=told)
    assert made.status_code == 201, made.text
    kept = ann.get(VOTES).json()["items"]
    assert kept == [made.json()]
    assert {name: kept[0][name] for name in ("blind", "reasons", "ideal", "outcome", "best", "messages")} == {
        "blind": True, "reasons": ["precise"], "ideal": "In Paris.", "outcome": "best", "best": 0,
        "messages": told["messages"],
    }  # fmt: skip
    assert kept[0]["answers"][0]["latency_ms"] == 12.5
    assert bob.get(VOTES).json()["total"] == 1, "a viewer reads all"
    assert bob.post(VOTES, json=told).status_code == 403
    own = control.admin.post(VOTES, json=vote()).json()
    assert ann.get(VOTES).json()["total"] == 1, "an engineer sees their own"
    assert ann.delete(f"{VOTES}/{own['id']}").status_code == 404
    assert control.admin.delete(f"{VOTES}/{kept[0]['id']}").status_code == 204
    assert ann.get(VOTES).json()["items"] == []
    actions = control.admin.get("/api/v1/audit", params={"resource_kind": "vote"}).json()["items"]
    assert [one["action"] for one in actions] == ["delete", "create", "create"]


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"outcome": "best", "best": None}, "body"),
        ({"outcome": "tie", "best": 0}, "body"),
        ({"best": 2}, "body"),
        ({"best": True}, "body.best"),
        ({"outcome": "worst"}, "body.outcome"),
        ({"messages": []}, "body.messages"),
        ({"answers": [{"route": "a", "text": "x"}]}, "body.answers"),
        ({"answers": [{"route": "a", "text": "x"}, {"route": "a", "text": "y"}]}, "body"),
        ({"answers": [{"route": "a", "text": "x" * 200_001}, {"route": "b", "text": "y"}]}, "body.answers.0.text"),
        ({"ideal": "  "}, "body"),
        ({"reasons": ["x" * 41]}, "body.reasons.0"),
        ({"blind": 1}, "body.blind"),
    ],
)
def test_a_vote_that_says_nothing_clear_is_refused(control: Running, change: dict[str, Any], at: str) -> None:
    answer = control.admin.post(VOTES, json={**vote(), **change})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["at"].startswith(at)
    assert control.admin.get(VOTES).json()["total"] == 0


def test_the_report_counts_and_rates(control: Running) -> None:
    admin = control.admin
    empty = admin.get(f"{VOTES}/report").json()
    assert (empty["votes"], empty["routes"], empty["ratings"], empty["pairs"]) == (0, [], [], [])
    for told in (
        *(vote(best=0, blind=True, reasons=["short", "right"]) for _ in range(6)),
        *(vote(best=1, reasons=["right"]) for _ in range(2)),
        vote("tie", None), vote("bad", None, "abc"), vote(best=2, routes="bac"),
    ):  # fmt: skip
        assert admin.post(VOTES, json=told).status_code == 201
    report = admin.get(f"{VOTES}/report").json()
    assert report["votes"] == 11
    assert {one["route"]: (one["votes"], one["best"], one["tied"], one["bad"]) for one in report["routes"]} == {
        "a": (11, 6, 1, 1), "b": (11, 2, 1, 1), "c": (2, 1, 0, 1),
    }  # fmt: skip
    assert report["reasons"] == {"right": 8, "short": 6}
    assert [(one["first"], one["second"], one["points"], one["met"]) for one in report["pairs"]] == [
        ("a", "b", 7.0, 10), ("a", "c", 0.5, 2), ("b", "c", 0.5, 2)
    ]  # fmt: skip
    ratings = {one["name"]: one["elo"] for one in report["ratings"]}
    assert ratings["c"]["value"] > ratings["a"]["value"] > ratings["b"]["value"]
    assert np.mean([one["value"] for one in ratings.values()]) == pytest.approx(1000)
    assert all(one["few"] for one in ratings.values())
    assert admin.get(f"{VOTES}/report", params={"blind": True}).json()["votes"] == 6
    assert admin.get(f"{VOTES}/report", params={"since": "2099-01-01T00:00:00Z"}).json()["votes"] == 0


def test_votes_become_datasets_of_either_kind_with_their_lineage(control: Running) -> None:
    engineer = control.as_("engineer")
    first = engineer.post(VOTES, json=vote(best=1, routes="abc", blind=True)).json()["id"]
    engineer.post(VOTES, json=vote("tie", None))
    engineer.post(VOTES, json=vote("bad", None, ideal="It is in Paris."))
    control.admin.post(VOTES, json=vote(best=0, routes="xy"))
    for name, kind, rows in (("pairs", "preference", 4), ("dialogues", "sft", 2)):
        assert engineer.post(DATASETS, json={"name": name}).status_code == 201
        made = engineer.post(f"{DATASETS}/{name}/from-votes", json={"kind": kind, "since": SINCE})
        assert made.status_code == 201, made.text
        assert made.json()["skipped"] == {"nothing_better": 1}
        version = checked(engineer, name, made.json()["version"])
        assert (version["state"], version["source"], version["kind"], version["rows"]) == ("ready", "votes", kind, rows)
    path = f"{DATASETS}/pairs/versions/1/rows"
    shown = [one for one in engineer.get(path).json()["items"] if one["origin"] == first]
    assert [(one["row"]["chosen"][0]["content"], one["row"]["rejected"][0]["content"]) for one in shown] == [
        ("b says", "a says"), ("b says", "c says"),
    ]  # fmt: skip
    assert "voted" in shown[0]["consent"]
    blind = engineer.post(f"{DATASETS}/pairs/from-votes", json={"kind": "preference", "since": SINCE, "blind": True})
    assert checked(engineer, "pairs", blind.json()["version"])["rows"] == 2
    none = engineer.post(f"{DATASETS}/pairs/from-votes", json={"kind": "sft", "since": "2099-01-01T00:00:00Z"})
    assert (none.status_code, none.json()["code"]) == (422, "no_rows")
