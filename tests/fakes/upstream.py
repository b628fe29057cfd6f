"""A model provider that does what a test tells it, down to the byte: real sockets, hand-written HTTP/1.1.

It runs in a thread with its own loop. Each request is answered by a *script*: a list of steps (`Send`,
`Sleep`, `Wait`, `Mark`, `Reset`, `Close`, `Served`), or a function of the request that returns one. Scripts
are chosen by the last part of the request's model name; `fakes.scripts` has the ready-made ones.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.fakes.wire import Usage

_MODEL_IN_FORM = re.compile(rb'name="model"\r\n\r\n([^\r]*)\r\n')
_MODEL_IN_URL = re.compile(r"/(?:models|model|deployments)/([^/:?]+)")


@dataclass
class Seen:
    """One request as it arrived, and what became of it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    raw: bytes
    connection: int
    at: float = field(default_factory=time.monotonic)
    nth: int = 0
    """Place of this request on its connection, from 0."""
    finished: bool = False
    """The script ran to its end."""
    gone: float | None = None
    """When the peer closed or reset while it was still being answered."""
    was_reset: bool = False

    def header(self, name: str) -> str | None:
        """First value of a header."""
        return next((v for k, v in self.headers if k.lower() == name), None)

    @property
    def json(self) -> dict[str, Any]:
        """The body, or an empty object if it is not one."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def model(self) -> str:
        """The model asked for, as it arrived: in the body or form, or in the URL of those who put it there."""
        in_url = _MODEL_IN_URL.search(self.target)
        in_form = _MODEL_IN_FORM.search(self.body)
        return unquote(in_url[1]) if in_url else in_form[1].decode() if in_form else str(self.json.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether a stream was asked for."""
        return self.json.get("stream") is True

    @property
    def asks_usage(self) -> bool:
        """Whether `stream_options.include_usage` is true."""
        options = self.json.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def ids(self) -> set[str]:
        """What the request is known by: the `x-request-id` header, and the marker in the body's `user`."""
        return {str(i) for i in (self.header("x-request-id"), self.json.get("user")) if i}


@dataclass(frozen=True)
class Send:
    """Send these bytes, and wait until the socket took them."""

    data: bytes

    async def run(self, peer: Peer, seen: Seen) -> None:
        await peer.send(self.data)


@dataclass(frozen=True)
class Sleep:
    """Do nothing for a while."""

    seconds: float

    async def run(self, peer: Peer, seen: Seen) -> None:
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class Wait:
    """Do nothing until the test sets the event."""

    event: threading.Event
    limit: float = 30.0

    async def run(self, peer: Peer, seen: Seen) -> None:
        end = time.monotonic() + self.limit
        while not self.event.is_set() and time.monotonic() < end:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.003)


@dataclass(frozen=True)
class Mark:
    """Tell the test that the script came this far."""

    event: threading.Event

    async def run(self, peer: Peer, seen: Seen) -> None:
        self.event.set()


@dataclass(frozen=True)
class Reset:
    """Break the connection with RST."""

    async def run(self, peer: Peer, seen: Seen) -> None:
        peer.reset()


@dataclass(frozen=True)
class Close:
    """End the connection with FIN, once everything is sent."""

    async def run(self, peer: Peer, seen: Seen) -> None:
        peer.close()


@dataclass(frozen=True)
class Served:
    """Note that the answer cost this much; stands just before the bytes that say so."""

    usage: Usage

    async def run(self, peer: Peer, seen: Seen) -> None:
        peer.owner.note_served(seen, self.usage)


Step = Send | Sleep | Wait | Mark | Reset | Close | Served
Script = Iterable[Step] | Callable[[Seen], Iterable[Step]]


class Peer(asyncio.Protocol):
    """One connection from the gateway."""

    def __init__(self, owner: Upstream) -> None:
        self.owner = owner
        self.number = 0
        self.count = 0
        self.buffer = bytearray()
        self.current: Seen | None = None
        self.task: asyncio.Task[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.ended_by_us = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.number = self.owner.opened(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._next()

    def eof_received(self) -> bool:
        self._gone(reset=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.closed(self)
        self._gone(reset=exc is not None)
        self.writable.set()
        if self.task is not None:
            self.task.cancel()

    def _gone(self, *, reset: bool) -> None:
        seen = self.current
        if seen is not None and seen.gone is None and not self.ended_by_us:
            seen.gone, seen.was_reset = time.monotonic(), reset

    async def send(self, data: bytes) -> None:
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)
        await self.writable.wait()

    def reset(self) -> None:
        self.ended_by_us = True
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def close(self) -> None:
        self.ended_by_us = True
        self.transport.close()

    def _next(self) -> None:
        if self.current is not None:
            return
        taken = parse_request(self.buffer)
        if taken is None:
            return
        size, method, target, headers, body = taken
        raw = bytes(self.buffer[:size])
        del self.buffer[:size]
        self.current = Seen(method, target, headers, body, raw, self.number, nth=self.count)
        self.count += 1
        self.task = asyncio.get_running_loop().create_task(self._answer(self.current))

    async def _answer(self, seen: Seen) -> None:
        script = self.owner.pick(seen)
        try:
            for step in script(seen) if callable(script) else script:
                await step.run(self, seen)
            seen.finished = True
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            self.current = None
        if not self.transport.is_closing():
            self._next()


def parse_request(data: bytearray) -> tuple[int, str, str, list[tuple[str, str]], bytes] | None:
    """A whole request at the start of the buffer: its size and parts; None if more must come."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(data[:end]).decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = [(k.strip(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]
    known = {k.lower(): v for k, v in headers}
    start = end + 4
    if "chunked" in known.get("transfer-encoding", "").lower():
        return _chunked(data, start, method, target, headers)
    size = int(known.get("content-length", "0"))
    if len(data) < start + size:
        return None
    return start + size, method, target, headers, bytes(data[start : start + size])


def _chunked(
    data: bytearray, at: int, method: str, target: str, headers: list[tuple[str, str]]
) -> tuple[int, str, str, list[tuple[str, str]], bytes] | None:
    body = b""
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line], 16)
        if len(data) < line + 4 + size:
            return None
        body += data[line + 2 : line + 2 + size]
        at = line + 4 + size
        if size == 0:
            return at, method, target, headers, body


class Upstream:
    """The server. Use it as a context manager; everything public may be called from the test's thread."""

    def __init__(self, tls: ssl.SSLContext | None = None, default: Script | None = None) -> None:
        from tests.fakes import scripts  # noqa: PLC0415 - scripts are made of this module's steps

        self.requests: list[Seen] = []
        self.served: dict[str, Usage] = {}
        """Tokens of the answers whose usage was handed over, by each id of the request."""
        self.served_count: dict[str, int] = defaultdict(int)
        self.connections = 0
        """How many were ever accepted."""
        self._tls = tls
        self._default = default or scripts.auto()
        self._scripts: dict[str, Script] = {}
        self._queues: dict[str, deque[Script]] = defaultdict(deque)
        self._peers: set[Peer] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-upstream", daemon=True)
        self.port = 0

    def __enter__(self) -> Upstream:
        self._thread.start()
        assert self._ready.wait(10), "the fake upstream did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Base URL for an endpoint's configuration."""
        return f"https://localhost:{self.port}/v1" if self._tls else f"http://127.0.0.1:{self.port}/v1"

    @property
    def open_connections(self) -> int:
        """Connections that are open now, idle ones included."""
        return len(self._peers)

    @property
    def answering(self) -> int:
        """Requests that are being answered now."""
        return sum(1 for p in tuple(self._peers) if p.current is not None)

    def on(self, model: str, script: Script) -> None:
        """Answer every request for this model (the part after the last slash) with the script."""
        self._scripts[model] = script

    def queue(self, model: str, *scripts: Script) -> None:
        """Answer the next requests for this model with these, one each, before its ordinary script."""
        self._queues[model].extend(scripts)

    def of(self, model: str) -> list[Seen]:
        """The requests for a model, in order of arrival."""
        return [s for s in tuple(self.requests) if s.model.rpartition("/")[2] == model]

    def drop_idle(self) -> None:
        """Close every connection that is not answering."""

        def drop() -> None:
            for peer in tuple(self._peers):
                if peer.current is None:
                    peer.close()

        self._loop.call_soon_threadsafe(drop)

    def pick(self, seen: Seen) -> Script:
        self.requests.append(seen)
        model = seen.model.rpartition("/")[2]
        if self._queues[model]:
            return self._queues[model].popleft()
        return self._scripts.get(model, self._default)

    def note_served(self, seen: Seen, usage: Usage) -> None:
        for name in seen.ids:
            self.served[name] = usage
            self.served_count[name] += 1

    def opened(self, peer: Peer) -> int:
        self._peers.add(peer)
        self.connections += 1
        return self.connections

    def closed(self, peer: Peer) -> None:
        self._peers.discard(peer)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._loop.set_exception_handler(lambda *_: None)  # a peer that breaks TLS is the test's business
        server = await self._loop.create_server(lambda: Peer(self), "127.0.0.1", 0, ssl=self._tls, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for peer in tuple(self._peers):
            peer.transport.abort()
        await asyncio.sleep(0.01)
