"""Embeddings of a route, from a gateway that does what a test says: failures and changes."""

from __future__ import annotations

import json

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running, Start
from tests.control.knowledge.conftest import BASES, add, base, ready, search, settled, vectors
from tests.fakes import scripts
from tests.fakes.milvus import MilvusLite
from tests.fakes.upstream import Script, Upstream
from tests.processes import eventually


def failing(status: int) -> Script:
    return scripts.reply(json.dumps({"error": {"message": "the budget is spent"}}).encode(), status)


@pytest.fixture
def client(start_control: Start, milvus: MilvusLite, gateway: Upstream) -> httpx.Client:
    """An engineer with the base `handbook`, whose texts are embedded by the route `embed` for the key bot."""
    control: Running = start_control(knowledge={"milvus_uri": milvus.uri}, gateway_url=gateway.url)
    engineer = control.as_("engineer")
    assert engineer.post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    base(engineer, "handbook", embedding={"kind": "route", "route": "embed", "key": "bot@engineer"})
    return engineer


def test_a_session_token_of_the_key_is_shown_and_never_its_secret(client: httpx.Client, gateway: Upstream) -> None:
    ready(client, "handbook", "a.txt", "Annual leave is thirty days.")
    assert search(client, "handbook", "annual leave")
    assert search(client, "handbook", "annual leave")
    first, *rest = gateway.of("embed")
    assert (first.header("authorization") or "").startswith("Bearer tgs-")
    assert first.json == {"model": "embed", "input": ["Annual leave is thirty days."], "encoding_format": "float"}
    assert len(rest) == 1, "the vector of a query is kept"


def test_a_key_of_somebody_else_cannot_be_made_to_pay(client: httpx.Client) -> None:
    embedding = {"kind": "route", "route": "embed", "key": "console@admin"}
    answer = client.post(BASES, json={"name": "mine", "embedding": embedding})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_key")


def test_what_may_pass_is_tried_again_and_what_will_not_fails(client: httpx.Client, gateway: Upstream) -> None:
    path = f"{BASES}/handbook/documents"
    gateway.on("embed", failing(429))
    one = add(client, "handbook", "a.txt", "Annual leave is thirty days.")
    eventually(lambda: client.get(f"{path}/{one['id']}").json()["code"] == "embedding_down")
    assert "the budget is spent" in client.get(f"{path}/{one['id']}").json()["message"]
    gateway.on("embed", vectors())
    assert settled(client, "handbook", one)["state"] == "ready", "by itself"
    gateway.on("embed", failing(403))
    two = settled(client, "handbook", add(client, "handbook", "b.txt", "More about leave."))
    assert (two["state"], two["code"]) == ("failed", "embedding_refused")
    search_now = client.post(f"{BASES}/handbook/search", json={"query": "something new"})
    assert (search_now.status_code, search_now.json()["code"]) == (503, "embedding_refused")


def test_a_model_that_changes_its_dimension_is_noticed(client: httpx.Client, gateway: Upstream) -> None:
    ready(client, "handbook", "a.txt", "Annual leave is thirty days.")
    assert client.get(f"{BASES}/handbook").json()["indexes"][0]["dimension"] == 8
    gateway.on("embed", vectors(9))
    two = settled(client, "handbook", add(client, "handbook", "b.txt", "More about leave."))
    assert (two["state"], two["code"]) == ("failed", "embedding_changed")
    answer = client.post(f"{BASES}/handbook/search", json={"query": "something new"})
    assert (answer.status_code, answer.json()["code"]) == (503, "embedding_changed")


@pytest.mark.parametrize("body", [b"{}", b"[1]", b'{"data": []}', b'{"data": [{"index": 0, "embedding": [NaN]}]}'])
def test_an_answer_that_is_no_vectors_is_not_taken(client: httpx.Client, gateway: Upstream, body: bytes) -> None:
    gateway.on("embed", scripts.reply(body))
    one = add(client, "handbook", "a.txt", "Annual leave is thirty days.")
    path = f"{BASES}/handbook/documents/{one['id']}"
    eventually(lambda: client.get(path).json()["code"] == "embedding_down")
