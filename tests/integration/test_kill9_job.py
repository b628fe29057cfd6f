"""kill -9 of a real control beside a real job: the job goes on, and all that it told arrives, each line once."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control.api.training import begun, checked, sent
from tests.fakes.plane import Plane
from tests.processes import eventually, processes_with
from tests.trainer.runs import PYTHON, ROOT, dialogues, needs_recipes, tiny

pytestmark = [needs_recipes, pytest.mark.timeout(280)]
STEPS = 60
TRAINING = {
    "max_steps": STEPS, "micro_batch": 4, "accumulation": 1, "learning_rate": 0.005, "precision": "fp32",
    "max_length": 256, "save_every": 20,
}  # fmt: skip


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Plane]:
    with Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/control.db") as running:
        yield running


@pytest.fixture
def worker(control: Plane, tmp_path: Path) -> Iterator[Path]:
    """The data folder of a worker that runs until the end of the test."""
    data = tmp_path / "worker"
    text = f'[control]\nurl = "{control.url}"\ntoken = "env:TEST_TOKEN"\n[trainer]\nname = "w"\ninterval = 0.2\n'
    text += f'data_dir = "{data}"\npython = "{PYTHON}"\ntracking.tensorboard = false\n'
    (tmp_path / "worker.toml").write_text(text)
    environment = {**os.environ, "TEST_TOKEN": control.service_token, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "trainer", "--config", str(tmp_path / "worker.toml")]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)
    yield data
    process.terminate()
    process.wait(60)
    assert not processes_with(str(data))


def told(data: Path) -> list[dict[str, Any]]:
    """Whole lines of the one run's events."""
    found = list(data.glob("jobs/*/*/events.jsonl"))
    return [json.loads(line) for line in found[0].read_bytes().split(b"\n")[:-1]] if found else []


def steps(data: Path) -> int:
    return max((one["step"] for one in told(data) if one["kind"] == "metrics"), default=0)


def test_a_job_goes_on_while_control_is_killed_and_nothing_is_lost_or_doubled(control: Plane, worker: Path) -> None:
    control.post("/datasets", name="rows")
    number = begun(control.client, "rows")
    content = "".join(json.dumps(row) + "\n" for row in dialogues("Yes, with pleasure.")).encode()
    sent(control.client, "rows", number, content)
    assert checked(control.client, "rows", number)["state"] == "ready"
    spec = {"name": "job", "base": {"id": str(tiny() / "base")}, "data": {"train": "rows@1"}, "training": TRAINING}
    control.post("/jobs", spec=spec)
    for stop in (1, 15, 30):
        eventually(lambda stop=stop: steps(worker) >= stop, 120)
        control.kill9()
        before = steps(worker)
        eventually(lambda before=before: steps(worker) >= min(before + 5, STEPS), 60)
        control.start()
    control.kill9()
    eventually(lambda: told(worker)[-1]["kind"] == "finished", 120)
    lines = told(worker)
    control.start()
    eventually(lambda: control.get("/jobs/job")["state"] == "succeeded", 60)

    job, expected = control.get("/jobs/job"), {}
    for one in lines:
        if one["kind"] == "metrics":
            expected[one["step"]] = {**expected.get(one["step"], {}), **one["values"]}
    points = control.get("/jobs/job/metrics")["items"]
    assert {point["step"]: point["values"] for point in points} == expected
    assert [point["step"] for point in points] == list(range(1, STEPS + 1))
    assert (job["attempts"], job["adapter"], len(job["runs"])) == (1, "job@v1", 1)
    assert [one["step"] for one in job["checkpoints"]] == [20, 40, 60]
    states = [one["state"] for one in job["events"] if one["state"] != one["state_before"]]
    assert states == ["validating", "queued", "allocating", "preparing", "running", "finalizing", "succeeded"]
    database = sqlite3.connect(control.folder.parent / "control.db")
    try:
        assert database.execute("SELECT events FROM training_attempt").fetchall() == [(len(lines),)]
        assert database.execute("SELECT count(*) FROM adapter_version").fetchone() == (1,)
    finally:
        database.close()
