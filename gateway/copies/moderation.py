"""Questions of guards to a route with a moderations API: each a request of the gateway's own, settled as usage of the
key whose texts they are about.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

import orjson

from gateway.context import Context, Operation, new_id
from gateway.contract.guard import Moderation
from gateway.copies.inner import Inner
from gateway.copies.recording import Nobody, Recording
from gateway.errors import GatewayError
from gateway.runtime import Route
from gateway.steps.guard import CheckFailed
from gateway.streaming.reply import Reply
from gateway.usage import meter

ANSWER_BYTES = 8_388_608
"""Most of an answer."""
Told = asyncio.Future[bytes]


class RouteModerator:
    """See `gateway.steps.guard.Moderator`. `operation` is that of the moderations API."""

    def __init__(self, inner: Inner, operation: Operation) -> None:
        self._inner = inner
        self._operation = operation

    async def harmful(self, ctx: Context, spec: Moderation, texts: list[str]) -> bool:
        """See `Moderator`."""
        route = ctx.runtime.routes.get(spec.route)
        if route is None:
            raise CheckFailed(f"there is no route {spec.route!r}")
        question = self._question(ctx, route, texts)
        try:
            self._inner.admit(question)
        except GatewayError as error:
            raise CheckFailed(error.code) from error
        loop = asyncio.get_running_loop()
        told: Told = loop.create_future()
        recording = Recording(ANSWER_BYTES)
        nobody = Nobody(self._operation, {}, b"", recording)
        stop = self._inner.start(question, nobody, recording, partial(_ended, told, recording))
        timer = loop.call_later(spec.timeout, _late, told, spec.timeout)
        try:
            return flagged(await told, spec.threshold, len(texts))
        finally:
            timer.cancel()
            told.cancel()
            stop()

    def _question(self, ctx: Context, route: Route, texts: list[str]) -> Context:
        call = self._operation.parse(orjson.dumps({"model": route.name, "input": texts}))
        question = Context(
            self._operation, ctx.runtime, ctx.key, call, route, new_id(), ctx.request_id, time.monotonic(), time.time()
        )
        question.trace = ctx.trace.child() if ctx.trace is not None else None
        question.document = call.document
        question.facts = meter.facts(question)
        return question


def _ended(told: Told, recording: Recording, reply: Reply | None, failure: GatewayError | None) -> None:
    if told.done():
        return
    if failure is not None or reply is None or recording.cut:
        told.set_exception(CheckFailed(failure.code if failure is not None else "gave no whole answer"))
    else:
        told.set_result(b"".join(recording.pieces))


def _late(told: Told, seconds: float) -> None:
    if not told.done():
        told.set_exception(CheckFailed(f"did not answer within {seconds:g} s"))


def flagged(body: bytes, threshold: float | None, asked: int) -> bool:
    """Whether an answer says that one of so many texts is harmful. Raises CheckFailed: it does not tell of each."""
    try:
        results = orjson.loads(body)["results"]
        if len(results) != asked:
            raise ValueError("another number of results")
        if threshold is None:
            return any(_flag(one["flagged"]) for one in results)
        scores = [max(map(_score, one["category_scores"].values())) for one in results]
        return any(score >= threshold for score in scores)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckFailed("answered with something that is no moderation of each text") from exc


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _score(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return float(value)
