"""Attempts and fallback: from an admitted request to the first content of an answer.

Targets of the route are tried by its strategy, each at most once a round; between rounds there is a pause. When the
route has no attempt left, its fallback route takes over. Every attempt is built from the client's original body.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import orjson

from gateway.context import AttemptRecord, Call, Context
from gateway.errors import GatewayError, UpstreamFailure
from gateway.providers.splice import rewrite
from gateway.routing.balancer import choose
from gateway.routing.health import HealthBook
from gateway.routing.retry import pause
from gateway.runtime import Route, Target
from gateway.server.exchange import Exchange
from gateway.streaming.reply import ClientGone, Reply
from gateway.upstream.client import Upstreams

INCLUDE_USAGE = b'"stream_options":{"include_usage":true},'


@dataclass(slots=True)
class Dispatcher:
    """What attempts need, shared by all requests of a worker."""

    upstreams: Upstreams
    health: HealthBook

    async def dispatch(self, ctx: Context, exchange: Exchange, document: dict[str, object] | None) -> Reply:
        """A reply at its commit point. Raises the last UpstreamFailure, or ClientGone.

        `document` is the request after steps, or None to send the client's own bytes.
        """
        route: Route | None = ctx.route
        failure: GatewayError | None = None
        while route is not None:
            try:
                return await self._try_route(ctx, exchange, route, document)
            except UpstreamFailure as exc:
                failure = exc
                if not exc.retriable:
                    break
            route = ctx.runtime.routes.get(route.fallback) if route.fallback else None
        assert failure is not None
        raise failure

    async def _try_route(
        self, ctx: Context, exchange: Exchange, route: Route, document: dict[str, object] | None
    ) -> Reply:
        sticky = _sticky(ctx, exchange, route)
        tried: set[str] = set()
        spent: set[str] = set()
        """Targets that asked for more patience than the route has."""
        failure: UpstreamFailure | None = None
        for number in range(1, route.retry.max_attempts + 1):
            target = choose(route, self.health, tried | spent, time.monotonic(), sticky)
            if target is None and tried:
                await _sleep(exchange, pause(route.retry, number - 1, failure.retry_after if failure else None) or 0.0)
                tried.clear()
                target = choose(route, self.health, spent, time.monotonic(), sticky)
            if target is None:
                break
            try:
                return await self._attempt(ctx, exchange, target, route, document)
            except UpstreamFailure as exc:
                failure = exc
                if not exc.retriable:
                    raise
                tried.add(target.id)
                if exc.retry_after is not None and exc.retry_after > route.retry.max_retry_after:
                    spent.add(target.id)
        raise failure or _nobody(route)

    async def _attempt(
        self, ctx: Context, exchange: Exchange, target: Target, route: Route, document: dict[str, object] | None
    ) -> Reply:
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        health = self.health.of(target.id)
        record = AttemptRecord(target, began)
        ctx.attempts.append(record)
        ctx.target = target
        reply = Reply(ctx, exchange, target, health, loop)
        try:
            self._send(ctx, exchange, target, route, document, reply)
            await reply.first
        except BaseException as exc:
            reply.close()
            if isinstance(exc, UpstreamFailure) and exc.blames_target:
                health.failed(time.monotonic(), route.breaker)
            if isinstance(exc, UpstreamFailure):
                record.error = exc.code
            raise
        finally:
            ended = reply.content_at or time.monotonic()
            record.status = reply.status
            record.ms = round((ended - began) * 1000.0, 3)
            ctx.upstream_seconds += ended - began
        health.responded(reply.content_at, reply.content_at - began)
        return reply

    def _send(
        self, ctx: Context, exchange: Exchange, target: Target, route: Route,
        document: dict[str, object] | None, reply: Reply,
    ) -> None:  # fmt: skip
        if exchange.gone:
            raise ClientGone
        exchange.on_gone = reply.gone
        call, endpoint = ctx.call, target.endpoint
        body = _body(call, exchange.body, target, route, document)
        lines = endpoint.heads[ctx.operation.name]
        extra = b"".join(
            name + b": " + value + b"\r\n" for name, value in exchange.headers if name in endpoint.forward_headers
        )
        head = b"%bcontent-type: application/json\r\naccept: %b\r\nx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n" % (
            lines,
            b"text/event-stream" if call.stream else b"application/json",
            ctx.request_id.encode(),
            extra,
            sum(map(len, body)),
        )
        reply.call = self.upstreams.start(endpoint, ctx.operation.name, head, body, reply, target.timeouts)


def upstream_model(call: Call, target: Target, route: Route) -> str:
    """The model's name at the target: its own, or for a wildcard what follows the route's prefix."""
    if target.model:
        return target.model
    prefix = route.prefix or ""
    return call.model[len(prefix) :] if call.model.startswith(prefix) else call.model


def _body(call: Call, original: bytes, target: Target, route: Route, document: dict[str, object] | None) -> list[bytes]:
    """The request body in pieces: the client's bytes with the model's name replaced and usage asked for."""
    model = upstream_model(call, target, route)
    wants = call.stream and not call.wants_usage and target.endpoint.provider.include_usage
    options = call.document.get("stream_options")
    if document is not None:
        document = {**document, "model": model}
        if wants:
            document["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        return [orjson.dumps(document)]
    replace = {} if model == call.model else {"model": orjson.dumps(model)}
    if not wants:
        return rewrite(original, replace)
    if "stream_options" not in call.document:
        return rewrite(original, replace, INCLUDE_USAGE)
    merged = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return rewrite(original, {**replace, "stream_options": orjson.dumps(merged)})


def _sticky(ctx: Context, exchange: Exchange, route: Route) -> str:
    if route.strategy != "sticky":
        return ""
    if route.sticky_by == "session":
        return (exchange.header(b"x-session-id") or b"").decode("latin-1")
    if route.sticky_by == "user":
        user = ctx.call.document.get("user")
        return user if isinstance(user, str) else ""
    return ctx.key.name


async def _sleep(exchange: Exchange, seconds: float) -> None:
    """Pause between rounds; ClientGone as soon as the client leaves."""
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    exchange.on_gone = wake
    timer = loop.call_later(seconds, wake)
    try:
        await waiting
    finally:
        timer.cancel()
    if exchange.gone:
        raise ClientGone


def _nobody(route: Route) -> UpstreamFailure:
    text = f"Every target of the model {route.name!r} is resting after repeated failures. Try again in a few seconds."
    return UpstreamFailure(
        "provider_unreachable", text, blames_target=False, status=503, headers=((b"retry-after", b"5"),)
    )
