"""What the gateway's own Python costs per request, without sockets: a guide for work on the request path.

The real protocol, pipeline, limits, spool and upstream connection run in one process; only the transports are fakes.
The kernel's share is missing, so judge a change by the difference, and the whole by `tests.load.bench`.

    python -m tests.load.micro              µs per chat request, per streamed chunk and per request that holds a long
                                            conversation and tools, the least of several runs
    python -m tests.load.micro --profile chat   also where the time goes, function by function
    TUNEGATE_LIMITS_BACKEND=redis TUNEGATE_LIMITS_URL=redis://… python -m tests.load.micro   with limits in Redis
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import uvicorn
import uvloop
from uvicorn.server import ServerState

from gateway import app
from gateway.server.protocol import bind
from gateway.snapshot.file import load
from gateway.upstream import pool

from .native import KEY
from .systems import Place, tunegate_config

REQUESTS = 2000
CHUNKS = 100
"""Data events of one streamed answer; each arrives on its own."""
KINDS = ("chat", "stream", "long")
SHARE = {"chat": 1, "stream": CHUNKS, "long": 10}
"""Of each kind, one for so many of REQUESTS."""
_TEXT = b'{"id":"chatcmpl-123","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,'
_USAGE = b'"usage":{"prompt_tokens":20,"completion_tokens":120,"prompt_tokens_details":{"cached_tokens":0}}'
_ANSWER = _TEXT + b'"message":{"role":"assistant","content":"%b"},"finish_reason":"stop"}],%b}' % (b"x " * 350, _USAGE)
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
_EVENT = b"data: " + _TEXT + b'"delta":{"content":" word"}}]}\n\n'
_LAST = b"data: " + _TEXT[: _TEXT.index(b'"choices"')] + b'"choices":[],' + _USAGE + b"}\n\ndata: [DONE]\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_STREAM = [_HEAD + _chunk(_EVENT), *[_chunk(_EVENT)] * (CHUNKS - 1), _chunk(_LAST) + b"0\r\n\r\n"]


def request(kind: str) -> bytes:
    """A whole message: a question of 0.4 kB, the same to be streamed, or an agent's turn of 44 kB."""
    if kind == "long":
        body = orjson.dumps({"model": "bench", "messages": _TURNS, "tools": _TOOLS, "temperature": 0.5})
    else:
        body = b'{"model":"bench","messages":[{"role":"user","content":"%b"}],"temperature":0.5%b}' % (
            b"hello " * 50,
            b',"stream":true' if kind == "stream" else b"",
        )
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8124\r\nAuthorization: Bearer %b\r\n"
    head += b"Content-Type: application/json\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n%b"
    return head % (KEY.encode(), len(body), body)


_TURNS = [
    {"role": role, "content": f"step {n}:\n" + "some words " * 40} for n in range(40) for role in ("user", "assistant")
]
_FIELDS = {f"field_{n}": {"type": "string", "description": "what it is for"} for n in range(5)}
_TOOLS = [
    {"type": "function", "function": {"name": f"tool_{n}", "description": "what it does " * 10,
     "parameters": {"type": "object", "properties": _FIELDS, "required": ["field_1"]}}}
    for n in range(10)
]  # fmt: skip


class Transport:
    """Sends nothing: whoever writes a whole message is answered through the loop, as the kernel would."""

    protocol: Any = None

    def __init__(self, answer: Callable[[bytes], None]) -> None:
        self._answer = answer

    def write(self, data: bytes) -> None:
        """Take a message."""
        self._answer(data)

    def writelines(self, pieces: list[bytes]) -> None:
        """Take a message in pieces."""
        self._answer(b"".join(pieces))

    def is_closing(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to close."""

    abort = pause_reading = resume_reading = close

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Addresses."""
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default


def _upstream(loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
    """Stands in for `gateway.upstream.connect.connect`."""

    async def connect(endpoint: object, tls: object, factory: Callable[[], Any], patience: float) -> Any:
        protocol = factory()

        def answer(data: bytes) -> None:
            loop.call_soon(arrive, iter(_STREAM if b'"stream":true' in data else (_WHOLE,)))

        def arrive(pieces: Iterator[bytes]) -> None:
            piece = next(pieces, None)
            if piece is not None:
                protocol.data_received(piece)
                loop.call_soon(arrive, pieces)

        protocol.connection_made(Transport(answer))
        return protocol

    return connect


async def _run(connection: Any, request: bytes, count: int) -> float:
    """CPU µs per request of `count` requests, one after another on one connection."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    left = count

    def answer(data: bytes) -> None:
        nonlocal left
        if not data.endswith((b"0\r\n\r\n", b"}")):  # a piece in the middle of a stream
            return
        left -= 1
        if left:
            loop.call_soon(connection.data_received, request)
        else:
            done.set_result(None)

    connection.connection_made(Transport(answer))
    began = time.process_time()
    connection.data_received(request)
    await done
    took = (time.process_time() - began) / count * 1e6
    connection.connection_lost(None)
    return took


async def _measure(work: Path, runs: int, profiled: str) -> None:
    (work / "upstream-key").write_text("sk-none")
    place = Place(work, 8124, 8301, work)
    config = place.write("config.toml", tunegate_config(controls=True))
    settings, snapshot = load(config)
    worker = app.Worker(settings, snapshot, config)
    worker.spool.start()
    worker.limiter.apply(worker.holder.current)
    loop = asyncio.get_running_loop()
    if worker.shared is not None:
        await worker.shared.start()
        leasing = loop.create_task(worker.shared.run())
    pool.connect = _upstream(loop)
    front = worker._front(worker.way(loop).pipeline)
    front.sweep(loop.time())
    uv = uvicorn.Config(lambda: None, http=bind(front), ws="none", lifespan="off", log_config=None, access_log=False)
    uv.load()
    gc.set_threshold(20_000, 20, 100)  # as gateway.app has it
    gc.freeze()

    async def run(kind: str) -> float:
        connection = uv.http_protocol_class(config=uv, server_state=ServerState(), app_state={})  # type: ignore[operator]
        took = await _run(connection, request(kind), REQUESTS // SHARE[kind])
        await worker.shipper.flush()
        return took

    await run("chat")
    chat, stream, long = [min([await run(kind) for _ in range(runs)]) for kind in KINDS]
    print(f"{chat:7.2f} µs per chat request\n{(stream - chat) / CHUNKS:7.2f} µs per further chunk of a stream")
    print(f"{long:7.2f} µs per request of a long conversation")
    if worker.shared is not None:
        leasing.cancel()
        print(f"{dict(worker.shared.link.calls)} calls to Redis")
    if profiled:
        with cProfile.Profile() as profile:
            await run(profiled)
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="of each kind; the best one counts")
    parser.add_argument("--profile", choices=KINDS, default="", help="which kind to look into")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as work:
        uvloop.run(_measure(Path(work), args.runs, args.profile))


if __name__ == "__main__":
    main()
