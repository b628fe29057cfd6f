"""Start a system on its core, wait for its first answer, stop it again."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.processes import free_port

from .install import Unavailable
from .native import KEY, pinned
from .systems import REPO, Launch, Place, System

PROMPT = '{"model":"%s","messages":[{"role":"user","content":"ready?"}],"max_tokens":8}'


@dataclass
class Running:
    """A started system."""

    pid: int
    port: int
    launch: Launch
    start_ms: float
    """From the start of the process to its first good answer."""


def ask(port: int, launch: Launch) -> str:
    """One request; empty if it was answered well, else what went wrong."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    headers |= dict(line.split(": ", 1) for line in launch.headers)
    try:
        connection.request("POST", launch.path, PROMPT % launch.model, headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as exc:
        return type(exc).__name__
    finally:
        connection.close()
    return "" if answer.status == 200 and b'"choices"' in body else f"{answer.status} {body[:150]!r}"


def _last_words(log: Path) -> str:
    """The end of a system's output, without colours and without this machine's folders."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    text = text.replace(str(REPO), ".").replace(str(Path.home()), "~")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"


def _await(process: subprocess.Popen[bytes], launch: Launch, port: int, log: Path, seconds: float) -> int:
    """Wait for the first good answer; gives the port."""
    end = time.monotonic() + seconds
    reason = "no answer"
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Unavailable(f"ended with {process.returncode}: {_last_words(log)}")
        if launch.port_pattern:
            match = re.search(launch.port_pattern, log.read_text(errors="replace"))
            port = int(match.group(1)) if match else 0
        if port:
            reason = ask(port, launch)
            if not reason:
                return port
        time.sleep(0.005)
    raise Unavailable(f"not ready after {seconds:.0f} s: {reason}; {_last_words(log)}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process group that we made: politely, then surely."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(5.0)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(5.0)


@contextmanager
def started(system: System, place: Place, core: int, upstream_pid: int) -> Iterator[Running]:
    """Run a system for the length of a `with`. Without a gateway, the upstream itself is what is measured."""
    if system.launch is None:
        yield Running(pid=upstream_pid, port=place.upstream, launch=Launch([]), start_ms=0.0)
        return
    launch = system.launch(place)
    log = place.work / "output.log"
    with log.open("wb") as output:
        begin = time.monotonic()
        process = subprocess.Popen(
            pinned(launch.argv, core),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=REPO,
            env=os.environ | dict(launch.env),
            start_new_session=True,
        )
        try:
            port = _await(process, launch, place.port, log, system.start_seconds)
            yield Running(process.pid, port, launch, (time.monotonic() - begin) * 1000)
        finally:
            stop(process)


def fresh_place(work: Path, upstream: int, tool: Path) -> Place:
    """An empty folder and a free port."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return Place(work=work, port=free_port(), upstream=upstream, tool=tool)
