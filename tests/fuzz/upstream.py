"""Fuzz of the upstream connection: whatever an upstream sends, a call ends exactly once and within its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.contract.snapshot import Timeouts
from gateway.errors import UpstreamFailure
from gateway.upstream.call import UpstreamCall
from gateway.upstream.connection import MAX_HEAD_BYTES, UpstreamConnection
from tests.fuzz.targets import Dice, Found, mutated, pieces

OK = b"HTTP/1.1 200 OK\r\n"
REPLIES = [
    OK + b'content-type: application/json\r\ncontent-length: 7\r\n\r\n{"a":1}',
    OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
    OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-trailer: 1\r\n\r\n",
    OK + b"connection: close\r\n\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\n\r\nold",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw",
    b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    OK + b"content-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"x: " + b"y" * 200 + b"\r\ncontent-length: 1\r\n\r\nz",
]
LIMIT = 64


class Transport(asyncio.Transport):
    """Remembers that it was closed, as a real one would a moment later."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: Any) -> None: ...
    def writelines(self, list_of_data: Any) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


class Recorder:
    """A sink that notes in which order it was called."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self.calls: list[str] = []
        self.size = 0
        self.head_size = 0
        self.call: UpstreamCall | None = None

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.calls.append("head")
        self.head_size = sum(map(len, headers)) + sum(map(len, headers.values()))

    def on_data(self, data: bytes) -> None:
        self.calls.append("data")
        self.size += len(data)
        assert self.call is not None
        match self._dice.randrange(40):
            case 0:
                self.call.pause()
            case 1:
                self.call.resume()
            case 2:
                self.call.abort()
                self.calls.append("aborted")

    def on_end(self) -> None:
        self.calls.append("end")

    def on_failure(self, failure: UpstreamFailure) -> None:
        self.calls.append("failure")


class FakePool:
    """Hands a free connection to the next call, and notes what it is told."""

    def __init__(self, calls: list[UpstreamCall]) -> None:
        self.waiting = calls
        self.resent: list[UpstreamCall] = []
        self.losses = 0

    def soon(self, work: Callable[..., object], *arguments: object) -> None:
        """At once: there is no loop, and the answer comes after the request in any case."""
        work(*arguments)

    def now(self) -> float:
        return 1.0

    def release(self, connection: UpstreamConnection) -> None:
        if self.waiting:
            connection.send(self.waiting.pop(0))

    def closed(self, connection: UpstreamConnection) -> None:
        self.losses += 1

    def resend(self, call: UpstreamCall) -> None:
        self.resent.append(call)


def connection(dice: Dice) -> None:
    """One connection, up to three calls, and an upstream that sends what it likes."""
    stream = b"".join(mutated(dice, dice.choice(REPLIES), 3) for _ in range(dice.randint(1, 3)))
    if dice.random() < 0.02:
        stream = OK + b"".join(b"x-%d: %b\r\n" % (i, b"y" * 500) for i in range(300))
    parts = (
        pieces(dice, stream) if len(stream) < 10_000 else [stream[i : i + 4096] for i in range(0, len(stream), 4096)]
    )
    sinks = [Recorder(dice) for _ in range(3)]
    for sink in sinks:
        body = [b"{}"]
        sink.call = UpstreamCall(
            b"POST / HTTP/1.1\r\n\r\n", body, sum(map(len, body)), sink, Timeouts(), LIMIT, 0.0, lambda call: None
        )
    calls = [sink.call for sink in sinks if sink.call is not None]
    pool = FakePool(calls[1:])
    wire = UpstreamConnection(pool)  # type: ignore[arg-type]
    transport = Transport()
    loss = dice.choice([None, ConnectionResetError()])
    try:
        wire.connection_made(transport)
        wire.send(calls[0])
        for part in parts:
            if transport.closed:
                break
            wire.data_received(part)
        wire.connection_lost(None if transport.closed else loss)
    except Exception as exc:
        raise Found(parts, f"{type(exc).__name__} escaped: {exc}") from exc
    longest = max(map(len, parts), default=0)
    for sink in sinks[: wire.uses]:
        problem = wrong(sink, pool, longest)
        if problem:
            raise Found(parts, f"{problem}: {sink.calls}")
    if pool.losses != 1:
        raise Found(parts, f"the pool heard {pool.losses} times that the connection is gone")


def wrong(sink: Recorder, pool: FakePool, longest: int) -> str:
    """What does not hold for one call, or nothing."""
    ends = [name for name in sink.calls if name in ("end", "failure", "aborted")]
    if sink.call in pool.resent:
        return "a call that was answered is sent again" if sink.calls else ""
    if len(ends) != 1:
        return f"the call ended {len(ends)} times"
    if sink.calls[-1] != ends[0]:
        return "something came after the end"
    if sink.calls.count("head") > 1 or ("head" in sink.calls and sink.calls[0] != "head"):
        return "the head came twice or late"
    if "data" in sink.calls and "head" not in sink.calls:
        return "data came without a head"
    if sink.size > LIMIT + longest:
        return f"{sink.size} bytes passed a limit of {LIMIT}"
    if sink.head_size > MAX_HEAD_BYTES + longest:
        return f"{sink.head_size} bytes of headers passed"
    return ""
