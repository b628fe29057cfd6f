"""Questions of guards to a route with a moderations API: each a request like any other from its dispatch on, settled
as usage of the key whose texts they are about.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from gateway.context import Context, Operation, new_id
from gateway.contract.guard import Moderation
from gateway.copies.recording import Nobody, Recording
from gateway.dispatch import Dispatcher
from gateway.errors import GatewayError
from gateway.limits.memory import Held
from gateway.runtime import Route
from gateway.server.running import Running
from gateway.settle import Admission, settle, verdict
from gateway.steps.guard import CheckFailed
from gateway.streaming.reply import Reply
from gateway.telemetry.hooks import Telemetry
from gateway.usage import meter
from gateway.usage.spool import Spool

ANSWER_BYTES = 8_388_608
"""Most of an answer."""


class RouteModerator:
    """See `gateway.steps.guard.Moderator`. `operation` is that of the moderations API."""

    def __init__(self, dispatcher: Dispatcher, spool: Spool, telemetry: Telemetry, operation: Operation) -> None:
        self._dispatcher = dispatcher
        self._spool = spool
        self._telemetry = telemetry
        self._operation = operation
        self._running: set[Any] = set()

    async def harmful(self, ctx: Context, spec: Moderation, texts: list[str]) -> bool:
        """See `Moderator`."""
        route = ctx.runtime.routes.get(spec.route)
        if route is None:
            raise CheckFailed(f"there is no route {spec.route!r}")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        question = self._question(ctx, route, texts)
        running = Running(self._ask(question, answer), self._running)
        timer = loop.call_later(spec.timeout, running.cancel)
        try:
            running.step()
            return flagged(await answer, spec.threshold)
        except asyncio.CancelledError:
            if not answer.cancelled():
                raise
            raise CheckFailed(f"did not answer within {spec.timeout:g} s") from None
        finally:
            timer.cancel()
            if not answer.done():
                running.cancel()

    def _question(self, ctx: Context, route: Route, texts: list[str]) -> Context:
        call = self._operation.parse(orjson.dumps({"model": route.name, "input": texts}))
        question = Context(
            self._operation, ctx.runtime, ctx.key, call, route, new_id(), ctx.request_id, time.monotonic(), time.time()
        )
        question.trace = ctx.trace.child() if ctx.trace is not None else None
        question.document = call.document
        question.facts = meter.facts(question)
        return question

    async def _ask(self, ctx: Context, answer: asyncio.Future[bytes]) -> None:
        """Never raises: what becomes of it is `answer`, cancelled if there is none in time."""
        reply: Reply | None = None
        try:
            admission = Admission(Held((), 0, 0), self._spool.open(ctx.facts))
        except GatewayError as error:
            answer.set_exception(CheckFailed(error.code))
            return
        self._telemetry.in_flight += 1
        told: bytes | CheckFailed | None = None
        recording = Recording(ANSWER_BYTES)
        try:
            reply = await self._dispatcher.dispatch(ctx, Nobody(self._operation, {}, b"", recording))
            ctx.first_content, ctx.status = reply.content_at, reply.status
            if not reply.whole:
                reply.commit(b"")
                await reply.finished()
            told = reply.body if reply.whole else b"".join([*recording.pieces, reply.last])
            ctx.end, ctx.error = verdict(ctx, reply)
        except GatewayError as error:
            told = CheckFailed(error.code)
            ctx.end, ctx.status, ctx.error = "upstream_error", error.status, error.code
        except asyncio.CancelledError:
            ctx.end, ctx.error = "stopped", "provider_timeout"
        finally:
            settle(self._spool, self._telemetry, ctx, admission)
            if reply is not None:
                reply.close()
        if answer.done():
            return
        if told is None:
            answer.cancel()
        elif isinstance(told, CheckFailed):
            answer.set_exception(told)
        else:
            answer.set_result(told)


def flagged(body: bytes, threshold: float | None) -> bool:
    """Whether an answer says that one of the texts is harmful. Raises CheckFailed: it says nothing of the kind."""
    try:
        results = orjson.loads(body)["results"]
        if not results:
            raise ValueError("no results")
        if threshold is None:
            return any(_flag(one["flagged"]) for one in results)
        return any(float(score) >= threshold for one in results for score in one["category_scores"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckFailed("answered with something that is no moderation") from exc


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value
