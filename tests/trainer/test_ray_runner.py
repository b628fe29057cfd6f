"""Jobs on a real Ray cluster of two nodes: they run to the end, and whatever is lost, no process is left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import eventually, free_port, processes_with
from tests.trainer.fake_control import FakeControl
from tests.trainer.namespace import HEAD, OTHER, network
from tests.trainer.ray_cluster import BIN, PORT, TOKEN, URL, Cluster
from tests.trainer.runs import PYTHON, Folder, dialogues, spec
from tests.trainer.test_worker import FAKE, WorkerProcess, order, state, steps
from trainer.contract.events import EVENT
from trainer.nodes import node, processes
from trainer.runners.base import Command, Unavailable
from trainer.runners.ray import RayRunner

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        (not (BIN / "ray").exists() or not PYTHON.exists() or os.geteuid() != 0 or shutil.which("ip") is None)
        and os.environ.get("REQUIRE_TRAIN") != "1",
        reason="needs `make ray`, `make install`, iproute2 and root, for a network namespace",
    ),
]
BOTH = (f"{HEAD}/cpu-0", f"{OTHER}/cpu-0")
LEASE = 5.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(network())
        except PermissionError as exc:
            if os.environ.get("REQUIRE_TRAIN") == "1":
                raise
            pytest.skip(str(exc))
        one = Cluster()
        stack.callback(one.close)
        yield one


def runner_of(python: Path, token: str = TOKEN, worker: str = "w") -> RayRunner:
    return RayRunner(URL, token, LEASE, worker, lambda recipe: python)


def command(folder: Path) -> Command:
    return Command(recipe="lora_sft", folder=folder, processes=1, devices=BOTH, offline=True, nodes=2)


def ranks(folder: Path, number: int | None = None) -> list[int]:
    """Processes of a run, of one of its nodes or all."""
    marks = node.marks_of(folder, number or 0)
    return processes.members(marks if number is not None else {"TUNEGATE_RUN_PATH": marks["TUNEGATE_RUN_PATH"]})


def submitted(runner: RayRunner, command: Command) -> None:
    """As a worker does: again and again where the cluster is too busy to answer."""

    def done() -> bool:
        try:
            runner.submit(command)
        except Unavailable:
            return False
        return True

    eventually(done, 60)


def begun(runner: RayRunner, folder: Path, mode: str) -> None:
    """A run that poses as one, under way on both nodes: each has a recipe and its helper."""
    folder.mkdir(parents=True)
    (folder / "mode").write_text(mode)
    submitted(runner, command(folder))
    eventually(lambda: len(ranks(folder, 0)) == len(ranks(folder, 1)) == 2, 60)


def ended(runner: RayRunner, folder: Path) -> int | None:
    eventually(lambda: not runner.poll(folder).running, 60)
    assert not ranks(folder)
    return runner.poll(folder).exit_status


def config(worker: WorkerProcess, address: str = URL) -> None:
    file = worker.folder / "config.toml"
    text = f'runner = "ray"\nray = {{ address = "{address}", token = "env:RAY_TOKEN", lease = {LEASE} }}\n'
    file.write_text(file.read_text().replace("[trainer]\n", f"[trainer]\n{text}"))


@pytest.fixture
def control(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeControl]:
    """In the network of the cluster, as is whatever a test starts."""
    monkeypatch.setenv("RAY_TOKEN", TOKEN)
    one = FakeControl()
    yield one
    one.close()


def test_two_nodes_train_one_adapter_and_control_has_all_of_it(control: FakeControl, tmp_path: Path) -> None:
    told = spec(resources={"nodes": 2}, training={"max_steps": 6, "micro_batch": 2, "save_every": 3})
    rows = control.data["v1"] = "".join(json.dumps(row) + "\n" for row in dialogues("Yes.")).encode()
    file = {"version": "v1", "split": "train", "sha256": hashlib.sha256(rows).hexdigest(), "rows": 24}
    worker = WorkerProcess(control, tmp_path, PYTHON)
    config(worker)
    worker.begin()
    try:
        eventually(lambda: control.beats and len(control.beats[-1]["devices"]) == 2, 60)
        devices = control.beats[-1]["devices"]
        assert [one["node"] for one in devices] == [HEAD, OTHER]
        control.start["a1"] = {
            "attempt": "a1", "job": "j1", "number": 1, "spec": told, "data": [file],
            "devices": [one["uuid"] for one in devices],
        }  # fmt: skip
        eventually(state(control, "ended"), 250)
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


def test_asked_to_stop_a_run_leaves_a_checkpoint_and_no_process(cluster: Cluster, tmp_path: Path) -> None:
    told = spec(resources={"nodes": 2}, training={"max_steps": 100_000, "micro_batch": 2, "save_every": 100_000})
    run = Folder(tmp_path / "run", told, dialogues("Yes."), tracking={"tensorboard": False})
    runner = runner_of(PYTHON)
    submitted(runner, command(run.path))
    eventually(lambda: run.losses() or not runner.poll(run.path).running, 250)
    assert runner.list_owned(tmp_path) == [run.path]
    runner.request_stop(run.path)
    assert ended(runner, run.path) == 0
    stopped = run.finished()
    assert stopped["outcome"] == "stopped"
    assert run.events("checkpoint")[-1]["step"] == stopped["step"]
    eventually(lambda: runner.list_owned(tmp_path) == [], 30)  # its driver leaves a moment later


def test_a_stubborn_run_is_ended_on_all_nodes(cluster: Cluster, tmp_path: Path) -> None:
    runner, folder = runner_of(FAKE), tmp_path / "it's a run"
    begun(runner, folder, "stubborn")
    runner.request_stop(folder)
    runner.kill(folder, 0.1)
    assert not ranks(folder)
    assert not runner.poll(folder).running
    eventually(lambda: not processes_with(str(folder)), 30)


def test_of_a_run_that_lost_a_rank_nothing_is_left_on_the_other_node(cluster: Cluster, tmp_path: Path) -> None:
    runner, folder = runner_of(FAKE), tmp_path / "run"
    begun(runner, folder, "stops")
    os.kill(min(ranks(folder, 1)), signal.SIGKILL)
    assert ended(runner, folder) == -signal.SIGKILL
    assert "ended, because somebody asked for it" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("whose", ["actor", "launcher", "driver"])
def test_whoever_is_killed_nothing_is_left_and_the_run_is_over(cluster: Cluster, tmp_path: Path, whose: str) -> None:
    runner, folder = runner_of(FAKE), tmp_path / "run"
    begun(runner, folder, "stops")
    (launcher,) = processes_with(f"trainer.nodes.node\0{folder}\0{1}")
    (driver,) = processes_with(f"-m\0trainer.nodes.ray_driver\0{folder}")
    actor = int(Path(f"/proc/{launcher}/cmdline").read_bytes().split(b"\0")[-2])
    os.kill({"actor": actor, "launcher": launcher, "driver": driver}[whose], signal.SIGKILL)
    assert ended(runner, folder) is None
    eventually(lambda: not processes_with(str(folder)), 30)


def test_of_a_run_that_lost_a_node_nothing_is_left_on_the_other(cluster: Cluster, tmp_path: Path) -> None:
    runner, folder = runner_of(FAKE), tmp_path / "run"
    begun(runner, folder, "stops")
    processes.signal_all(ranks(folder, 1) + cluster.pids("node"), signal.SIGKILL)
    try:
        eventually(lambda: not ranks(folder), 60)
        assert ended(runner, folder) is None
    finally:
        cluster.join()


def test_a_run_that_waits_for_a_place_can_be_stopped_and_is_told_as_stopped(cluster: Cluster, tmp_path: Path) -> None:
    runner, folder = runner_of(FAKE), tmp_path / "run"
    folder.mkdir()
    nowhere = Command("lora_sft", folder, 1, (f"{HEAD}/cpu-0", "10.77.0.9/cpu-0"), offline=True, nodes=2)
    submitted(runner, nowhere)
    eventually((folder / node.LEASE).exists, 60)
    assert runner.poll(folder).running
    runner.request_stop(folder)
    assert ended(runner, folder) == 0
    assert EVENT.validate_json((folder / "events.jsonl").read_text()).outcome == "stopped"


def test_a_wrong_token_is_named_with_its_setting(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match=r"\[trainer\.ray\] token"):
        runner_of(FAKE, "another").submit(command(tmp_path))
    with pytest.raises(PermissionError, match=r"\[trainer\.ray\] token"):
        runner_of(FAKE, "").list_owned(tmp_path)


def test_a_job_waits_for_a_cluster_that_is_away_and_its_worker_ends_what_nobody_follows(
    control: FakeControl, tmp_path: Path
) -> None:
    worker, port = WorkerProcess(control, tmp_path), free_port()
    config(worker, f"http://127.0.0.1:{port}")
    forgotten = worker.run("j0", "a0")
    begun(runner_of(FAKE), forgotten, "stubborn")
    order(control, "learns 3", devices=[BOTH[0]])
    worker.begin()
    try:
        eventually(lambda: "attempt.waits" in (tmp_path / "worker.log").read_text(), 30)
        eventually(state(control, "preparing"), 30)
        with pytest.raises(Unavailable):
            RayRunner(f"http://127.0.0.1:{port}", TOKEN, LEASE, "w", lambda recipe: FAKE).list_owned(tmp_path)
        with _forwarded(port):
            eventually(state(control, "ended"), 60)
            eventually(lambda: not ranks(forgotten), 60)
            worker.end()
    finally:
        worker.end()
        runner_of(FAKE).kill(forgotten, 0.0)
    assert (steps(control), control.status("a1")["exit_status"]) == ([1, 2, 3], 0)


def test_with_its_head_lost_the_ranks_end_by_their_lease_and_the_run_is_over(cluster: Cluster, tmp_path: Path) -> None:
    """The last one: it takes the cluster with it."""
    runner, folder = runner_of(FAKE), tmp_path / "run"
    begun(runner, folder, "stubborn")
    launcher = processes_with(f"trainer.nodes.node\0{folder}\0{0}")
    processes.signal_all([pid for pid in cluster.pids("head") if pid not in launcher], signal.SIGKILL)
    assert runner.poll(folder).running
    eventually(lambda: not ranks(folder), 30)
    assert ended(runner, folder) is None
    assert "the head of the cluster is lost" in (folder / "log-1.txt").read_text()


@contextlib.contextmanager
def _forwarded(port: int) -> Iterator[None]:
    """The cluster's address by another port."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    def carry(near: socket.socket) -> None:
        with near, socket.create_connection((HEAD, PORT)) as far:
            back = threading.Thread(target=pump, args=(far, near))
            back.start()
            pump(near, far)
            back.join()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=carry, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
