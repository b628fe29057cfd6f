"""Processes are started in order, restarted when they crash, and stopped in reverse order with all they started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from control.lock import DataLock, Locked
from control.supervisor import Child, Supervisor
from tests.processes import alive, eventually, processes_with

SLEEPER = """
import pathlib, signal, sys, time
file = pathlib.Path(sys.argv[1])
def stopped(*_):
    with file.open("a") as log: print(sys.argv[2], "stopped", file=log)
    sys.exit(0)
signal.signal(signal.SIGTERM, stopped)
with file.open("a") as log: print(sys.argv[2], "started", file=log)
time.sleep(300)
"""
STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", sys.argv[1]])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(300)
"""
CRASHER = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write('x'); sys.exit(7)"


def child(name: str, code: str, file: Path, grace: float = 4.0) -> Child:
    return Child(name, (sys.executable, "-c", code, str(file), name), grace)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, condition)


def test_children_stop_in_the_reverse_of_their_order(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def scenario() -> None:
        supervisor = Supervisor(print)
        await supervisor.start([child("engine", SLEEPER, log), child("gateway", SLEEPER, log)])
        await until(lambda: len(lines(log)) == 2)
        await supervisor.stop()

    asyncio.run(scenario())
    assert lines(log)[2:] == ["gateway stopped", "engine stopped"]
    assert not processes_with(str(tmp_path))


def test_a_crashed_child_is_started_again_after_growing_pauses(tmp_path: Path) -> None:
    said: list[str] = []

    async def scenario() -> None:
        supervisor = Supervisor(said.append, backoff=0.05, max_backoff=0.1)
        await supervisor.start([child("c", CRASHER, tmp_path / "n")])
        await until(lambda: len(said) >= 3)
        await supervisor.stop()

    asyncio.run(scenario())
    assert said[:3] == [f"c ended with status 7; starting it again in {pause} s" for pause in (0.05, 0.1, 0.1)]


def test_a_killed_child_is_named_with_its_signal_and_started_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    said: list[str] = []

    async def scenario() -> None:
        supervisor = Supervisor(said.append, backoff=0.05)
        await supervisor.start([child("gateway", SLEEPER, log)])
        await until(lambda: len(lines(log)) == 1)
        first = supervisor.pid("gateway")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(lines(log)) == 2)
        assert supervisor.pid("gateway") not in (None, first)
        await supervisor.stop()
        assert supervisor.pid("gateway") is None

    asyncio.run(scenario())
    assert said == ["gateway was killed by signal 9; starting it again in 0.05 s"]


def test_what_ignores_the_request_to_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def scenario() -> float:
        supervisor = Supervisor(print)
        await supervisor.start([child("c", STUBBORN, file, grace=0.3)])
        await until(file.exists)
        began = time.monotonic()
        await supervisor.stop()
        return time.monotonic() - began

    assert asyncio.run(scenario()) < 2
    eventually(lambda: not processes_with(str(tmp_path)))


def test_children_are_told_to_stop_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"""
import asyncio
from tests.control.test_process_supervisor import SLEEPER, Supervisor, child
from pathlib import Path
async def main():
    await Supervisor(print).start([child("c", SLEEPER, Path({str(log)!r}))])
    await asyncio.sleep(60)
asyncio.run(main())
"""
    supervisor = subprocess.Popen([sys.executable, "-c", code])
    eventually(lambda: len(lines(log)) == 1)
    supervisor.kill()
    supervisor.wait()
    eventually(lambda: lines(log)[1:] == ["c stopped"])


def test_a_second_user_of_a_data_directory_is_told_who_holds_it(tmp_path: Path) -> None:
    with DataLock(tmp_path), pytest.raises(Locked, match=f"another `tunegate up` \\(process {os.getpid()}\\)"):
        DataLock(tmp_path).__enter__()
    with DataLock(tmp_path):
        assert alive(int((tmp_path / "lock").read_text()))
