"""Token lengths over the API: asked for by people, counted by workers, each count once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running
from tests.control.api.training import Worker, begun, dataset

PATH = "/api/v1/datasets/dialogues/versions/1/tokens"
TINY = {"source": "path", "id": "/models/tiny", "revision": ""}
LENGTHS = {
    "rows": 8, "total": 120, "min": 10, "p50": 14, "p95": 20, "max": 20, "width": 1,
    "bins": [{"to": 10, "rows": 4}, {"to": 20, "rows": 4}],
}  # fmt: skip


@pytest.fixture
def engineer(control: Running) -> httpx.Client:
    client = control.as_("engineer")
    dataset(client)
    return client


def ask(client: httpx.Client, base: dict[str, Any] = TINY) -> httpx.Response:
    return client.post(PATH, json={"base": base})


def heartbeat(worker: Worker, *counts: dict[str, Any]) -> list[dict[str, Any]]:
    """What it is told to count."""
    worker.status["counts"] = list(counts)
    orders: list[dict[str, Any]] = worker.sync()["counts"]
    return orders


def test_a_worker_counts_what_was_asked_for_and_the_lengths_are_kept(control: Running, engineer: httpx.Client) -> None:
    worker = Worker(control)
    assert heartbeat(worker) == []
    answer = ask(engineer)
    assert (answer.status_code, answer.json()["state"], answer.json()["lengths"]) == (202, "waiting", None)
    (order,) = heartbeat(worker)
    assert (order["base"], order["data"]["rows"]) == (TINY, 8)
    assert heartbeat(worker) == [order], "repeated until it is heard of"
    assert engineer.get(PATH).json()["items"][0]["state"] == "counting"
    assert heartbeat(worker, {"count": order["count"], "lengths": LENGTHS}) == []
    assert heartbeat(worker, {"count": order["count"], "failure": "a late word"}) == []
    (counted,) = engineer.get(PATH).json()["items"]
    assert (counted["state"], counted["lengths"], counted["worker"]) == ("done", LENGTHS, "w1")
    assert ask(engineer).json() == counted, "asked twice, counted once"
    told = control.admin.get("/api/v1/audit").json()["items"]
    assert [one["action"] for one in told].count("count_tokens") == 1


def test_what_one_worker_cannot_count_another_one_may_and_then_it_has_failed(
    control: Running, engineer: httpx.Client
) -> None:
    first, second = Worker(control, "w1"), Worker(control, "w2")
    unable = Worker(control, "w3")
    unable.status["recipes"] = []
    ask(engineer)
    for worker in (second, unable):
        heartbeat(worker, {"count": "nothing of theirs", "failure": "?"})
    row = engineer.get(PATH).json()["items"][0]
    assert row["worker"] == "w2", row
    (order,) = heartbeat(second)
    assert heartbeat(first) == heartbeat(unable) == []
    assert heartbeat(second, {"count": order["count"], "failure": "there is no model"}) == []
    assert heartbeat(second) == []
    row = engineer.get(PATH).json()["items"][0]
    assert (row["state"], row["message"]) == ("waiting", "w2: there is no model")
    assert heartbeat(first) == [order]
    heartbeat(first, {"count": order["count"], "failure": "nor here"})
    row = engineer.get(PATH).json()["items"][0]
    assert (row["state"], row["message"]) == ("failed", "w1: nor here")
    assert ask(engineer).json()["state"] == "waiting", "asked again after it has failed"
    assert heartbeat(second) == [order]


def test_many_who_ask_at_once_get_one_count(control: Running, engineer: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(engineer), range(8)))
    assert [one.status_code for one in answers] == [202] * 8
    assert len(engineer.get(PATH).json()["items"]) == 1


def test_counts_that_make_no_sense_are_refused(control: Running, engineer: httpx.Client) -> None:
    for base in ({"id": ""}, {"id": "a\0b"}, {"id": 7}, {"id": "x", "source": "ftp"}, {"id": "x" * 1025}, None):
        answer = engineer.post(PATH, json={"base": base})
        assert answer.status_code == 422, (base, answer.text)
    assert engineer.post(PATH.replace("/1/", "/9/"), json={"base": TINY}).status_code == 404
    number = begun(engineer, "dialogues")
    answer = engineer.post(PATH.replace("/1/", f"/{number}/"), json={"base": TINY})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_ready")
    assert control.as_("member").post(PATH, json={"base": TINY}).status_code in (403, 404)
    for number in range(20):
        assert ask(engineer, {**TINY, "id": f"/models/{number}"}).status_code == 202
    assert (ask(engineer).status_code, ask(engineer).json()["code"]) == (409, "too_many")
    assert engineer.delete("/api/v1/datasets/dialogues").status_code == 204
