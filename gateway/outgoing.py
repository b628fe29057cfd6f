"""The request that goes to a target: the client's own bytes where it speaks the client's dialect, else written anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson

from gateway.context import Call, Context
from gateway.contract.trace import Trace
from gateway.errors import GatewayError, UpstreamFailure
from gateway.kept import missing
from gateway.protocols.base import Inbound, Origin, Outbound
from gateway.protocols.proofs import has_marks
from gateway.protocols.tasks.base import Task, TaskIn
from gateway.protocols.translation import Translation, no_way
from gateway.providers.auth import NotReady
from gateway.providers.base import Wire
from gateway.providers.splice import replace_member, replace_model, rewrite
from gateway.runtime import Endpoint, Route, Target
from gateway.server.exchange import Exchange
from gateway.server.upload import Upload
from gateway.streaming.reply import Reply, upload_broken

Document = dict[str, Any]
Sent = tuple[str, bytes, list[bytes], int]
"""Operation at the provider, request line and headers, body in pieces, its size."""
INCLUDE_USAGE = b'"stream_options":{"include_usage":true},'


def written(ctx: Context, exchange: Exchange, target: Target, route: Route, reply: Reply) -> Sent | None:
    """What to send, with `reply` told how to read the answer; None if it was answered without the target. Raises
    UpstreamFailure where the target has no way to say it: another one may have.
    """
    call, endpoint = ctx.call, target.endpoint
    content = _content(ctx, exchange, target, route, reply)
    if content is None:
        return None
    operation, accept, body = content
    first = (endpoint.stream_heads if call.stream else endpoint.heads)[operation]
    if endpoint.model_in_path:
        first = first.replace(b"{model}", quote(upstream_model(call, target, route), safe="").encode(), 1)
    if call.object:
        first = first.replace(b"{id}", quote(call.object, safe="").encode(), 1)
    if call.query:
        sign = b"&" if b"?" in first.partition(b"\r\n")[0] else b"?"
        first = first.replace(b" HTTP/1.1\r\n", b"%b%b HTTP/1.1\r\n" % (sign, call.query), 1)
    if endpoint.auth is not None:
        first += _proof(endpoint, first, body)
    extra = b""
    if not endpoint.forward_headers.isdisjoint(exchange.headers):
        for name in endpoint.forward_headers & exchange.headers.keys():
            extra += name + b": " + exchange.headers[name] + b"\r\n"
    if (trace := ctx.attempts[-1].trace) is not None:
        extra = _traced(extra, trace)
    size = sum(map(len, body))
    if exchange.upload is None:
        framing = b"content-length: %d\r\n" % size
    else:
        framing = _framing(exchange.headers, exchange.upload, upstream_model(call, target, route), reply)
    request_id = ctx.request_id.encode()
    head = b"%baccept: %b\r\nx-request-id: %b\r\n%b%b\r\n" % (first, accept, request_id, extra, framing)
    return operation, head, body, size


def _traced(extra: bytes, trace: Trace) -> bytes:
    """The header lines with that of the attempt's span, in place of the client's own."""
    others = [line for line in extra.splitlines(keepends=True) if not line.startswith(b"traceparent:")]
    return b"".join([*others, b"traceparent: %b\r\n" % trace.header.encode()])


def _content(
    ctx: Context, exchange: Exchange, target: Target, route: Route, reply: Reply
) -> tuple[str, bytes, list[bytes]] | None:
    """(operation at the provider, media type to accept, body)."""
    call, endpoint, operation = ctx.call, target.endpoint, ctx.operation
    accept = b"text/event-stream" if call.stream else operation.accept
    name = operation.name
    as_it_came = ctx.consultation is None and name in endpoint.wires
    if as_it_came and not _holds_marks(call, exchange.body, ctx.document, endpoint, name):
        reply.wire = endpoint.wires[name]
        if ctx.guarded is None or not ctx.guarded.reads_answers or not operation.tells_text:
            return name, accept, _body(ctx, exchange, target, route, reply.wire)
        reply.translation = _read_anew(ctx, target)
        if reply.translation is not None:  # the request passes, and its answer is read
            return name, accept, _body(ctx, exchange, target, route, reply.wire)
    if operation.estimate is not None:
        reply.told(operation.estimate(call.document))
        return None
    model = upstream_model(call, target, route)
    if operation.task is not None:
        reply.task = task = _task(ctx, operation.task, endpoint)
        return task.target.operation, accept, _encoded(lambda: task.target.write(task.request, model))
    reply.translation = translation = _translation(ctx, target)
    if call.stream:
        accept = translation.target.event_stream.encode()
    asked = translation.request  # what the client's answer is told by; a search adds to what the model is told
    if ctx.consultation is not None:
        asked = ctx.consultation.continued(asked)
    body = _encoded(lambda: translation.outbound.write_request(asked, model))
    return translation.target.operation, accept, body


def upstream_model(call: Call, target: Target, route: Route) -> str:
    """The model's name at the target: its own, or for a wildcard what follows the route's prefix."""
    if target.model:
        return target.model
    prefix = route.prefix or ""
    return call.model[len(prefix) :] if call.model.startswith(prefix) else call.model


def encoded_model(call: Call, target: Target, route: Route) -> bytes:
    """The same as JSON."""
    return target.facts[1] if target.model else orjson.dumps(upstream_model(call, target, route))


def _holds_marks(call: Call, body: bytes, document: Document | None, endpoint: Endpoint, operation: str) -> bool:
    """Whether a conversation holds proofs of thought that the gateway has marked. It began at a target of another
    dialect, and no vendor takes the marks: it is read and written like one of another dialect.
    """
    if endpoint.dialect != operation or (document is None and not call.talked):
        return False
    return has_marks(body if document is None else orjson.dumps(document))


def _read_anew(ctx: Context, target: Target) -> Translation | None:
    """How an answer is read and written that the target tells in the client's own dialect; None where it is the
    target's second one: it is asked in its first one then.
    """
    inbound: Inbound | None = ctx.operation.text or ctx.operation.dialect
    outbound: Outbound | None = ctx.operation.text
    if outbound is None and target.endpoint.dialect == ctx.operation.name:
        outbound = target.endpoint.provider.dialect
    return None if inbound is None or outbound is None else _between(ctx, inbound, outbound, target)


def _between(ctx: Context, inbound: Inbound, outbound: Outbound, target: Target) -> Translation:
    request = inbound.read_request(_document(ctx))
    request.stream, request.include_usage = ctx.call.stream, ctx.call.wants_usage
    origin = Origin(ctx.id, ctx.call.model, int(ctx.ts))
    return Translation(inbound, outbound, request, origin, target.endpoint.provider.usage)


def _document(ctx: Context) -> Document:
    """The request after the route's steps."""
    return ctx.call.document if ctx.document is None else ctx.document


def _translation(ctx: Context, target: Target) -> Translation:
    """How the request and its answer change between the client's dialect and the target's. UpstreamFailure if there is
    no way: another target may have one.
    """
    call, provider, inbound = ctx.call, target.endpoint.provider, ctx.operation.dialect
    if inbound is None or not ctx.operation.translates:
        raise _refused(no_way(ctx.operation.name, target.endpoint.name))
    document = _document(ctx)
    if call.continues is not None and document.get("previous_response_id") is not None:
        raise missing(call.continues)
    return _between(ctx, inbound, provider.dialect, target)


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


def _task(ctx: Context, inbound: TaskIn, endpoint: Endpoint) -> Task:
    """As `_translation`, for what is no conversation."""
    target = endpoint.provider.tasks.get(inbound.task)
    if target is None:
        raise _refused(no_way(ctx.operation.name, endpoint.name))
    return Task(inbound, target, inbound.read(_document(ctx)), Origin(ctx.id, ctx.call.model, int(ctx.ts)))


def _encoded(write: Callable[[], Document]) -> list[bytes]:
    try:
        return [orjson.dumps(write())]
    except GatewayError as error:
        raise _refused(error) from error


def _refused(error: GatewayError) -> UpstreamFailure:
    failure = UpstreamFailure(error.code, error.message, blames_target=False, status=error.status)
    failure.param = error.param
    return failure


def _framing(headers: dict[bytes, bytes], upload: Upload, model: str, reply: Reply) -> bytes:
    """The header lines of a form that is passed on while it arrives; the model's name is replaced in it."""
    upload.on_broken = reply.broken
    if upload.problem is not None:
        raise upload_broken(upload.problem)
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
    if wire.instead_of_model is not None:
        if document is None:
            return replace_member(original, "model", wire.instead_of_model)
        rest = {name: value for name, value in document.items() if name != "model"}
        return replace_member(orjson.dumps({"model": "", **rest}), "model", wire.instead_of_model)
    if document is None and not call.stream:
        return replace_model(original, call.encoded_model, ctx.attempts[-1].model)
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
        pieces = replace_model(original, call.encoded_model, ctx.attempts[-1].model)
        if wants:
            brace = pieces[0].index(b"{") + 1
            pieces[:1] = [pieces[0][:brace], INCLUDE_USAGE, pieces[0][brace:]]
    return pieces
