"""Attempts and fallback: from an admitted request to the first content of an answer.

Which target comes next is `routing.plan`'s to say; here each attempt is sent, built from the client's original body,
and awaited to its commit point.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from gateway.context import AttemptRecord, Context
from gateway.errors import UpstreamFailure
from gateway.outgoing import encoded_model, written
from gateway.routing.health import HealthBook
from gateway.routing.plan import Plan
from gateway.runtime import Route, Target
from gateway.server.exchange import Exchange
from gateway.streaming.reply import ClientGone, Reply
from gateway.upstream.client import Upstreams


class Dispatcher:
    """What attempts need, shared by all requests of a worker."""

    __slots__ = ("_health", "_loop", "_upstreams")

    def __init__(self, upstreams: Upstreams, health: HealthBook, loop: asyncio.AbstractEventLoop) -> None:
        self._upstreams = upstreams
        self._health = health
        self._loop = loop

    async def dispatch(self, ctx: Context, exchange: Exchange) -> Reply:
        """A reply at its commit point. Raises the last UpstreamFailure, or ClientGone."""
        plan = Plan(ctx.runtime, ctx.route, self._health, partial(_sticky, ctx, exchange))
        while True:
            target = plan.next()
            if plan.pause:
                await self._sleep(exchange, plan.pause)
            began = time.monotonic()
            health = self._health[target.id]
            attempt = AttemptRecord(target, began, encoded_model(ctx.call, target, plan.route))
            attempt.trace = ctx.trace.child() if ctx.trace is not None else None
            ctx.attempts.append(attempt)
            ctx.target = target
            reply = Reply(ctx, exchange, target, health, began, self._loop)
            try:
                self._send(ctx, exchange, target, plan.route, reply)
                await reply.first
                health.responded(reply.content_at, reply.content_at - began)
                return reply
            except UpstreamFailure as failure:
                attempt.error = failure.code
                if exchange.upload is not None and exchange.upload.spent:
                    failure.retriable = False
                reply.close()
                if failure.blames_target:
                    health.failed(time.monotonic(), plan.route.breaker, failure.code)
                plan.failed(target, failure)
            except BaseException:
                reply.close()
                raise
            finally:
                waited = (reply.content_at or time.monotonic()) - began
                attempt.status, attempt.ms = reply.status, waited * 1000.0
                ctx.upstream_seconds += waited

    def _send(self, ctx: Context, exchange: Exchange, target: Target, route: Route, reply: Reply) -> None:
        if exchange.gone:
            raise ClientGone
        exchange.on_gone = reply.gone
        sent = written(ctx, exchange, target, route, reply)
        if sent is not None:
            operation, head, body, size = sent
            endpoint, timeouts, upload = target.endpoint, target.timeouts, exchange.upload
            reply.call = self._upstreams.start(endpoint, operation, head, body, size, reply, timeouts, upload)

    async def _sleep(self, exchange: Exchange, seconds: float) -> None:
        """Pause between rounds; ClientGone as soon as the client leaves."""
        waiting = self._loop.create_future()

        def wake() -> None:
            if not waiting.done():
                waiting.set_result(None)

        exchange.on_gone = wake
        timer = self._loop.call_later(seconds, wake)
        try:
            await waiting
        finally:
            timer.cancel()
        if exchange.gone:
            raise ClientGone


def _sticky(ctx: Context, exchange: Exchange, route: Route) -> str:
    """What keeps the caller on one target of a route, or nothing."""
    if route.sticky_by == "session":
        return (exchange.headers.get(b"x-session-id", b"")).decode("latin-1")
    if route.sticky_by == "user":
        user = ctx.call.document.get("user")
        return user if isinstance(user, str) else ""
    return ctx.key.name
