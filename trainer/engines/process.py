"""One run of an engine: a process in its own session, its log file, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from trainer.engines import procfs
from trainer.engines.vllm import Launch

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
_ERROR_LINE = re.compile(r"(?:^|[\])] )([A-Za-z_][\w.]*(?:Error|Exception): .+)", re.MULTILINE)


class EngineProcess:
    """A started engine. Its session has the pid of its first process, so all that it starts can be found."""

    def __init__(
        self, process: asyncio.subprocess.Process, log_file: Path, scratch: Path, before: procfs.Files
    ) -> None:
        self.pid = process.pid
        self.log_file = log_file
        self._process = process
        self._scratch = scratch
        self._before = before
        self._shared_memory: procfs.Files = {}

    @classmethod
    async def start(cls, command: Launch, log_file: Path) -> EngineProcess:
        """Start the command with its output in a fresh log file; raises OSError if it cannot be executed."""
        scratch = Path(tempfile.mkdtemp(prefix="tunegate-"))  # short: sockets in it have a length limit
        try:
            before = procfs.shared_memory_files()
            with _fresh_log(log_file) as log:
                process = await asyncio.create_subprocess_exec(
                    *command.argv,
                    env={**command.env, "TMPDIR": str(scratch)},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
        except BaseException:
            shutil.rmtree(scratch)
            raise
        return cls(process, log_file, scratch, before)

    @property
    def exit_status(self) -> int | None:
        """Exit status of the first process, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for the first process to end."""
        return await self._process.wait()

    def listens(self, port: int) -> bool:
        """Whether it is this engine that answers on a port, and nobody else."""
        return procfs.listens(procfs.session_members(self.pid), port)

    def note_shared_memory(self) -> None:
        """Remember which shared-memory files the engine made, as long as someone lives to ask."""
        mapped = procfs.mapped_shared_memory(procfs.session_members(self.pid))
        self._shared_memory.update((path, inode) for path, inode in mapped.items() if self._before.get(path) != inode)

    async def stop(self, grace: float) -> list[Path]:
        """End every process of the session, politely for `grace` seconds; returns the files it had left."""
        deadline = time.monotonic() + grace
        self.note_shared_memory()
        if self.exit_status is None:
            with contextlib.suppress(ProcessLookupError):  # it ended this moment
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                # not asyncio.timeout: in 3.11.2 (Debian 12) it raises CancelledError if the task was cancelled before
                await asyncio.wait_for(self._process.wait(), grace)
        self._signal_all(signal.SIGTERM)  # those that it should have stopped, and did not
        if not await self._gone_before(deadline):
            self.note_shared_memory()
            self._signal_all(signal.SIGKILL)
            await self._gone_before(time.monotonic() + grace)
        await self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)
        return procfs.remove(self._shared_memory)

    async def _gone_before(self, deadline: float) -> bool:
        while self.exit_status is None or procfs.session_members(self.pid):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    def _signal_all(self, number: signal.Signals) -> None:
        # The group in one call, so that none escapes by forking; then those that made a group of their own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
        for pid in procfs.session_members(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def log_tail(self, lines: int = 20) -> list[str]:
        """The last lines of the log."""
        return _read_end(self.log_file).splitlines()[-lines:]

    def cause(self) -> str:
        """The log line that most likely says why it failed: the first error; later ones only report it."""
        text = _read_end(self.log_file)
        match = _ERROR_LINE.search(text)
        if match:
            return match[1].strip()
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "the log is empty")


def _end_with_parent() -> None:
    """In the new process: be told to stop when the trainer dies without having done so itself."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _fresh_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_name(path.name + ".1"))
    return path.open("wb")


def _read_end(path: Path, size: int = 200_000) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode("utf-8", "replace")
