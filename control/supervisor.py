"""Keeps the processes of `tunegate up` alive: start in order, restart after a pause, stop in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep alive. Its output goes where ours goes."""

    name: str
    argv: tuple[str, ...]
    grace: float = 4.0
    """Seconds from the request to stop to the kill."""
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    answers: Callable[[], Awaitable[object]] | None = None
    """Awaited once after the first start: the next child, which needs this one, starts then."""


class Supervisor:
    """Runs children from `start` to `stop`."""

    def __init__(
        self,
        report: Callable[[str], None],
        *,
        backoff: float = 1.0,
        max_backoff: float = 30.0,
        stable_after: float = 60.0,
    ) -> None:
        self._children: list[Child] = []
        self._report = report
        self._backoff = backoff
        self._max_backoff = max_backoff
        self._stable_after = stable_after
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}

    async def start(self, children: Sequence[Child]) -> None:
        """Start each of these after those that were started before, and watch over it."""
        for child in children:
            self._children.append(child)
            process = await self._spawn(child)
            self._keepers[child.name] = asyncio.create_task(self._keep(child, process))
            if child.answers is not None:
                await child.answers()

    async def stop(self) -> None:
        """Stop every child, the last one first: nothing stops while something that needs it runs."""
        for child in reversed(self._children):
            keeper = self._keepers.pop(child.name, None)
            if keeper is not None:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
            if process := self._running.pop(child.name, None):
                await end(process, child.grace)

    def pid(self, name: str) -> int | None:
        """Process id of a child, or None while it is not running."""
        process = self._running.get(name)
        return process.pid if process is not None and process.returncode is None else None

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        process = await start_process(child.argv, child.env)
        self._running[child.name] = process
        return process

    async def _keep(self, child: Child, process: asyncio.subprocess.Process) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            status = await process.wait()
            _signal_group(process.pid, signal.SIGKILL)  # what it had started must not hold its port
            if time.monotonic() - began > self._stable_after:
                failures = 0
            pause = min(self._backoff * 2**failures, self._max_backoff)
            failures = min(failures + 1, 30)
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            self._report(f"{child.name} {how}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            process = await self._spawn(child)


async def start_process(argv: Sequence[str], env: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start a process in its own session: a Ctrl-C in the terminal reaches only us."""
    return await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )


async def end(process: asyncio.subprocess.Process, grace: float) -> None:
    """Ask a process to stop; after `grace` seconds kill it and everything in its group."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it ended this moment
            process.terminate()
        with contextlib.suppress(TimeoutError):
            # not asyncio.timeout: in 3.11.2 (Debian 12) it raises CancelledError if the task was cancelled before
            await asyncio.wait_for(process.wait(), grace)
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody of the group is left, as it should be
        os.killpg(group, number)


def _end_with_parent() -> None:
    """In the new process: be told to stop when `tunegate up` dies without having done so itself."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
