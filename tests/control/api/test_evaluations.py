"""Evaluations over the API: of a job's result, and as a job of its own, with a worker that does what the test says."""

from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running
from tests.control.api.training import STARTED, Worker, begun, checked, dataset, sent, spec, trained
from trainer.contract.evaluation import Evaluated, Side, accuracy

JOBS = "/api/v1/jobs"
QUESTIONS = [{"question": f"question {n}", "choices": ["yes", "no"], "answer": n % 2} for n in range(4)]


def side(right: int) -> Side:
    return Side(plain=accuracy(right, 4), normalised=accuracy(right, 4))


FOUND = Evaluated(questions=4, base=side(1), result=side(3), won=2, lost=0).model_dump(mode="json")


@pytest.fixture
def engineer(control: Running) -> httpx.Client:
    client = control.as_("engineer")
    dataset(client)
    dataset(client, "questions", QUESTIONS)
    return client


@pytest.fixture
def worker(control: Running) -> Worker:
    return Worker(control)


def evaluating(**changes: Any) -> dict[str, Any]:
    return {
        "name": "asked", "recipe": "evaluate", "base": {"id": "/models/tiny"}, "data": {"train": "support-bot@v1"},
        "eval": {"data": "questions@1"}, **changes,
    }  # fmt: skip


def test_a_job_with_questions_keeps_the_answers_with_its_adapter(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    body = {"spec": spec(eval={"data": "questions@1", "limit": 3})}
    assert engineer.post(JOBS, json=body).status_code == 201
    (order,) = worker.sync()["start"]
    splits = {one["split"]: one for one in order["data"]}
    assert splits.keys() == {"train", "evaluation"}
    held = splits["evaluation"]
    got = worker.client.get(f"/internal/v1/trainer/data/{held['version']}/evaluation")
    assert (got.status_code, len(got.text.splitlines())) == (200, 4)
    worker.tell(order["attempt"], STARTED)
    worker.finish(order["attempt"], details={"evaluation": FOUND, "versions": {}})
    (version,) = engineer.get("/api/v1/adapters/support-bot").json()["items"]
    (kept,) = version["evaluations"]
    assert (kept["data"], kept["job"], kept["found"]) == ("questions@1", "support-bot", FOUND)
    assert [one["name"] for one in version["data"]] == ["dialogues"], "nothing is learned from questions"
    assert "questions" not in version["card"]
    assert engineer.get("/api/v1/datasets/questions").json()["adapters"] == []


def test_an_adapter_is_evaluated_by_a_job_that_makes_no_version(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    trained(control, engineer, worker)
    assert engineer.post(JOBS, json={"spec": evaluating()}).json()["state"] == "queued"
    worker.status["recipes"] = ["evaluate"]
    (order,) = worker.sync()["start"]
    assert [one["split"] for one in order["data"]] == ["evaluation"]
    assert order["adapter"]["files"].keys() == {"adapter_config.json", "adapter_model.safetensors"}
    assert engineer.delete("/api/v1/datasets/questions").status_code == 409
    worker.tell(order["attempt"], STARTED)
    worker.finish(order["attempt"], details={"evaluation": FOUND})
    job = engineer.get(f"{JOBS}/asked").json()
    assert (job["state"], job["adapter"]) == ("succeeded", "support-bot@v1")
    (version,) = engineer.get("/api/v1/adapters/support-bot").json()["items"]
    assert [one["job"] for one in version["evaluations"]] == ["asked"]
    assert engineer.get("/api/v1/adapters/asked").status_code == 404
    assert engineer.post(JOBS, json={"spec": evaluating(name="again")}).status_code == 201
    second = worker.take()
    worker.finish(second, details={"evaluation": {"questions": 0}})
    (version,) = engineer.get("/api/v1/adapters/support-bot").json()["items"]
    assert [one["job"] for one in version["evaluations"]] == ["asked"], "an answer without sense is not kept"


@pytest.mark.parametrize(
    ("change", "at_", "words"),
    [
        ({"eval": None}, "body.spec", "needs eval.data"),
        ({"eval": {"data": "dialogues@1"}}, "body.spec.eval.data", "needs choice"),
        ({"eval": {"data": "nothing@1"}}, "body.spec.eval.data", "nothing"),
        ({"eval": {"data": "questions"}}, "body.spec.eval.data", "NAME@N"),
        ({"eval": {"data": "questions@1", "limit": 0}}, "body.spec.eval.limit", ""),
        ({"eval": {"data": "q\0@1"}}, "body.spec.eval.data", ""),
        ({"data": {"train": "support-bot@v9"}}, "body.spec.data.train", "no version"),
        ({"base": {"id": "/models/other"}}, "body.spec.base", "/models/tiny"),
        ({"resources": {"processes": 2}}, "body.spec", "one process"),
        ({"recipe": "merge"}, "body.spec", "merge asks nothing"),
        ({"recipe": "lora_sft", "data": {"train": "questions@1"}}, "body.spec.data.train", "needs sft"),
    ],
)
def test_an_evaluation_that_makes_no_sense_is_refused(
    control: Running, engineer: httpx.Client, worker: Worker, change: dict[str, Any], at_: str, words: str
) -> None:
    trained(control, engineer, worker)
    answer = engineer.post(JOBS, json={"spec": evaluating(**change)})
    assert answer.status_code == 422, answer.text
    errors = answer.json()["errors"]
    assert any(error["at"] == at_ and words in error["message"] for error in errors), errors


def test_questions_that_are_none_are_told_by_row(engineer: httpx.Client) -> None:
    number = begun(engineer, "questions")
    rows = [{"question": "?", "choices": ["a", "b"], "answer": answer} for answer in (5, 1)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    sent(engineer, "questions", number, content)
    version = checked(engineer, "questions", number)
    assert (version["kind"], version["rows"], version["report"]["reasons"]) == ("choice", 1, {"answer": 1})
