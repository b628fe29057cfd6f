"""An engine is started, watched, restarted and stopped, and leaves no process and no shared memory behind."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.processes import alive, free_port
from tests.trainer.fake_engine import Health
from trainer.engines import procfs
from trainer.engines.supervisor import EngineSupervisor, Policy
from trainer.engines.vllm import Launch

FAKE = Path(__file__).with_name("fake_engine.py")
PATIENT = Policy(start_timeout=20, stop_grace=1, backoff=0.1, max_backoff=0.4, health_interval=0.1)


class Events:
    """The supervisor's log lines, as they come."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.seen: list[dict[str, object]] = []

    async def wait_for(self, name: str, count: int = 1) -> dict[str, object]:
        async with asyncio.timeout(20):
            while len(found := [event for event in self.seen if event["event"] == name]) < count:
                self.seen += [json.loads(line) for line in self._capsys.readouterr().err.splitlines()]
                await asyncio.sleep(0.02)
        return found[count - 1]


@contextlib.asynccontextmanager
async def supervised(mode: str, folder: Path, policy: Policy = PATIENT, port: int = 0) -> AsyncIterator[None]:
    port = port or free_port()
    command = Launch((sys.executable, str(FAKE), str(port), mode), dict(os.environ), "127.0.0.1", port)
    task = asyncio.create_task(EngineSupervisor("fake", command, folder / "fake.log", policy).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def helpers_files(members: list[int]) -> list[Path]:
    return [path for path in procfs.shared_memory_files() if path.name in {f"tunegate-test-{m}" for m in members}]


@pytest.fixture
def events(capsys: pytest.CaptureFixture[str]) -> Events:
    return Events(capsys)


def test_a_healthy_engine_is_ready_and_stopping_it_leaves_nothing_behind(tmp_path: Path, events: Events) -> None:
    async def scenario() -> list[int]:
        async with supervised("ok", tmp_path):
            pid = (await events.wait_for("engine.starting"))["pid"]
            await events.wait_for("engine.ready")
            members = procfs.session_members(int(str(pid)))
            assert len(members) == 2
            assert helpers_files(members)
            return members

    members = asyncio.run(scenario())
    assert not any(map(alive, members))
    assert not helpers_files(members)


def test_an_engine_that_crashes_is_started_again_after_growing_pauses(tmp_path: Path, events: Events) -> None:
    async def scenario() -> None:
        async with supervised("crash", tmp_path):
            pauses = [(await events.wait_for("engine.restarting", n))["in_seconds"] for n in (1, 2, 3, 4)]
            assert pauses == [0.1, 0.2, 0.4, 0.4]
            assert "exited with status 3" in str((await events.wait_for("engine.restarting"))["cause"])
            await events.wait_for("engine.ready", 4)

    asyncio.run(scenario())


def test_killing_the_first_process_leaves_no_orphan_and_no_shared_memory(tmp_path: Path, events: Events) -> None:
    async def scenario() -> None:
        async with supervised("ok", tmp_path, Policy(stop_grace=1, backoff=5, health_interval=0.1)):
            pid = int(str((await events.wait_for("engine.starting"))["pid"]))
            await events.wait_for("engine.ready")
            members = procfs.session_members(pid)
            os.kill(pid, signal.SIGKILL)
            stopped = await events.wait_for("engine.stopped")
            assert stopped["leftovers_removed"] == 1
            assert not any(map(alive, members))
            assert not helpers_files(members)
            assert "killed by signal 9" in str((await events.wait_for("engine.restarting"))["cause"])

    asyncio.run(scenario())


def test_shared_memory_of_others_is_not_touched(tmp_path: Path, events: Events) -> None:
    other = procfs.SHM / f"tunegate-test-other-{os.getpid()}"
    other.write_bytes(b"mine")

    async def scenario() -> None:
        async with supervised("ok", tmp_path):
            await events.wait_for("engine.ready")

    try:
        asyncio.run(scenario())
        assert other.read_bytes() == b"mine"
    finally:
        other.unlink()


def test_an_engine_that_ignores_the_request_to_stop_is_killed_after_the_grace(tmp_path: Path, events: Events) -> None:
    async def scenario() -> tuple[list[int], float]:
        async with supervised("stubborn", tmp_path):
            pid = int(str((await events.wait_for("engine.starting"))["pid"]))
            await events.wait_for("engine.ready")
            members = procfs.session_members(pid)
            began = asyncio.get_running_loop().time()
        return members, asyncio.get_running_loop().time() - began

    members, seconds = asyncio.run(scenario())
    assert 1 <= seconds < 3
    assert not any(map(alive, members))
    assert not helpers_files(members)


def test_another_program_that_answers_on_its_port_is_not_taken_for_it(tmp_path: Path, events: Events) -> None:
    port = free_port()

    async def scenario() -> None:
        async with supervised("silent", tmp_path, Policy(start_timeout=2, stop_grace=1, health_interval=0.1), port):
            await events.wait_for("engine.starting")
            with http.server.ThreadingHTTPServer(("127.0.0.1", port), Health) as stranger:
                threading.Thread(target=stranger.serve_forever).start()
                try:
                    failed = await events.wait_for("engine.start_failed")
                finally:
                    stranger.shutdown()
            assert str(failed["cause"]).startswith("not ready after 2 s")
            assert not [event for event in events.seen if event["event"] == "engine.ready"]

    asyncio.run(scenario())


def test_a_failed_start_shows_the_first_error_and_the_end_of_the_log(tmp_path: Path, events: Events) -> None:
    async def scenario() -> None:
        async with supervised("broken", tmp_path):
            failed = await events.wait_for("engine.start_failed")
            assert failed["cause"] == "exited with status 1: ValueError: no weights in the folder"
            assert str(failed["log_tail"]).count("engine core initialization failed") == 1
            assert failed["log"] == str(tmp_path / "fake.log")

    asyncio.run(scenario())


def test_an_engine_that_is_not_ready_in_time_is_stopped(tmp_path: Path, events: Events) -> None:
    async def scenario() -> None:
        async with supervised("silent", tmp_path, Policy(start_timeout=0.5, stop_grace=1, backoff=5)):
            assert "not ready after 0.5 s" in str((await events.wait_for("engine.start_failed"))["cause"])
            await events.wait_for("engine.stopped")

    asyncio.run(scenario())


def test_a_port_of_another_program_is_named_before_anything_is_started(tmp_path: Path, events: Events) -> None:
    async def scenario() -> None:
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as other:
            port = other.sockets[0].getsockname()[1]
            command = Launch((sys.executable, "-c", ""), {}, "127.0.0.1", port)
            task = asyncio.create_task(EngineSupervisor("fake", command, tmp_path / "fake.log").run())
            failed = await events.wait_for("engine.start_failed")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert failed["cause"] == f"port {port} is used by another program"

    asyncio.run(scenario())


def test_a_missing_interpreter_is_named(tmp_path: Path, events: Events) -> None:
    async def scenario() -> None:
        command = Launch(("/nonexistent/python", "-c", ""), {}, "127.0.0.1", free_port())
        task = asyncio.create_task(EngineSupervisor("fake", command, tmp_path / "fake.log").run())
        failed = await events.wait_for("engine.start_failed")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert failed["cause"] == "/nonexistent/python: No such file or directory"

    asyncio.run(scenario())
