"""A rerank model through a route: its order, what it costs when it fails, and who may make a key pay for it."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running, Start
from tests.control.knowledge.conftest import BASES, base, ready
from tests.control.knowledge.test_evaluation import SETS, run
from tests.fakes import scripts
from tests.fakes.milvus import MilvusLite
from tests.fakes.upstream import Script, Seen, Step, Upstream, Wait

NAMES = ("alpha", "beta", "gamma")
RERANK = {"route": "rank", "key": "bot@engineer"}


def by_name(*order: str) -> Script:
    """Texts that say an earlier one of these names are better."""

    def answer(seen: Seen) -> list[Step]:
        texts = seen.json["documents"]
        scores = [-float(next(at for at, name in enumerate(order) if name in text)) for text in texts]
        results = [{"index": at, "relevance_score": score} for at, score in enumerate(scores)]
        return scripts.reply(json.dumps({"results": sorted(results, key=lambda one: -one["relevance_score"])}).encode())

    return answer


@pytest.fixture
def control(start_control: Start, milvus: MilvusLite, gateway: Upstream) -> Running:
    return start_control(knowledge={"milvus_uri": milvus.uri}, gateway_url=gateway.url)


@pytest.fixture
def client(control: Running, gateway: Upstream) -> httpx.Client:
    """An engineer with the base `handbook`, in which a document has each name."""
    gateway.on("rank", by_name(*NAMES))
    engineer = control.as_("engineer")
    assert engineer.post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    base(engineer, "handbook", embedding={"kind": "route", "route": "embed", "key": "bot@engineer"})
    for name in NAMES:
        ready(engineer, "handbook", f"{name}.txt", f"The machine {name} is serviced in spring.")
    return engineer


def search(client: httpx.Client, **rerank: Any) -> dict[str, Any]:
    body = {"query": "machine", "limits": {"score_floor": -1}, "retrieval": {"rerank": {**RERANK, **rerank}}}
    answer = client.post(f"{BASES}/handbook/search", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def titles(found: dict[str, Any]) -> list[str]:
    return [one["title"].removesuffix(".txt") for one in found["passages"]]


def test_candidates_are_in_the_order_of_the_model_and_the_key_pays(client: httpx.Client, gateway: Upstream) -> None:
    fused = client.post(f"{BASES}/handbook/search", json={"query": "machine", "limits": {"score_floor": -1}}).json()
    assert (fused["rerank"], gateway.of("rank")) == ("none", [])
    for order in (NAMES, NAMES[::-1], ("beta", "gamma", "alpha")):
        gateway.on("rank", by_name(*order))
        found = search(client)
        assert (found["rerank"], titles(found)) == ("done", list(order))
        assert [one["rerank"] for one in found["passages"]] == [0.0, -1.0, -2.0]
        scores = [one["score"] for one in found["passages"]]
        assert scores == [one["score"] for one in fused["passages"]], "the same scores, handed out anew"
        assert all(one["dense"] is not None and one["bm25"] is not None for one in found["passages"])
    asked = gateway.of("rank")[-1]
    assert asked.target.endswith("/v1/rerank")
    assert (asked.header("authorization") or "").startswith("Bearer tgs-")
    assert (asked.json["model"], asked.json["query"], len(asked.json["documents"])) == ("rank", "machine", 3)


def test_only_so_many_candidates_are_ordered_and_the_others_follow(client: httpx.Client, gateway: Upstream) -> None:
    before = titles(client.post(f"{BASES}/handbook/search", json={"query": "machine"}).json())
    gateway.on("rank", by_name(before[1], before[0]))
    found = search(client, candidates=2)
    assert titles(found) == [before[1], before[0], before[2]]
    assert found["passages"][2]["rerank"] is None


NO_RANKING = [
    (scripts.reply(b'{"error": {"message": "the budget is spent"}}', 429), "the budget is spent"),
    (scripts.reply(b"{}"), "no scores"),
    (scripts.reply(b'{"results": [{"index": 0, "relevance_score": 1}]}'), "1 scores for 3"),
    (scripts.reply(b'{"results": [{"index": 0, "relevance_score": "x"}]}'), "no scores"),
]
"""Answers that order nothing, and what is said of them."""


def test_the_fused_order_stands_when_it_fails(client: httpx.Client, gateway: Upstream) -> None:
    fused = titles(client.post(f"{BASES}/handbook/search", json={"query": "machine"}).json())
    for script, said in NO_RANKING:
        gateway.on("rank", script)
        found = search(client)
        assert (found["rerank"], titles(found)) == ("failed", fused)
        assert said in found["rerank_message"]


def test_the_fused_order_stands_when_it_is_slow_or_its_key_is_gone(client: httpx.Client, gateway: Upstream) -> None:
    hold = threading.Event()
    gateway.on("rank", [Wait(hold), *scripts.reply(b"{}")])
    found = search(client, timeout=0.3)
    hold.set()
    assert (found["rerank"], len(found["passages"])) == ("failed", 3)
    assert "within 0.3 s" in found["rerank_message"]
    assert found["took_ms"] < 5000
    gateway.on("rank", by_name(*NAMES))
    assert client.post("/api/v1/keys", json={"name": "other"}).status_code == 201
    row = client.get(f"{BASES}/handbook").json()
    retrieval = {"rerank": {"route": "rank", "key": "other@engineer"}}
    changed = client.patch(f"{BASES}/handbook", json={"row_version": row["row_version"], "retrieval": retrieval})
    assert changed.status_code == 200, changed.text
    assert client.delete("/api/v1/keys/other@engineer").json() == {"revoked": 1}
    found = client.post(f"{BASES}/handbook/search", json={"query": "machine"}).json()
    assert (found["rerank"], "is gone" in found["rerank_message"]) == ("failed", True)


def test_a_key_of_somebody_else_cannot_be_made_to_pay(control: Running, client: httpx.Client) -> None:
    theirs = {"rerank": {"route": "rank", "key": "console@admin"}}
    row = client.get(f"{BASES}/handbook").json()
    for answer in (
        client.patch(f"{BASES}/handbook", json={"row_version": row["row_version"], "retrieval": theirs}),
        client.post(f"{BASES}/handbook/search", json={"query": "machine", "retrieval": theirs}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_key")
    tried = {"query": "machine", "retrieval": {"mode": "dense"}}
    assert control.as_("viewer").post(f"{BASES}/handbook/search", json=tried).status_code == 403


def test_a_run_says_how_often_the_fused_order_stood(client: httpx.Client, gateway: Upstream) -> None:
    questions = [{"question": f"machine {name}", "expected": [{"document": f"{name}.txt"}]} for name in NAMES]
    assert client.post(SETS, json={"name": "common"}).status_code == 201
    assert client.post(f"{SETS}/common/questions", json={"questions": questions}).status_code == 201
    good = run(client, retrieval={"rerank": RERANK}, score_floor=-1)
    assert (good["figures"]["unranked"], good["figures"]["recall_1"]) == (0, pytest.approx(1 / 3, abs=1e-5))
    gateway.on("rank", scripts.reply(b"{}", 500))
    assert run(client, retrieval={"rerank": RERANK}, score_floor=-1)["figures"]["unranked"] == 3
