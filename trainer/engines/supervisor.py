"""Keeps one engine running: start, wait until it answers, watch its health, restart with growing pauses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from trainer import log
from trainer.engines.process import EngineProcess
from trainer.engines.vllm import Launch


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the supervisor is. Seconds."""

    start_timeout: float = 300.0
    stop_grace: float = 3.0
    """From the request to stop to the kill; all of `tunegate up` has 10 seconds."""
    backoff: float = 1.0
    """Pause before the first restart; it doubles with each further one."""
    max_backoff: float = 60.0
    stable_after: float = 60.0
    """An engine that was ready for so long starts counting anew."""
    health_interval: float = 2.0
    health_timeout: float = 10.0
    health_failures: int = 6
    """Unanswered checks in a row after which a ready engine is taken for hung."""


class EngineError(Exception):
    """A run of the engine ended; the message is the cause."""


class EngineSupervisor:
    """Runs one engine until cancelled."""

    def __init__(self, name: str, command: Launch, log_file: Path, policy: Policy | None = None) -> None:
        self._name = name
        self._command = command
        self._log_file = log_file
        self._policy = policy or Policy()
        self._ready_at: float | None = None
        self.starts = 0
        """How often the engine has been started."""

    async def run(self) -> NoReturn:
        """Start the engine, and again whenever it ends; cancelling stops it and leaves nothing behind."""
        policy = self._policy
        failures = 0
        while True:
            self._ready_at = None
            try:
                await self._run_once()
            except EngineError as exc:
                cause = str(exc)
            if self._ready_at is not None and time.monotonic() - self._ready_at > policy.stable_after:
                failures = 0
            pause = min(policy.backoff * 2**failures, policy.max_backoff)
            failures = min(failures + 1, 30)
            log.event("engine.restarting", level="warning", engine=self._name, cause=cause, in_seconds=pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> NoReturn:
        if _listening(self._command.host, self._command.port):
            cause = f"port {self._command.port} is used by another program"
            log.event("engine.start_failed", level="error", engine=self._name, cause=cause)
            raise EngineError(cause)
        began = time.monotonic()
        self.starts += 1
        try:
            process = await EngineProcess.start(self._command, self._log_file)
        except OSError as exc:
            cause = f"{exc.filename}: {exc.strerror}"
            log.event("engine.start_failed", level="error", engine=self._name, cause=cause)
            raise EngineError(cause) from exc
        log.event("engine.starting", engine=self._name, pid=process.pid, log=self._log_file)
        try:
            await self._until_ready(process, began)
            self._ready_at = time.monotonic()
            url = f"http://{_bracketed(self._command.host)}:{self._command.port}"
            log.event("engine.ready", engine=self._name, url=url, seconds=round(self._ready_at - began, 1))
            await self._while_healthy(process)
        finally:
            leftovers = await process.stop(self._policy.stop_grace)
            log.event("engine.stopped", engine=self._name, pid=process.pid, leftovers_removed=len(leftovers))

    async def _until_ready(self, process: EngineProcess, began: float) -> None:
        # another program may have taken the port after it was looked at, and answer in the engine's place
        while not (await self._answers() and process.listens(self._command.port)):
            process.note_shared_memory()
            if process.exit_status is not None:
                self._fail(process, f"{_ended(process.exit_status)}: {process.cause()}")
            if time.monotonic() - began > self._policy.start_timeout:
                self._fail(process, f"not ready after {self._policy.start_timeout:g} s: {process.cause()}")
            await self._pause(process, min(0.5, self._policy.health_interval))
        process.note_shared_memory()

    async def _while_healthy(self, process: EngineProcess) -> NoReturn:
        missed = 0
        while True:
            await self._pause(process, self._policy.health_interval)
            process.note_shared_memory()
            if process.exit_status is not None:
                raise EngineError(f"{_ended(process.exit_status)}: {process.cause()}")
            missed = 0 if await self._answers() else missed + 1
            if missed >= self._policy.health_failures:
                raise EngineError(f"{missed} health checks in a row were not answered")

    def _fail(self, process: EngineProcess, cause: str) -> NoReturn:
        log.event(
            "engine.start_failed",
            level="error",
            engine=self._name,
            cause=cause,
            log=process.log_file,
            log_tail=process.log_tail(),
        )
        raise EngineError(cause)

    async def _pause(self, process: EngineProcess, seconds: float) -> None:
        """Sleep, but wake up when the engine ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await process.wait()

    async def _answers(self) -> bool:
        command = self._command
        return await http_status(command.host, command.port, command.health_path, self._policy.health_timeout) == 200


async def http_status(host: str, port: int, path: str, seconds: float) -> int | None:
    """Status of a GET request, or None when there is no answer in time."""
    request = f"GET {path} HTTP/1.1\r\nHost: {_bracketed(host)}:{port}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request.encode("ascii"))
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):  # not listening yet, or hung: what the caller wants to know
        return None
    _, _, rest = status_line.partition(b" ")
    return int(rest[:3]) if rest[:3].isdigit() else None


def _listening(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:  # the engine would meet the same refusal, but only after loading its model
            return True
    return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ended(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exited with status {status}"
