"""Several workers on one port: the parent that keeps them alive, and how one of them answers for all on /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("gateway.workers")

MAX_BACKOFF = 10.0


def listen(host: str, port: int, shared: bool) -> socket.socket:
    """A listening socket; `shared` lets every worker bind the same port and the kernel spread connections.

    OSError if the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let others steal the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(4096)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class Sibling:
    """A worker's private way to its siblings: a Unix socket each, that tells its own metrics to whoever connects."""

    def __init__(self, directory: Path, index: int, count: int) -> None:
        self._directory = directory
        self._index = index
        self._others = [i for i in range(count) if i != index]
        self._server: asyncio.Server | None = None

    def _path(self, index: int) -> Path:
        return self._directory / f"w{index}.sock"

    async def start(self, render: Callable[[], bytes]) -> None:
        """Listen, if there are siblings."""
        if not self._others:
            return

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(render())
            await writer.drain()
            writer.close()

        path = self._path(self._index)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(tell, path)
        path.chmod(0o600)

    async def merge(self, own: bytes) -> bytes:
        """Own metrics and those of every sibling that answers within a second, grouped by family."""
        texts = [own, *await asyncio.gather(*map(self._ask, self._others))]
        families: dict[str, list[str]] = {}
        for text in texts:
            name = ""
            for line in text.decode().splitlines():
                if line.startswith("# HELP "):
                    name = line.split(" ", 3)[2]
                block = families.setdefault(name, [])
                if not line.startswith("# ") or line not in block:
                    block.append(line)
        return "".join(f"{line}\n" for block in families.values() for line in block).encode()

    async def _ask(self, index: int) -> bytes:
        try:
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_unix_connection(self._path(index))
                text = await reader.read()
                writer.close()
                return text
        except (OSError, TimeoutError) as exc:
            log.warning("metrics.sibling_silent", extra={"data": {"worker": index, "error": repr(exc)}})
            return b""

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._path(self._index).unlink(missing_ok=True)


async def supervise(arguments: list[str], count: int, stop_timeout: float) -> int:
    """Run `count` workers (`arguments` plus `--worker N`), restart those that die, stop all on SIGTERM or SIGINT.

    Returns 0 after an ordered stop. Each worker also stops by itself when this parent is gone.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    keepers = [asyncio.create_task(_keep(arguments, index, stop, stop_timeout)) for index in range(count)]
    await asyncio.gather(*keepers)
    return 0


async def _keep(arguments: list[str], index: int, stop: asyncio.Event, stop_timeout: float) -> None:
    backoff = 0.1
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        began = loop.time()
        process = await asyncio.create_subprocess_exec(
            *arguments, "--worker", str(index), start_new_session=True, stdin=asyncio.subprocess.DEVNULL
        )
        exited, stopping = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
        await asyncio.wait((exited, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if stop.is_set():
            await _stop(process, exited, stop_timeout)
            return
        backoff = 0.1 if loop.time() - began > 60.0 else min(backoff * 2.0, MAX_BACKOFF)
        data = {"worker": index, "pid": process.pid, "exit_code": process.returncode, "restart_in": backoff}
        log.error("worker.died", extra={"data": data})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), backoff)


async def _stop(process: asyncio.subprocess.Process, exited: asyncio.Task[int], patience: float) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(asyncio.shield(exited), patience)
    except TimeoutError:
        log.error("worker.killed", extra={"data": {"pid": process.pid}})
        process.kill()
        await exited


def parent_changed(original: int) -> bool:
    """Whether this worker's parent is gone (it was adopted by another process)."""
    return sys.platform != "win32" and os.getppid() != original
