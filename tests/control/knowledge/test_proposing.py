"""A model proposes questions for a test set: one passage, one question, paid by whoever asks; nothing is kept."""

from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import pytest

from control.knowledge.evaluation.proposing import SHARE
from tests.control.api.conftest import Running, Start
from tests.control.knowledge.conftest import BASES, base, ready
from tests.control.knowledge.test_vertical import LEAVE
from tests.fakes import scripts
from tests.fakes.milvus import MilvusLite
from tests.fakes.upstream import Upstream

SETS = f"{BASES}/handbook/test-sets"


@pytest.fixture
def control(start_control: Start, milvus: MilvusLite, gateway: Upstream) -> Running:
    return start_control(knowledge={"milvus_uri": milvus.uri}, gateway_url=gateway.url)


@pytest.fixture
def client(control: Running) -> httpx.Client:
    """An engineer with a base of one document and an empty test set."""
    client = control.as_("engineer")
    base(client, "handbook")
    ready(client, "handbook", "leave.txt", LEAVE)
    assert client.post(SETS, json={"name": "common"}).status_code == 201
    return client


def propose(client: httpx.Client, key: str) -> httpx.Response:
    return client.post(f"{SETS}/common/proposals", json={"route": "asker", "key": key})


def own_key(client: httpx.Client) -> str:
    name: str = client.post("/api/v1/keys", json={"name": "pays"}).json()["public_name"]
    return name


def said(text: str | None) -> Any:
    return scripts.reply(json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode())


def test_a_model_reads_a_passage_and_its_question_finds_it(client: httpx.Client, gateway: Upstream) -> None:
    gateway.on("asker", said(' "How many days of\nleave are there?" '))
    answer = propose(client, own_key(client))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["question"] == "How many days of leave are there?"
    (expected,) = found["expected"]
    assert expected["document"] == "leave.txt"
    assert found["passage"].startswith(expected["text"])
    assert 0 < len(expected["text"]) <= SHARE
    (asked,) = gateway.of("asker")
    assert found["passage"] in asked.json["messages"][0]["content"]
    assert asked.header("authorization").startswith("Bearer ")
    assert client.get(f"{SETS}/common/questions").json()["total"] == 0, "it is taken by a person only"
    taken = {"questions": [{key: found[key] for key in ("question", "expected")}]}
    assert client.post(f"{SETS}/common/questions", json=taken).json()["questions"] == 1


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (said(""), "0 characters"),
        (said(None), "0 characters"),
        (said("why " * 200), "799 characters"),
        (scripts.reply(b"{}"), "nothing that can be read"),
        (scripts.reply(b"<html>"), "nothing that can be read"),
        (scripts.reply(b'{"error": {"message": "no budget"}}', 429), "answers 429: no budget"),
    ],
)
def test_what_is_no_question_is_said(client: httpx.Client, gateway: Upstream, script: Any, words: str) -> None:
    gateway.on("asker", script)
    answer = propose(client, own_key(client))
    assert (answer.status_code, answer.json()["code"]) == (502, "no_question")
    assert words in answer.json()["detail"]


def test_nobody_pays_for_others_and_an_empty_base_gives_none(
    control: Running, client: httpx.Client, gateway: Upstream
) -> None:
    foreign = own_key(control.admin)
    assert propose(client, foreign).json()["code"] == "unknown_key"
    assert propose(control.as_("member"), foreign).status_code == 403
    base(client, "empty")
    assert client.post(f"{BASES}/empty/test-sets", json={"name": "common"}).status_code == 201
    none = client.post(f"{BASES}/empty/test-sets/common/proposals", json={"route": "asker", "key": own_key(client)})
    assert (none.status_code, none.json()["code"]) == (409, "no_documents")
    assert gateway.of("asker") == []
