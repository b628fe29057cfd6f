"""A run is a process that outlives its worker, is found again, and ends with all that it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import alive, eventually
from tests.trainer.runs import PYTHON, Folder, dialogues, needs_recipes, spec
from trainer.runners.base import Command
from trainer.runners.local import LocalRunner

FAKE = Path(__file__).with_name("fake_python.py")
ROOT = Path(__file__).parents[2]


def runner_of(python: Path) -> LocalRunner:
    return LocalRunner(lambda recipe: python)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a run"
    path.mkdir()
    yield path
    runner_of(FAKE).kill(path, 0.0)


def begun(runner: LocalRunner, folder: Path, mode: str) -> list[int]:
    """Pids of the recipe and its helper."""
    (folder / "mode").write_text(mode)
    runner.submit(Command(recipe="lora_sft", folder=folder, processes=1, devices=("cpu-0",), offline=True))
    eventually((folder / "pids").exists)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_a_run_has_its_own_copy_of_the_code_and_none_of_the_secrets(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGATE_SECRET", "hush")
    runner = runner_of(FAKE)
    begun(runner, folder, "stops")
    assert runner.poll(folder).running
    runner.request_stop(folder)
    eventually(lambda: not runner.poll(folder).running)
    assert runner.poll(folder).exit_status == 7
    log = (folder / "log.txt").read_text()
    assert f"arguments: -m trainer.recipes.lora_sft {folder}\n" in log
    assert f"code: {folder / 'code'} secret: None\n" in log
    assert (folder / "code/trainer/recipes/lora_sft.py").exists()


def test_a_stubborn_run_is_ended_with_its_helper_in_another_session(folder: Path) -> None:
    runner = runner_of(FAKE)
    pids = begun(runner, folder, "stubborn")
    runner.request_stop(folder)
    runner.kill(folder, 0.1)
    assert not any(map(alive, pids))
    assert not runner.poll(folder).running


def test_the_helper_of_a_run_that_died_is_ended_and_the_signal_is_told(folder: Path) -> None:
    runner = runner_of(FAKE)
    _, helper = begun(runner, folder, "dies")
    eventually(lambda: not runner.poll(folder).running)
    assert runner.poll(folder).exit_status == -signal.SIGKILL
    assert not alive(helper)


def test_a_run_outlives_its_worker_and_is_found_again(folder: Path) -> None:
    (folder / "mode").write_text("stops")
    worker = f"""
from pathlib import Path
from trainer.runners.base import Command
from trainer.runners.local import LocalRunner
LocalRunner(lambda recipe: Path({str(FAKE)!r})).submit(Command("lora_sft", Path({str(folder)!r}), 1, ("cpu-0",), True))
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", worker], cwd=ROOT, check=False, timeout=30)
    assert killed.returncode == -signal.SIGKILL
    eventually((folder / "pids").exists)
    runner = runner_of(FAKE)
    assert runner.list_owned(folder.parent) == [folder]
    assert runner.poll(folder).running
    runner.request_stop(folder)
    eventually(lambda: not runner.poll(folder).running)
    assert runner.poll(folder).exit_status == 7
    assert runner.list_owned(folder.parent) == []


def test_with_its_launcher_killed_nothing_is_left_and_nobody_knows_how_it_ended(folder: Path) -> None:
    runner = runner_of(FAKE)
    pids = begun(runner, folder, "stops")
    os.kill(json.loads((folder / "launcher.json").read_text())["pid"], signal.SIGKILL)
    eventually(lambda: not runner.poll(folder).running)
    assert runner.poll(folder).exit_status is None
    assert not any(map(alive, pids))


def test_a_pid_that_another_process_has_now_is_not_taken_for_the_run(folder: Path) -> None:
    (folder / "launcher.json").write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    runner = runner_of(FAKE)
    runner.kill(folder, 0.0)
    assert not runner.poll(folder).running
    assert runner.list_owned(folder.parent) == []


def test_begun_twice_the_first_is_ended(folder: Path) -> None:
    runner = runner_of(FAKE)
    first = begun(runner, folder, "stops")
    (folder / "launcher.json").unlink()  # its worker was killed before it could write this
    (folder / "pids").unlink()
    second = begun(runner, folder, "stops")
    assert not any(map(alive, first))
    assert all(map(alive, second))


def test_a_missing_interpreter_is_named_in_the_log(folder: Path) -> None:
    runner = runner_of(Path("/nonexistent/python"))
    runner.submit(Command(recipe="lora_sft", folder=folder, processes=1, devices=(), offline=True))
    eventually(lambda: not runner.poll(folder).running)
    assert runner.poll(folder).exit_status == 127
    assert "/nonexistent/python: No such file" in (folder / "log.txt").read_text()


@needs_recipes
def test_of_torchrun_and_its_ranks_none_is_left(tmp_path: Path) -> None:
    told = spec(resources={"processes": 2}, training={"max_steps": 100_000})
    run = Folder(tmp_path / "run", told, dialogues("Yes."), tracking={"tensorboard": False})
    runner = runner_of(PYTHON)
    runner.submit(Command(recipe="lora_sft", folder=run.path, processes=2, devices=("cpu-0",), offline=True))
    try:
        eventually(lambda: run.losses() or not runner.poll(run.path).running, 60)
        ranks = children_of_torchrun(run.path)
        assert len(ranks) == 2
        os.kill(json.loads((run.path / "launcher.json").read_text())["pid"], signal.SIGKILL)  # torchrun goes with it
        eventually(lambda: not runner.poll(run.path).running, 20)
        eventually(lambda: not any(map(alive, ranks)), 2)  # their memory is gone a moment before they are
    finally:
        runner.kill(run.path, 0.0)


def children_of_torchrun(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"TUNEGATE_RUN_PATH={folder / 'code'}".encode() in words and any(
            w.startswith(b"LOCAL_RANK=") for w in words
        ):
            found.append(int(entry.name))
    return found
