"""Merges over the API: jobs that put an adapter into its base model, with a worker that does what the test says."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running
from tests.control.api.training import STARTED, Worker, dataset, spec, trained

JOBS = "/api/v1/jobs"


@pytest.fixture
def engineer(control: Running) -> httpx.Client:
    client = control.as_("engineer")
    dataset(client)
    return client


@pytest.fixture
def worker(control: Running) -> Worker:
    return Worker(control)


def merging(**changes: Any) -> dict[str, Any]:
    return {
        "name": "merged", "recipe": "merge", "base": {"id": "/models/tiny"}, "data": {"train": "support-bot@v1"},
        **changes,
    }  # fmt: skip


def test_an_adapter_is_merged_by_a_job_and_the_model_keeps_its_lineage(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    trained(control, engineer, worker, base_sha256="f" * 64)
    answer = engineer.post(JOBS, json={"spec": merging()})
    assert (answer.status_code, answer.json()["state"]) == (201, "queued"), answer.text
    assert worker.sync()["start"] == [], "this worker cannot merge"
    worker.status["recipes"] = ["merge"]
    (order,) = worker.sync()["start"]
    assert (order["data"], order["adapter"]["base_sha256"]) == ([], "f" * 64)
    for path, digest in order["adapter"]["files"].items():
        got = worker.client.get(f"/internal/v1/trainer/adapters/{order['adapter']['adapter']}/files/{path}")
        assert hashlib.sha256(got.content).hexdigest() == digest
    worker.tell(order["attempt"], STARTED, {"kind": "metrics", "step": 5, "values": {"merged_layers": 5}})
    merged = engineer.get(f"{JOBS}/merged").json()
    assert (merged["step"], merged["total_steps"]) == (5, 10)
    assert worker.put(order["attempt"], "model.safetensors", b"all of it").status_code == 204
    worker.finish(order["attempt"])
    (version,) = engineer.get("/api/v1/adapters/merged").json()["items"]
    assert (version["kind"], version["data"][0]["name"]) == ("full", "dialogues")
    assert "Merged into the base model: support-bot@v1" in version["card"]
    used = engineer.get("/api/v1/datasets/dialogues").json()["adapters"]
    assert {one["adapter"] for one in used} == {"support-bot", "merged"}
    assert engineer.get("/api/v1/adapters/merged/versions/1/archive").status_code == 200


@pytest.mark.parametrize(
    ("change", "at_", "words"),
    [
        ({"data": {"train": "support-bot@1"}}, "body.spec.data.train", "NAME@vN"),
        ({"data": {"train": "support-bot@v9"}}, "body.spec.data.train", "no version"),
        ({"data": {"train": "nothing@v1"}}, "body.spec.data.train", "no adapter 'nothing'"),
        ({"data": {"train": "whole@v1"}}, "body.spec.data.train", "kind full"),
        ({"base": {"id": "/models/other"}}, "body.spec.base", "/models/tiny"),
        ({"lora": {"r": 4}}, "body.spec", "nothing but data.train"),
        ({"resources": {"processes": 2}}, "body.spec", "one process"),
    ],
)
def test_a_merge_of_what_is_no_adapter_of_the_base_is_refused(
    control: Running, engineer: httpx.Client, worker: Worker, change: dict[str, Any], at_: str, words: str
) -> None:
    trained(control, engineer, worker)
    assert engineer.post(JOBS, json={"spec": spec("whole", recipe="full_sft")}).status_code == 201
    worker.finish(worker.take())
    answer = engineer.post(JOBS, json={"spec": merging(**change)})
    assert answer.status_code == 422, answer.text
    errors = answer.json()["errors"]
    assert any(error["at"] == at_ and words in error["message"] for error in errors), errors
