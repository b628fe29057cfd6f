"""Which questions mean the same: their embeddings, by a route of the same gateway."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from gateway.cache.key import CONVERSATIONS, IGNORED, common, partition
from gateway.cache.memory import Question, Vector, vector
from gateway.context import Context, Operation, new_id
from gateway.copies.inner import Inner
from gateway.copies.recording import Nobody, Recording
from gateway.errors import GatewayError
from gateway.protocols.canonical import Message, Text
from gateway.runtime import CacheRule
from gateway.server.exchange import Exchange
from gateway.streaming.reply import Reply
from gateway.usage import meter

LONGEST = 2000
"""Characters of a question. Of a longer text models embed the beginning only, which two may share."""
EMBEDDING_BYTES = 1_048_576


class Asked:
    """A question whose vector is on its way."""

    __slots__ = ("_found", "_partition")

    def __init__(self, partition: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._partition = partition
        self._found: asyncio.Future[Vector | None] = loop.create_future()

    def come(self, found: Vector | None) -> None:
        """The embedding has ended, with a vector or without."""
        if not self._found.done():
            self._found.set_result(found)

    @property
    def question(self) -> Question | None:
        """What to compare, if the vector is there by now."""
        found = self._found.result() if self._found.done() else None
        return Question(self._partition, found) if found is not None else None

    async def within(self, seconds: float) -> Question | None:
        """The same, waiting for it. Not only for tasks."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def wake(_: object = None) -> None:
            if not over.done():
                over.set_result(None)

        timer = loop.call_later(seconds, wake)
        self._found.add_done_callback(wake)
        try:
            await over
        finally:
            timer.cancel()
            self._found.remove_done_callback(wake)
        return self.question


class Embedder:
    """One worker's. `operation` is that of embeddings."""

    def __init__(self, inner: Inner, operation: Operation) -> None:
        self._inner = inner
        self._operation = operation

    def ask(self, ctx: Context, client: Exchange, rule: CacheRule) -> Asked | None:
        """Send a request's question to be embedded; None if it is not one that is compared by its meaning."""
        spec = rule.spec.semantic
        told = _told(ctx) if spec is not None else None
        if spec is None or told is None:
            return None
        text, rest = told
        asked = Asked(partition(common(ctx, rule, client.headers), rest), asyncio.get_running_loop())
        body = orjson.dumps({"model": spec.route, "input": text})
        route = ctx.runtime.routes[spec.route]
        own = Context(
            self._operation, ctx.runtime, ctx.key, self._operation.parse(body), route, new_id(), ctx.request_id,
            time.monotonic(), time.time(),
        )  # fmt: skip
        own.trace = ctx.trace.child() if ctx.trace is not None else None
        own.facts = meter.facts(own)
        try:
            self._inner.admit(own)
        except GatewayError:  # the spool is full: the request itself had the last room
            return None
        answer = Recording(EMBEDDING_BYTES)
        nobody = Nobody(self._operation, {}, body, answer)
        self._inner.start(own, nobody, answer, partial(_ended, asked, answer))
        return asked


def _ended(asked: Asked, answer: Recording, reply: Reply | None, failure: GatewayError | None) -> None:
    asked.come(_vector(b"".join(answer.pieces)) if failure is None and not answer.cut else None)


def _vector(body: bytes) -> Vector | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    data = document.get("data") if isinstance(document, dict) else None
    first = data[0] if isinstance(data, list) and data else None
    return vector(first.get("embedding")) if isinstance(first, dict) else None


def _told(ctx: Context) -> tuple[str, bytes] | None:
    """(the question, all else of the request); None if it is more than one question in plain text, or if a step has
    changed the question itself: what it hides from the model is hidden from a comparison, too.
    """
    told = _question(ctx, ctx.call.document)
    if told is None or ctx.document is None:
        return told
    made = _question(ctx, ctx.document)
    return made if made is not None and made[0] == told[0] else None


def _question(ctx: Context, document: dict[str, Any]) -> tuple[str, bytes] | None:
    dialect = CONVERSATIONS.get(ctx.operation.name)
    if dialect is None:
        return None
    try:
        request = dialect.read_request({name: value for name, value in document.items() if name not in IGNORED})
    except GatewayError:
        return None
    spoken = [message for message in request.messages if message.role != "system"]
    if len(spoken) != 1 or spoken[0].role != "user" or (request.n or 1) != 1:
        return None
    text = spoken[0].text().strip()
    if not all(isinstance(block, Text) for block in spoken[0].blocks) or not 0 < len(text) <= LONGEST:
        return None
    others = [Message("user", []) if message is spoken[0] else message for message in request.messages]
    try:
        return text, orjson.dumps(replace(request, messages=others), default=_plain, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested too deeply
        return None


def _plain(value: Any) -> Any:
    return list(value)  # a NamedTuple
