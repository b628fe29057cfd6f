"""A control plane that speaks `/internal/v1` over real sockets, with good manners or with the bad ones a test asks for.

It runs in a thread with its own loop. `publish` makes a configuration; `manners[kind]` (snapshot, page, usage, spend,
request-log, status, retrieval) is a function that may answer in its place: with raw bytes, a pause, or by cutting the
connection.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from gateway.contract.internal import KEYS_PER_PAGE, BodyBatch, GatewayStatus, KeyPage, SnapshotHead, Spend, UsageBatch
from gateway.contract.retrieval import BasesReply, BasesRequest, RetrievalReply, RetrievalRequest
from gateway.contract.seal import seal
from gateway.contract.usage import UsageEvent

TOKEN = "st-tg-test-service-token-0123456789"
Manner = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]
"""Answers in place of the good reply, which it is given."""


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP/1.1 reply."""
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if status != 304:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Control:
    """The server. All public state may be read from the test's thread."""

    def __init__(self, token: str = TOKEN, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.token = token
        self.sealed_for = token
        self.port = 0
        self.manners: dict[str, Manner] = {}
        self.asked: list[tuple[str, float]] = []
        """(kind, monotonic time) of every request with the right token."""
        self.pages_sent: list[str] = []
        self.ledger: dict[str, dict[str, Any]] = {}
        """Usage events by id."""
        self.bodies: dict[str, dict[str, Any]] = {}
        """Entries of the request log by id."""
        self.passages: list[dict[str, Any]] = []
        """What every search finds."""
        self.found_first: list[list[dict[str, Any]]] = []
        """What the next searches find instead, one after the other."""
        self.rerank = "none"
        self.bases: list[dict[str, Any]] = []
        self.searches: list[dict[str, Any]] = []
        self.statuses: dict[str, GatewayStatus] = {}
        """Last report by instance."""
        self.duplicates = 0
        self.gateways: set[str] = set()
        self.version = ""
        self._numbers = 0
        self._head: dict[str, Any] = {}
        self._pages: dict[str, bytes] = {}
        self._spent: list[tuple[int, dict[str, Any]]] = []
        self._cursor = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Listen; after `stop` on the same port again."""

        async def run() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(5)
        return self

    def stop(self) -> None:
        """Be gone: no listener, every connection reset."""

        async def run() -> None:
            if self._server is not None:
                for listener in self._server.sockets:
                    self._loop.remove_reader(listener.fileno())
                await asyncio.sleep(0.01)  # a connection taken just now becomes one, which a closed server refuses
                self._server.close()
                self._server = None
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.01)  # for transports to close

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(5)

    # ---- what a test says ----

    def publish(self, config: dict[str, Any], *, per_page: int = KEYS_PER_PAGE, **head: Any) -> str:
        """A new configuration, in the tables of a config.toml; `head` overrides members of the head unchecked."""
        tables = json.loads(json.dumps(config, default=str))
        keys = tables.pop("key", [])
        pages = [json.dumps({"key": keys[i : i + per_page]}).encode() for i in range(0, len(keys), per_page)]
        self._numbers += 1
        version = f"v{self._numbers}"
        for endpoint in tables.get("endpoint", []):
            if endpoint.get("api_key") and not endpoint["api_key"].startswith(("env:", "file:", "sealed:")):
                endpoint["api_key"] = seal(
                    endpoint["api_key"], self.sealed_for, endpoint["name"], endpoint.get("base_url", "")
                )
        self._pages |= {hashlib.sha256(page).hexdigest(): page for page in pages}
        tables |= {"version": version, "schema_version": 1}
        tables["key_pages"] = [hashlib.sha256(page).hexdigest() for page in pages]
        if not head:
            SnapshotHead.model_validate(tables)
            for page in pages[:1]:
                KeyPage.model_validate_json(page)
        self._head, self.version = tables | head, version
        return version

    def forget_pages(self) -> None:
        """As if every page had changed meanwhile."""
        self._pages = {}

    def spend(self, scope: str, name: str, nano: int, *, window: str = "total", start: float = 0.0) -> None:
        """The ledger has grown."""
        self._cursor += 1
        figure = {"scope": scope, "name": name, "window": window, "timezone": "UTC", "start": start, "nano": nano}
        self._spent.append((self._cursor, figure))

    def count(self, kind: str) -> int:
        """How often something was asked for."""
        return sum(1 for name, _ in self.asked if name == kind)

    # ---- what a gateway sees ----

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, target, _ = first.split(" ")
                await self._answer(writer, method, urlsplit(target), headers, body)
                await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):  # cancelled: by `stop`, which waits for the end of it
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, target: Any, headers: dict[str, str], body: bytes
    ) -> None:
        if headers.get("authorization") != f"Bearer {self.token}":
            writer.write(reply(401, b'{"title":"who are you"}'))
            return
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        path = target.path.removeprefix("/internal/v1/")
        kind = "page" if path.startswith("snapshot/keys/") else path
        self.asked.append((kind, time.monotonic()))
        if kind == "snapshot":
            good = await self._snapshot(headers.get("if-none-match", ""), float(query.get("wait", 0)))
        elif kind == "page":
            good = self._page(path.rpartition("/")[2])
        elif kind == "usage" and method == "POST":
            good = self._usage(body)
        elif kind == "request-log" and method == "POST":
            entries = BodyBatch.model_validate_json(body).entries
            self.bodies |= {entry.id: entry.model_dump() for entry in entries}
            good = reply(200, json.dumps({"stored": len(entries), "duplicates": 0}).encode())
        elif kind == "status" and method == "POST":
            status = GatewayStatus.model_validate_json(body)
            self.statuses[status.gateway] = status
            good = reply(204)
        elif kind == "retrieval" and method == "POST":
            self.searches.append(json.loads(body))
            request = RetrievalRequest.model_validate_json(body)
            passages = self.found_first.pop(0) if self.found_first else self.passages
            indexes = dict.fromkeys(request.bases, 1 + request.trial)
            found = RetrievalReply.model_validate(
                {"passages": passages, "took_ms": 1.0, "rerank": self.rerank, "indexes": indexes}
            )
            good = reply(200, found.model_dump_json().encode())
        elif kind == "knowledge" and method == "POST":
            asked = BasesRequest.model_validate_json(body)
            self.searches.append(json.loads(body))
            bases = [one for one in self.bases if asked.names is None or one["name"] in asked.names]
            good = reply(200, BasesReply.model_validate({"bases": bases}).model_dump_json().encode())
        elif kind == "spend":
            good = self._spend(int(query.get("after", 0)))
        else:
            good = reply(404)
        manner = self.manners.get(kind)
        if manner is not None:
            await manner(writer, good)
        else:
            writer.write(good)

    async def _snapshot(self, etag: str, wait: float) -> bytes:
        end = time.monotonic() + wait
        while etag == f'"{self.version}"':
            if time.monotonic() >= end:
                return reply(304, etag=etag)
            await asyncio.sleep(0.005)
        return reply(200, json.dumps(self._head).encode(), etag=f'"{self.version}"')

    def _page(self, digest: str) -> bytes:
        page = self._pages.get(digest)
        if page is None:
            return reply(404)
        self.pages_sent.append(digest)
        return reply(200, page)

    def _usage(self, body: bytes) -> bytes:
        batch = UsageBatch.model_validate_json(body)
        self.gateways.add(batch.gateway)
        stored = duplicates = 0
        for raw in batch.events:
            event = UsageEvent.model_validate(raw)
            duplicates += event.id in self.ledger
            stored += event.id not in self.ledger
            assert self.ledger.get(event.id, raw) == raw, "two events with one id"
            self.ledger[event.id] = raw
        self.duplicates += duplicates
        return reply(200, json.dumps({"stored": stored, "duplicates": duplicates, "quarantined": 0}).encode())

    def _spend(self, after: int) -> bytes:
        figures = [figure for cursor, figure in self._spent if cursor > after]
        document = Spend.model_validate({"cursor": max(after, self._cursor), "spent": figures})
        return reply(200, document.model_dump_json().encode())


# ---- bad manners ----


async def hang(writer: asyncio.StreamWriter, good: bytes) -> None:
    """Never answer."""
    await asyncio.sleep(3600)


async def drip(writer: asyncio.StreamWriter, good: bytes) -> None:
    """A byte each fifth of a second."""
    for i in range(len(good)):
        writer.write(good[i : i + 1])
        await asyncio.sleep(0.2)


async def cut(writer: asyncio.StreamWriter, good: bytes) -> None:
    """Half an answer, then the end."""
    writer.write(good[: len(good) - 20])
    await writer.drain()
    writer.transport.abort()


async def drop(writer: asyncio.StreamWriter, good: bytes) -> None:
    """The work is done, and nobody hears of it."""
    writer.transport.abort()


def answering(status: int, body: bytes = b"", **headers: str) -> Manner:
    """Always this."""

    async def manner(writer: asyncio.StreamWriter, good: bytes) -> None:
        writer.write(reply(status, body, **headers))

    return manner


async def endless(writer: asyncio.StreamWriter, good: bytes) -> None:
    """More bytes than anybody should take, without a length."""
    writer.write(b'HTTP/1.1 200 OK\r\netag: "x"\r\nconnection: close\r\n\r\n')
    block = b" " * 1_048_576
    for _ in range(64):
        writer.write(block)
        await writer.drain()
    writer.transport.abort()


async def altered(writer: asyncio.StreamWriter, good: bytes) -> None:
    """One letter of the body is another one."""
    head, _, body = good.partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n" + body.replace(b"name", b"nome", 1))


# ---- a gateway that runs from it ----

ENV = {"TEST_SERVICE_TOKEN": TOKEN}


def settings(control: Control, **more: Any) -> dict[str, Any]:
    """The configuration of a gateway that runs from this control; its environment is `ENV`."""
    return {"control": {"url": control.url, "token": "env:TEST_SERVICE_TOKEN"}, **more}


def changed(base: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """A changed copy of a configuration."""
    config = copy.deepcopy(base)
    change(config)
    return config
