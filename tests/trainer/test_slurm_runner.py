"""Jobs on a real Slurm cluster: they run to the end, wait, are stopped, and whatever is lost, no process is left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import eventually, processes_with
from tests.trainer.fake_control import FakeControl
from tests.trainer.namespace import network
from tests.trainer.runs import PYTHON, Folder, dialogues, spec
from tests.trainer.slurm_cluster import PROGRAMS, Slurm
from tests.trainer.test_worker import FAKE, WorkerProcess, state
from trainer.contract.events import EVENT
from trainer.nodes import node, processes
from trainer.runners.base import Command, Unavailable
from trainer.runners.slurm import SlurmRunner

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        (any(shutil.which(one, path=f"{os.environ['PATH']}:/usr/sbin") is None for one in (*PROGRAMS, "ip"))
         or os.geteuid() != 0) and os.environ.get("REQUIRE_TRAIN") != "1",
        reason="needs Slurm, munge and iproute2 of Debian, and root, for a network namespace",
    ),
]  # fmt: skip
BOTH = ("n1/cpu-0", "n2/cpu-0")
LEASE = 5.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(network())
        except PermissionError as exc:
            if os.environ.get("REQUIRE_TRAIN") == "1":
                raise
            pytest.skip(str(exc))
        one = Slurm()
        stack.callback(one.close)
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("SLURM_CONF", str(one.conf))
        yield one


def runner_of(python: Path = FAKE, *options: str, partition: str = "main") -> SlurmRunner:
    return SlurmRunner(partition, options, "python3", 4096, LEASE, lambda recipe: python)


def command(folder: Path) -> Command:
    return Command(recipe="lora_sft", folder=folder, processes=1, devices=BOTH, offline=True, nodes=2)


def ranks(folder: Path, number: int | None = None) -> list[int]:
    """Processes of a run, of one of its nodes or all."""
    marks = node.marks_of(folder, number or 0)
    return processes.members(marks if number is not None else {"TUNEGATE_RUN_PATH": marks["TUNEGATE_RUN_PATH"]})


def begun(runner: SlurmRunner, folder: Path, mode: str) -> None:
    """A run that poses as one, under way on both nodes: each has a recipe and its helper."""
    folder.mkdir(parents=True)
    (folder / "mode").write_text(mode)
    runner.submit(command(folder))
    runner.submit(command(folder))  # as one does whose first answer was lost
    eventually(lambda: len(ranks(folder, 0)) == len(ranks(folder, 1)) == 2, 60)
    assert runner.list_owned(folder.parent) == [folder]


def ended(runner: SlurmRunner, folder: Path) -> int | None:
    eventually(lambda: not runner.poll(folder).running, 60)
    assert not ranks(folder)
    return runner.poll(folder).exit_status


@pytest.fixture(autouse=True)
def _empty(cluster: Slurm) -> Iterator[None]:
    """The next test has all nodes, however this one ended."""
    yield
    if cluster.pids("slurmctld"):
        subprocess.run(["scancel", "--me"], check=True)
        cluster.complete()


@pytest.fixture
def control(cluster: Slurm) -> Iterator[FakeControl]:
    """In the network of the cluster, as is whatever a test starts."""
    one = FakeControl()
    yield one
    one.close()


def test_two_nodes_train_one_adapter_and_control_has_all_of_it(control: FakeControl, tmp_path: Path) -> None:
    told = spec(resources={"nodes": 2}, training={"max_steps": 6, "micro_batch": 2, "save_every": 3})
    rows = control.data["v1"] = "".join(json.dumps(row) + "\n" for row in dialogues("Yes.")).encode()
    file = {"version": "v1", "split": "train", "sha256": hashlib.sha256(rows).hexdigest(), "rows": 24}
    worker = WorkerProcess(control, tmp_path, PYTHON)
    config = worker.folder / "config.toml"
    table = f'[trainer]\nrunner = "slurm"\nslurm = {{ partition = "main", lease = {LEASE} }}\n'
    config.write_text(config.read_text().replace("[trainer]\n", table))
    worker.begin()
    try:
        eventually(lambda: control.beats and len(control.beats[-1]["devices"]) == 2, 60)
        devices = control.beats[-1]["devices"]
        assert [(one["node"], one["memory_mib"]) for one in devices] == [("n1", 1000), ("n2", 1000)]
        control.start["a1"] = {
            "attempt": "a1", "job": "j1", "number": 1, "spec": told, "data": [file],
            "devices": [one["uuid"] for one in devices],
        }  # fmt: skip
        eventually(state(control, "ended"), 200)
    finally:
        worker.end()
    log = control.logs["a1"].decode()
    assert control.status("a1")["exit_status"] == 0, log
    (started,) = [one for one in control.events["a1"] if one["kind"] == "started"]
    assert started["processes"] == 2
    trained = [one["step"] for one in control.events["a1"] if one["kind"] == "metrics" and "loss" in one["values"]]
    assert trained == [1, 2, 3, 4, 5, 6]
    assert control.events["a1"][-1]["outcome"] == "completed"
    assert "adapter_model.safetensors" in control.files["a1"]
    assert "---- node 1 ----" in log


def test_asked_to_stop_a_run_leaves_a_checkpoint_and_no_process(cluster: Slurm, tmp_path: Path) -> None:
    told = spec(resources={"nodes": 2}, training={"max_steps": 100_000, "micro_batch": 2, "save_every": 100_000})
    run = Folder(tmp_path / "run", told, dialogues("Yes."), tracking={"tensorboard": False})
    runner = runner_of(PYTHON)
    runner.submit(command(run.path))
    eventually(lambda: run.losses() or not runner.poll(run.path).running, 200)
    assert runner.list_owned(tmp_path) == [run.path]
    runner.request_stop(run.path)
    assert ended(runner, run.path) == 0
    stopped = run.finished()
    assert stopped["outcome"] == "stopped"
    assert run.events("checkpoint")[-1]["step"] == stopped["step"]
    eventually(lambda: runner.list_owned(tmp_path) == [], 30)


def test_a_stubborn_run_is_ended_on_all_nodes(cluster: Slurm, tmp_path: Path) -> None:
    runner, folder = runner_of(), tmp_path / "it's a run"
    begun(runner, folder, "stubborn")
    runner.request_stop(folder)
    runner.kill(folder, 0.1)
    assert not ranks(folder)
    assert not runner.poll(folder).running
    eventually(lambda: not processes_with(str(folder)), 30)


def test_of_a_run_that_lost_a_rank_nothing_is_left_on_the_other_node(cluster: Slurm, tmp_path: Path) -> None:
    runner, folder = runner_of(), tmp_path / "run"
    begun(runner, folder, "stops")
    os.kill(min(ranks(folder, 1)), signal.SIGKILL)
    assert ended(runner, folder) == -signal.SIGKILL
    assert "ended, because somebody asked for it" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("whose", ["task", "launcher", "driver"])
def test_whoever_is_killed_nothing_is_left_and_the_run_is_over(cluster: Slurm, tmp_path: Path, whose: str) -> None:
    runner, folder = runner_of(), tmp_path / "run"
    begun(runner, folder, "stops")
    (launcher,) = processes_with(f"trainer.nodes.node\0{folder}\0{1}")
    (driver,) = processes_with(f"\0-m\0trainer.nodes.slurm_driver\0{folder}\0")[:1]
    task = int(Path(f"/proc/{launcher}/cmdline").read_bytes().split(b"\0")[-2])
    os.kill({"task": task, "launcher": launcher, "driver": driver}[whose], signal.SIGKILL)
    assert ended(runner, folder) is None
    eventually(lambda: not processes_with(str(folder)), 30)


def test_canceled_by_the_people_of_the_cluster_a_run_is_over(cluster: Slurm, tmp_path: Path) -> None:
    runner, folder = runner_of(), tmp_path / "run"
    begun(runner, folder, "stops")
    subprocess.run(["scancel", "--partition=main"], check=True)
    assert ended(runner, folder) is None
    eventually(lambda: not processes_with(str(folder)), 30)


def test_of_a_run_that_lost_a_node_nothing_is_left_on_the_other(cluster: Slurm, tmp_path: Path) -> None:
    runner, folder = runner_of(), tmp_path / "run"
    begun(runner, folder, "stops")
    (launcher,) = processes_with(f"trainer.nodes.node\0{folder}\0{1}")
    task = int(Path(f"/proc/{launcher}/cmdline").read_bytes().split(b"\0")[-2])
    processes.signal_all([*ranks(folder, 1), launcher, task, *cluster.pids("n2")], signal.SIGKILL)
    try:
        eventually(lambda: not ranks(folder), 60)
        assert ended(runner, folder) is None
    finally:
        cluster.join("n2")


def test_a_run_that_waits_in_the_queue_can_be_stopped_and_is_told_as_stopped(cluster: Slurm, tmp_path: Path) -> None:
    runner, folder = runner_of(FAKE, "--begin=now+1hour"), tmp_path / "run"
    folder.mkdir()
    runner.submit(command(folder))
    assert runner.poll(folder).running
    assert runner.list_owned(tmp_path) == [folder]
    runner.request_stop(folder)
    assert ended(runner, folder) == 0
    assert EVENT.validate_json((folder / "events.jsonl").read_text()).outcome == "stopped"


def test_the_gpus_of_a_node_are_those_that_slurm_gives(cluster: Slurm, tmp_path: Path) -> None:
    runner, folder = runner_of(partition="gpu"), tmp_path / "run"
    devices = runner.devices(1, {})
    assert [(one.uuid, one.name, one.memory_mib) for one in devices] == [
        ("n3/gpu-0", "toy", 4096), ("n3/gpu-1", "toy", 4096)
    ]  # fmt: skip
    folder.mkdir()
    (folder / "mode").write_text("stops")
    runner.submit(Command("lora_sft", folder, 2, tuple(one.uuid for one in devices), offline=True))
    eventually(lambda: ranks(folder, 0), 60)
    environment = Path(f"/proc/{ranks(folder, 0)[0]}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=0,1" in environment
    runner.request_stop(folder)
    ended(runner, folder)


def test_what_slurm_refuses_is_an_error_with_its_words(cluster: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(OSError, match="partition"):
        runner_of(partition="nowhere").submit(command(folder))
    with pytest.raises(OSError, match="Invalid node name"):
        runner_of().submit(Command("lora_sft", folder, 1, ("n1/cpu-0", "n9/cpu-0"), offline=True, nodes=2))
    with pytest.raises(OSError, match="2 are wanted"):
        runner_of().submit(Command("lora_sft", folder, 1, ("n1/cpu-0", "n1/cpu-1"), offline=True, nodes=2))


def test_without_slurm_on_this_machine_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="squeue"):
        runner_of().submit(command(tmp_path))


def test_a_run_goes_on_without_slurmctld_and_a_new_one_cannot_begin(cluster: Slurm, tmp_path: Path) -> None:
    """The last one: it takes the cluster with it."""
    runner, folder, late = runner_of(), tmp_path / "run", tmp_path / "late"
    begun(runner, folder, "stops")
    had = runner.devices(1, {})
    processes.signal_all(cluster.pids("slurmctld"), signal.SIGKILL)
    eventually(lambda: not cluster.pids("slurmctld"))
    late.mkdir()
    with pytest.raises(Unavailable):
        runner.submit(command(late))
    with pytest.raises(Unavailable):
        runner.list_owned(tmp_path)
    assert runner.devices(1, {}) == had
    assert runner.poll(folder).running
    runner.request_stop(folder)
    assert ended(runner, folder) == 7
