"""Attempts and fallback: from an admitted request to the first content of an answer.

Which target comes next is `routing.plan`'s to say; here each attempt is sent, built from the client's original body,
and awaited to its commit point.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import quote

import orjson

from gateway.context import AttemptRecord, Call, Context
from gateway.errors import GatewayError, UpstreamFailure
from gateway.kept import missing
from gateway.protocols.base import Origin
from gateway.protocols.proofs import has_marks
from gateway.protocols.translation import Translation, no_way
from gateway.providers.auth import NotReady
from gateway.providers.base import Wire
from gateway.providers.splice import replace_model, rewrite
from gateway.routing.health import HealthBook
from gateway.routing.plan import Plan
from gateway.runtime import Endpoint, Route, Target
from gateway.server.exchange import Exchange
from gateway.server.upload import Upload
from gateway.streaming.reply import ClientGone, Reply, upload_broken
from gateway.upstream.client import Upstreams

Document = dict[str, Any]
INCLUDE_USAGE = b'"stream_options":{"include_usage":true},'


class Dispatcher:
    """What attempts need, shared by all requests of a worker."""

    __slots__ = ("_health", "_loop", "_upstreams")

    def __init__(self, upstreams: Upstreams, health: HealthBook, loop: asyncio.AbstractEventLoop) -> None:
        self._upstreams = upstreams
        self._health = health
        self._loop = loop

    async def dispatch(self, ctx: Context, exchange: Exchange) -> Reply:
        """A reply at its commit point. Raises the last UpstreamFailure, or ClientGone."""
        sticky = _sticky(ctx, exchange) if ctx.route.strategy == "sticky" else ""
        plan = Plan(ctx.runtime, ctx.route, self._health, sticky)
        while True:
            target = plan.next()
            if plan.pause:
                await self._sleep(exchange, plan.pause)
            began = time.monotonic()
            health = self._health[target.id]
            attempt = AttemptRecord(target, began, _encoded_model(ctx.call, target, plan.route))
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
        call, document, endpoint, operation = ctx.call, ctx.document, target.endpoint, ctx.operation.name
        heads = endpoint.stream_heads if call.stream else endpoint.heads
        accept = b"text/event-stream" if call.stream else ctx.operation.accept
        if operation in endpoint.wires and not _holds_marks(exchange.body, document, endpoint, operation):
            reply.wire = endpoint.wires[operation]
            body = _body(ctx, exchange, target, route, reply.wire)
        else:
            reply.translation = _translation(ctx, target)
            operation = reply.translation.target.operation
            body = _translated(reply.translation, upstream_model(call, target, route))
            if call.stream:
                accept = reply.translation.target.event_stream.encode()
        first = heads[operation]
        if endpoint.model_in_path:
            first = first.replace(b"{model}", quote(upstream_model(call, target, route), safe="").encode(), 1)
        if call.object:
            first = first.replace(b"{id}", quote(call.object, safe="").encode(), 1)
        if endpoint.auth is not None:
            first += _proof(endpoint, first, body)
        size = sum(map(len, body))
        extra = b""
        if not endpoint.forward_headers.isdisjoint(exchange.headers):
            for name in endpoint.forward_headers & exchange.headers.keys():
                extra += name + b": " + exchange.headers[name] + b"\r\n"
        upload = exchange.upload
        if upload is None:
            framing = b"content-length: %d\r\n" % size
        else:
            framing = _framing(exchange.headers, upload, upstream_model(call, target, route))
            upload.on_broken = reply.broken
            if upload.problem is not None:
                raise upload_broken(upload.problem)
        head = b"%baccept: %b\r\nx-request-id: %b\r\n%b%b\r\n" % (
            first,
            accept,
            ctx.request_id.encode(),
            extra,
            framing,
        )
        reply.call = self._upstreams.start(endpoint, operation, head, body, size, reply, target.timeouts, upload)

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


def upstream_model(call: Call, target: Target, route: Route) -> str:
    """The model's name at the target: its own, or for a wildcard what follows the route's prefix."""
    if target.model:
        return target.model
    prefix = route.prefix or ""
    return call.model[len(prefix) :] if call.model.startswith(prefix) else call.model


def _encoded_model(call: Call, target: Target, route: Route) -> bytes:
    return target.facts[1] if target.model else orjson.dumps(upstream_model(call, target, route))


def _holds_marks(body: bytes, document: Document | None, endpoint: Endpoint, operation: str) -> bool:
    """Whether a conversation holds proofs of thought that the gateway has marked. It began at a target of another
    dialect, and no vendor takes the marks: it is read and written like one of another dialect.
    """
    if endpoint.provider.dialect.operation != operation:
        return False
    return has_marks(body if document is None else orjson.dumps(document))


def _translation(ctx: Context, target: Target) -> Translation:
    """How the request and its answer change between the client's dialect and the target's. UpstreamFailure if there is
    no way: another target may have one.
    """
    call, provider, inbound = ctx.call, target.endpoint.provider, ctx.operation.dialect
    if inbound is None or not ctx.operation.translates:
        raise _refused(no_way(ctx.operation.name, target.endpoint.name))
    document = call.document if ctx.document is None else ctx.document
    if call.continues is not None and document.get("previous_response_id") is not None:
        raise missing(call.continues)
    request = inbound.read_request(document)
    request.stream, request.include_usage = call.stream, call.wants_usage
    origin = Origin(ctx.id, call.model, int(ctx.ts))
    return Translation(inbound, provider.dialect, request, origin, provider.usage)


def _proof(endpoint: Endpoint, head: bytes, body: list[bytes]) -> bytes:
    """The header lines that prove one request. UpstreamFailure if the credential has not come yet."""
    assert endpoint.auth is not None
    try:
        return endpoint.auth.lines(head.split(b" ", 2)[1], b"".join(body), time.time())
    except NotReady as exc:
        text = (
            f"The gateway has no valid credential for the endpoint {endpoint.name!r} at the moment; its log says why."
        )
        raise UpstreamFailure("provider_auth", text) from exc


def _translated(translation: Translation, model: str) -> list[bytes]:
    try:
        return [orjson.dumps(translation.outbound.write_request(translation.request, model))]
    except GatewayError as error:
        raise _refused(error) from error


def _refused(error: GatewayError) -> UpstreamFailure:
    failure = UpstreamFailure(error.code, error.message, blames_target=False, status=error.status)
    failure.param = error.param
    return failure


def _framing(headers: dict[bytes, bytes], upload: Upload, model: str) -> bytes:
    """The header lines of a form that is passed on while it arrives; the model's name is replaced in it."""
    size = upload.rename(model) if "model" in upload.form.spans else upload.size
    length = b"transfer-encoding: chunked\r\n" if size is None else b"content-length: %d\r\n" % size
    return b"content-type: %b\r\n%b" % (headers[b"content-type"], length)


def _body(ctx: Context, exchange: Exchange, target: Target, route: Route, wire: Wire) -> list[bytes]:
    """The request body in pieces: the client's bytes, the model's name replaced and usage asked for. Empty where the
    client's is passed on while it arrives.
    """
    call, original, document = ctx.call, exchange.body, ctx.document
    if ctx.operation.stored or ctx.operation.form is not None:
        return [original]
    if document is None and not call.stream:
        return replace_model(original, call.encoded_model, _encoded_model(call, target, route))
    model = upstream_model(call, target, route)
    wants = call.stream and not call.wants_usage and wire.include_usage
    options = call.document.get("stream_options")
    if document is not None:
        document = {**document, "model": model}
        if wants:
            document["stream_options"] = {**(options or {}), "include_usage": True}
        pieces = [orjson.dumps(document)]
    elif wants and "stream_options" in call.document:
        merged = orjson.dumps({**(options or {}), "include_usage": True})
        pieces = rewrite(original, {"stream_options": merged, "model": orjson.dumps(model)})
    else:
        old, new = call.encoded_model, _encoded_model(call, target, route)
        pieces = replace_model(original, old, new)
        if wants:
            brace = pieces[0].index(b"{") + 1
            pieces[:1] = [pieces[0][:brace], INCLUDE_USAGE, pieces[0][brace:]]
    return pieces


def _sticky(ctx: Context, exchange: Exchange) -> str:
    """What keeps the caller on one target, or nothing."""
    route = ctx.route
    if route.sticky_by == "session":
        return (exchange.headers.get(b"x-session-id", b"")).decode("latin-1")
    if route.sticky_by == "user":
        user = ctx.call.document.get("user")
        return user if isinstance(user, str) else ""
    return ctx.key.name
