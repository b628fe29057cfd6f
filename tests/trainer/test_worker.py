"""A worker against control over a real socket: orders carried out once, all that a run tells sent on once, whatever is
restarted or silent in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import alive, eventually, processes_with
from tests.trainer.fake_control import TOKEN, FakeControl
from tests.trainer.runs import PYTHON, dialogues, needs_recipes, spec
from trainer.runners.local import LocalRunner

ROOT = Path(__file__).parents[2]
FAKE = Path(__file__).with_name("fake_python.py")
ROWS = b'{"messages": []}\n'


class WorkerProcess:
    """`tunegate trainer` with a folder of its own."""

    def __init__(self, control: FakeControl, folder: Path, python: Path = FAKE, more: str = "") -> None:
        self.folder = folder
        text = f'[control]\nurl = "{control.url}"\ntoken = "env:TEST_TOKEN"\n[trainer]\nname = "w"\ninterval = 0.1\n'
        text += f'data_dir = "{folder}/data"\npython = "{python}"\nstop_grace = 20\n'
        text += 'llamafactory_python = "/none"\ntracking.tensorboard = false\n' + more
        (folder / "config.toml").write_text(text)
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "trainer", "--config", str(self.folder / "config.toml")]
        with (self.folder / "worker.log").open("ab") as log:
            environment = {**os.environ, "TEST_TOKEN": TOKEN, "CUDA_VISIBLE_DEVICES": ""}
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)
        return self.process

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(30) == 0, (self.folder / "worker.log").read_text()

    def run(self, job: str, attempt: str) -> Path:
        return self.folder / "data/jobs" / job / attempt


@pytest.fixture
def worker(control: FakeControl, tmp_path: Path) -> Iterator[WorkerProcess]:
    one = WorkerProcess(control, tmp_path)
    yield one
    try:
        one.end()
    finally:
        runner = LocalRunner(lambda recipe: FAKE)
        for folder in runner.list_owned(tmp_path):
            runner.kill(folder, 0.0)
    assert not processes_with(str(tmp_path))


def order(control: FakeControl, base: str, attempt: str = "a1", **more: Any) -> None:
    control.data["v1"] = ROWS
    told = {"name": "job", "base": {"id": base}, "data": {"train": "rows@1"}}
    file = {"version": "v1", "split": "train", "sha256": hashlib.sha256(ROWS).hexdigest(), "rows": 1}
    control.start[attempt] = {
        "attempt": attempt, "job": "j1", "number": 1, "spec": told, "data": [file], "devices": ["cpu-0"], **more,
    }  # fmt: skip


def state(control: FakeControl, wanted: str, attempt: str = "a1") -> Callable[[], bool]:
    return lambda: control.status(attempt).get("state") == wanted


def steps(control: FakeControl, attempt: str = "a1") -> list[int]:
    return [one["step"] for one in control.events.get(attempt, []) if one["kind"] == "metrics"]


def test_a_job_is_run_and_all_of_it_is_with_control_before_it_is_said_to_have_ended(
    control: FakeControl, worker: WorkerProcess
) -> None:
    order(control, "learns 1200")
    worker.begin()
    eventually(state(control, "ended"), 20)
    assert control.status("a1")["exit_status"] == 0
    assert steps(control) == list(range(1, 1201))
    assert control.events["a1"][-1]["outcome"] == "completed"
    assert control.files["a1"] == {"adapter_model.safetensors": b"weights", "deep/a b.txt": b"more"}
    assert control.beats[0]["recipes"] == ["lora_sft", "lora_dpo", "full_sft", "merge", "evaluate"]
    assert control.beats[0]["devices"][0]["uuid"] == "cpu-0"


def test_a_file_that_control_will_never_take_ends_the_attempt_and_frees_its_devices(
    control: FakeControl, worker: WorkerProcess
) -> None:
    order(control, "learns 3")
    control.refuses = True
    worker.begin()
    eventually(state(control, "ended"), 20)
    assert "bad_path" in control.status("a1")["failure"]


def test_an_attempt_that_control_has_settled_is_forgotten_and_rows_are_kept(
    control: FakeControl, worker: WorkerProcess
) -> None:
    order(control, "learns 3")
    worker.begin()
    eventually(state(control, "ended"))
    control.start.clear()
    assert control.beats[-1]["jobs"] == ["j1"]
    control.orders = {"over": ["j1", "../data"]}
    beats = len(control.beats)
    eventually(lambda: len(control.beats) > beats + 2)
    assert control.beats[-1]["jobs"] == ["j1"], "an attempt that control has not settled keeps its files"
    control.orders["forget"] = ["a1"]
    eventually(lambda: control.beats[-1]["jobs"] == [])
    assert not (worker.folder / "data/jobs/j1").exists()
    control.orders.clear()
    order(control, "learns 4", "a2")
    eventually(state(control, "ended", "a2"))
    assert control.downloads == ["v1/train"]


def test_a_stopped_job_keeps_its_checkpoints_and_a_later_attempt_goes_on(
    control: FakeControl, worker: WorkerProcess
) -> None:
    order(control, "waits 9")
    worker.begin()
    eventually(lambda: control.events.get("a1"))
    control.orders["stop"] = [{"attempt": "a1", "grace": 30}]
    eventually(state(control, "ended"))
    assert control.events["a1"][-1]["outcome"] == "stopped"
    control.start.clear()
    control.orders = {"forget": ["a1"], "over": ["another"]}
    eventually(lambda: not control.status("a1"))
    control.orders = {}
    order(control, "learns 9", "a2", resume=True)
    eventually(state(control, "ended", "a2"))
    assert steps(control, "a2") == list(range(4, 10))


def test_the_files_of_a_job_that_control_does_not_know_stay_and_a_restart_does_not_follow_it_again(
    control: FakeControl, worker: WorkerProcess
) -> None:
    order(control, "learns 3")
    worker.begin()
    eventually(state(control, "ended"))
    control.start.clear()
    control.orders = {"forget": ["a1"], "unknown": ["j1"]}
    eventually(lambda: not control.status("a1"))
    worker.end()
    worker.begin()
    beats = len(control.beats)
    eventually(lambda: len(control.beats) > beats + 2)
    assert (control.beats[-1]["attempts"], control.beats[-1]["jobs"]) == ([], ["j1"])
    assert (worker.run("j1", "a1") / "adapter/adapter_model.safetensors").read_bytes() == b"weights"
    assert (worker.run("j1", "a1").parent / "checkpoints").is_dir()
    log = (worker.folder / "worker.log").read_text()
    assert log.count("job.unknown") == 2, "told once by each life of the worker"
    control.orders = {}
    order(control, "learns 9", "a2", resume=False)
    eventually(state(control, "ended", "a2"))


def test_a_run_that_ignores_the_wish_to_end_is_ended_after_the_grace(
    control: FakeControl, worker: WorkerProcess
) -> None:
    order(control, "stubborn")
    worker.begin()
    pids = worker.run("j1", "a1") / "pids"
    eventually(pids.exists)
    control.orders["stop"] = [{"attempt": "a1", "grace": 0.5}]
    eventually(state(control, "ended"), 20)
    assert control.status("a1")["exit_status"] == -signal.SIGKILL
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def test_killed_and_started_again_it_follows_its_run_and_sends_no_line_twice(
    control: FakeControl, worker: WorkerProcess
) -> None:
    order(control, "waits 1500")
    first = worker.begin()
    eventually(lambda: control.events.get("a1"))
    first.kill()
    first.wait()
    (worker.run("j1", "a1").parent / "GO").touch()
    eventually((worker.run("j1", "a1") / "exit.json").exists)
    control.events["a1"] += [json.loads(line) for line in _lines(worker)[1:700]]  # an earlier life had sent these
    worker.begin()
    eventually(state(control, "ended"), 20)
    assert steps(control) == list(range(1, 1501))
    assert control.beats[0]["boot"] != control.beats[-1]["boot"]


def _lines(worker: WorkerProcess) -> list[str]:
    return (worker.run("j1", "a1") / "events.jsonl").read_text().splitlines()


def test_an_answer_that_was_lost_costs_no_line(control: FakeControl, worker: WorkerProcess) -> None:
    control.loses = True
    order(control, "learns 900")
    worker.begin()
    eventually(state(control, "ended"), 20)
    assert steps(control) == list(range(1, 901))


def test_a_control_that_forgot_the_last_lines_gets_them_again(control: FakeControl, worker: WorkerProcess) -> None:
    order(control, "waits 50")
    worker.begin()
    eventually(lambda: control.events.get("a1"))
    del control.events["a1"][:]
    (worker.run("j1", "a1").parent / "GO").touch()
    eventually(state(control, "ended"), 20)
    assert control.events["a1"][0]["kind"] == "started"
    assert steps(control) == list(range(1, 51))


def test_a_log_that_is_too_long_for_control_costs_nothing_but_its_rest(
    control: FakeControl, worker: WorkerProcess
) -> None:
    control.log_limit = 0
    order(control, "learns 5")
    worker.begin()
    eventually(state(control, "ended"), 20)
    assert (worker.run("j1", "a1") / "log.txt").stat().st_size > 0
    assert (control.status("a1")["exit_status"], steps(control)) == (0, [1, 2, 3, 4, 5])
    assert "attempt.log_cut" in (worker.folder / "worker.log").read_text()


def test_nonsense_from_control_is_endured(control: FakeControl, worker: WorkerProcess) -> None:
    control.garbage = True
    process = worker.begin()
    eventually(lambda: "worker.control_silent" in (worker.folder / "worker.log").read_text())
    control.garbage = False
    order(control, "learns 2")
    eventually(state(control, "ended"))
    assert process.poll() is None


def test_out_of_touch_for_a_lease_it_ends_its_run_with_a_checkpoint(
    control: FakeControl, worker: WorkerProcess
) -> None:
    control.orders["lease_seconds"] = 1.0
    order(control, "waits 9")
    worker.begin()
    eventually(lambda: control.events.get("a1"))
    control.down = True
    eventually((worker.run("j1", "a1") / "exit.json").exists)
    assert (worker.run("j1", "a1") / "checkpoints/step").read_text() == "3"
    control.down = False
    eventually(state(control, "ended"))
    assert control.events["a1"][-1]["outcome"] == "stopped"


def test_rows_of_another_hash_are_not_learned_from(control: FakeControl, worker: WorkerProcess) -> None:
    order(control, "learns 2")
    control.data["v1"] = b"something else"
    worker.begin()
    eventually(lambda: control.downloads.count("v1/train") >= 2)
    assert state(control, "preparing")()
    control.data["v1"] = ROWS
    eventually(state(control, "ended"), 20)
    assert not list((worker.folder / "data/data").glob("*.partial"))


def test_told_to_stop_it_ends_its_runs_with_checkpoints(control: FakeControl, worker: WorkerProcess) -> None:
    order(control, "waits 9")
    worker.begin()
    eventually(lambda: control.events.get("a1"))
    worker.end()
    assert control.events["a1"][-1]["outcome"] == "stopped"


def test_the_adapter_of_a_merge_is_fetched_before_it_begins(control: FakeControl, worker: WorkerProcess) -> None:
    control.files["version-1"] = {"adapter_config.json": b"{}", "deep/weights.safetensors": b"weights"}
    files = {name: hashlib.sha256(held).hexdigest() for name, held in control.files["version-1"].items()}
    order(control, "learns 2", adapter={"adapter": "version-1", "base_sha256": "f" * 64, "files": files}, data=[])
    control.start["a1"]["spec"] |= {"recipe": "merge", "data": {"train": "support-bot@v1"}}
    worker.begin()
    eventually(state(control, "ended"), 20)
    told = json.loads((worker.run("j1", "a1") / "run.json").read_text())
    assert told["base_sha256"] == "f" * 64
    assert (Path(told["train"]) / "deep/weights.safetensors").read_bytes() == b"weights"
    assert sorted(control.downloads) == [f"version-1/{name}" for name in sorted(files)]


def test_a_file_of_an_adapter_that_leads_astray_fails_the_attempt(control: FakeControl, worker: WorkerProcess) -> None:
    order(control, "learns 2", adapter={"adapter": "version-1", "files": {"../../x.json": "0" * 64}}, data=[])
    worker.begin()
    eventually(state(control, "ended"), 20)
    assert "outside of its folder" in control.status("a1")["failure"]
    assert control.downloads == []


@needs_recipes
def test_a_real_recipe_of_a_killed_worker_is_followed_to_its_end(control: FakeControl, tmp_path: Path) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in dialogues("Yes.")).encode()
    order(control, "")
    control.data["v1"] = rows
    control.start["a1"]["spec"] = spec(training={"max_steps": 150})
    control.start["a1"]["data"][0] |= {"sha256": hashlib.sha256(rows).hexdigest(), "rows": 24}
    worker = WorkerProcess(control, tmp_path, PYTHON)
    first = worker.begin()
    eventually(lambda: steps(control), 60)
    first.kill()
    first.wait()
    worker.begin()
    try:
        eventually(state(control, "ended"), 60)
    finally:
        worker.end()
    trained = [one["step"] for one in control.events["a1"] if one["kind"] == "metrics" and "loss" in one["values"]]
    assert trained == list(range(1, 151))
    assert "adapter_model.safetensors" in control.files["a1"]
