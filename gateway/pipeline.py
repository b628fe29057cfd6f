"""The way of a request: read `Pipeline.handle` from top to bottom."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.auth import authenticate, credential
from gateway.cache.answers import Answers, Caching
from gateway.context import Call, Context, Operation, new_id, own_id
from gateway.copies.watch import Watch
from gateway.dispatch import Dispatcher
from gateway.errors import GatewayError
from gateway.kept import Kept
from gateway.limits.base import Limiter, Reservation, Short
from gateway.routing.places import Places
from gateway.routing.resolver import resolve
from gateway.runtime import KeyRecord, Route, Runtime
from gateway.same_head import Credential
from gateway.server.exchange import Exchange
from gateway.server.upload import Upload
from gateway.settle import settle, verdict
from gateway.snapshot.holder import Holder
from gateway.steps.base import Steps
from gateway.steps.history import keep
from gateway.streaming import citations
from gateway.streaming.reply import OPENING, ClientGone, Reply
from gateway.telemetry.hooks import Telemetry
from gateway.usage import meter
from gateway.usage.spool import Spool

log = logging.getLogger("gateway.pipeline")

_JSON_TYPE = b"application/json"
_JSON = b"content-type: application/json\r\n"


@dataclass(slots=True)
class Pipeline:
    """The parts that every request passes."""

    holder: Holder
    limiter: Limiter
    spool: Spool
    dispatcher: Dispatcher
    telemetry: Telemetry
    answers: Answers
    kept: Kept
    steps: Steps
    places: Places

    async def handle(self, exchange: Exchange) -> None:
        """Serve one inference request, from its arrival to its usage event."""
        started, ts, request_id = time.monotonic(), time.time(), own_id(exchange.headers.get(b"x-request-id"))
        try:
            runtime = self.holder.current  # pinned: this request sees no other configuration
            key = authenticate(runtime, _credential(exchange), exchange.peer, ts)
            if exchange.upload is None and not exchange.operation.stored:
                call = _arrived(exchange)
                route = resolve(runtime, key, call.model)
            else:
                call, route = await self._placed(exchange, runtime, key)
                started = time.monotonic()  # how long a form takes to arrive is its client's affair
            identity = new_id()
            ctx = Context(exchange.operation, runtime, key, call, route, identity, request_id or identity, started, ts)
            try:
                self._admit(ctx, exchange.headers)
            except Short as short:
                self._admit(ctx, exchange.headers, await short.granted)
        except Exception as exc:  # noqa: BLE001  (a bug is logged and answered: the client must not hang)
            self._reject(exchange, exc, request_id or new_id())
            return
        reply: Reply | None = None
        failure: GatewayError | None = None
        watch: Watch | Caching | None = None
        try:
            if route.has_steps or route.watched is not None or call.continues is not None:
                watch = await self._prepared(ctx, exchange)
            if watch is None or (reply := watch.found) is None:
                reply = await self.dispatcher.dispatch(ctx, exchange)  # attempts and fallback, to first content
            if watch is not None or ctx.consultation is not None or ctx.guarded is not None:
                reply = await self._answering(ctx, exchange, reply, watch)
            ctx.first_content, ctx.status = reply.content_at, reply.status
            if not reply.whole:
                reply.commit(_lines(ctx))  # from here on nothing is retried
                await reply.finished()  # relay
                if ctx.consultation is not None:
                    reply = await self._consulted(ctx, exchange, reply)
            ctx.end, ctx.error = verdict(ctx, reply)
        except asyncio.CancelledError:
            _stopped(ctx, reply)
            raise
        except Exception as exc:  # noqa: BLE001  (as above)
            failure = _cut_short(ctx, reply, exc)
        finally:
            # No await below: settling cannot be cancelled, and happens exactly once on every way out. The last bytes
            # follow it, so whoever has read a whole answer has a request that is in the ledger.
            settle(self.spool, self.telemetry, ctx)
            self._finish(ctx, exchange, reply, failure)
            _over(exchange, watch, reply, failure)

    async def _placed(self, exchange: Exchange, runtime: Runtime, key: KeyRecord) -> tuple[Call, Route]:
        """Call and route of a form, or of what an endpoint keeps; GatewayError as below."""
        call = _arrived(exchange) if exchange.upload is None else await _arriving(exchange, exchange.upload)
        if not exchange.operation.stored:
            return call, resolve(runtime, key, call.model)
        return call, await self.places.find(runtime, key, exchange.operation, call, exchange.headers)

    async def _prepared(self, ctx: Context, exchange: Exchange) -> Watch | Caching | None:
        """Run the route's steps, look for an answer that is there, and begin what is done beside the request."""
        if ctx.route.has_steps or ctx.call.continues is not None:
            ctx.document = await self.steps.run(ctx, exchange.body)
        if ctx.route.watched is None or not ctx.operation.copied:
            return None
        return await self.answers.begin(ctx, exchange, ctx.route.watched)

    async def _answering(self, ctx: Context, exchange: Exchange, reply: Reply, watch: Watch | Caching | None) -> Reply:
        """The reply that is the client's, at its commit point."""
        if ctx.consultation is not None:
            reply = await self._consulted(ctx, exchange, reply)
        if ctx.guarded is not None:
            await self.steps.answered(ctx, reply)
        if watch is not None:
            watch.answering(reply)
        return reply

    async def _consulted(self, ctx: Context, exchange: Exchange, reply: Reply) -> Reply:
        """Answer what the model asks the knowledge bases, and ask it again: until an answer is the client's, and in a
        stream that the client gets already, to its end.
        """
        consultation, first = ctx.consultation, reply
        assert consultation is not None
        try:
            while consultation.asked and (reply.committed or consultation.writer is None) and not reply.client_left:
                reply.succeeded()
                ctx.first_content = ctx.first_content or reply.content_at  # from here on this answer is charged
                await self.steps.consulted(ctx, reply.target)
                if reply.client_left:
                    raise ClientGone
                ctx.usage = None
                earlier, reply = reply, await self.dispatcher.dispatch(ctx, exchange)
                reply.follow(earlier)
                if reply.committed:
                    await reply.finished()
        except BaseException:
            if reply is not first:  # nobody else knows it
                reply.done()
                reply.close()
            raise
        return reply

    def _admit(self, ctx: Context, headers: Mapping[bytes, bytes], reservation: Reservation | None = None) -> None:
        """Reserve quota in all scopes, unless that is done, then open the usage record: both, or neither."""
        if reservation is None:
            ctx.trace = self.telemetry.traced(headers)
        key, call, route = ctx.key, ctx.call, ctx.route
        cost = 0
        if key.has_budget:
            cost = route.tiers[0][0].prices.estimate(call.prompt_estimate, call.output_estimate)
        tokens = call.prompt_estimate + call.output_estimate
        least = tokens if call.bounded else call.prompt_estimate
        if reservation is None:
            reservation = self.limiter.reserve(key, route, tokens, least, cost)
        try:
            ctx.facts = meter.facts(ctx)
            ctx.segment = self.spool.open(ctx.facts)
        except BaseException:
            reservation.settle(0, 0)
            raise
        ctx.reservation = reservation
        self.telemetry.in_flight += 1

    def _finish(self, ctx: Context, exchange: Exchange, reply: Reply | None, failure: GatewayError | None) -> None:
        """Send what remains: the whole answer, the last events of a stream, or the error."""
        if reply is not None:
            self._keep(ctx, reply)
        if reply is None or not exchange.started:
            if failure is None and ctx.end == "stopped":
                failure = _stopping()
            if failure is not None:
                exchange.respond(
                    failure.status,
                    _lines(ctx) + _error_lines(failure, ctx.operation),
                    ctx.operation.error(failure),
                )
            elif reply is not None and reply.whole:
                body = citations.in_body(ctx, reply.body) if citations.wanted(ctx) else reply.body
                exchange.respond(reply.status, _lines(ctx) + reply.passed_lines, body)
        elif reply.is_event_stream:
            told = reply.failure_told or ctx.end not in ("upstream_error_partial", "blocked")
            error = b"" if told or reply.failure is None else ctx.operation.error_event(reply.failure)
            if ctx.end == "stopped":
                error = ctx.operation.error_event(_stopping())
            last = citations.in_stream(ctx, reply.last) if citations.wanted(ctx) else reply.last
            exchange.finish(last + error)
        elif ctx.end == "success":
            exchange.finish()
        else:
            exchange.abort()
        if reply is not None:
            reply.close()

    def _keep(self, ctx: Context, reply: Reply) -> None:
        """Keep an answer for later turns, or note who has it; before the client knows its id."""
        if ctx.call.kept and reply.translation is None and self.kept.keeps:
            self.places.learn_response(ctx, reply.body[:OPENING] if reply.whole else reply.opening)
        elif ctx.call.kept and ctx.end == "success":
            keep(self.kept, ctx, reply)
        elif ctx.operation.stored and ctx.end == "success" and reply.whole:
            self.places.learn(ctx, reply.body)

    def _reject(self, exchange: Exchange, exc: Exception, request_id: str) -> None:
        error = exc if isinstance(exc, GatewayError) else _bug(request_id)
        lines = b"x-request-id: %b\r\n" % request_id.encode()
        exchange.respond(error.status, lines + _error_lines(error, exchange.operation), exchange.operation.error(error))
        self.telemetry.rejected(error, request_id, exchange.peer)
        if exchange.upload is not None:
            exchange.upload.close()


def _bug(request_id: str) -> GatewayError:
    """What a client is told when we are to blame; the log has the rest. Call it while the exception is handled."""
    log.exception("request.bug", extra={"data": {"request_id": request_id}})
    return GatewayError("tunegate_bug", "The gateway made a mistake. Its log tells more under this request id.")


def _cut_short(ctx: Context, reply: Reply | None, exc: Exception) -> GatewayError | None:
    """Note how an exception has ended a request; what to tell its client, if it is still there."""
    begun = reply if reply is not None and reply.committed else None  # the client has a part of the answer
    if isinstance(exc, ClientGone):
        ctx.end = "client_gone" if begun is None else "client_gone_partial"
        return None
    failure = exc if isinstance(exc, GatewayError) else _bug(ctx.request_id)
    guarded = failure.code in ("policy_guard", "tunegate_guard")
    ctx.end, ctx.status, ctx.error = "blocked" if guarded else "upstream_error", failure.status, failure.code
    if begun is not None:
        ctx.end, ctx.status, begun.failure = "upstream_error_partial", begun.status, failure
    return failure


def _stopped(ctx: Context, reply: Reply | None) -> None:
    """The gateway stops, and does not wait for this request."""
    ctx.end, ctx.status, ctx.error = "stopped", ctx.status or 503, "tunegate_stopping"
    if reply is not None:
        reply.done()


def _stopping() -> GatewayError:
    return GatewayError("tunegate_stopping", "The gateway is stopping. Send the request again.")


def _credential(exchange: Exchange) -> Credential:
    """What the caller proves itself by; read and hashed once for all requests that have the same head."""
    head = exchange.head
    if head is None:
        return credential(exchange.operation.credential(exchange.headers))
    if head.credential is None:
        head.credential = credential(exchange.operation.credential(exchange.headers))
    return head.credential


def _over(exchange: Exchange, watch: Watch | Caching | None, reply: Reply | None, failure: GatewayError | None) -> None:
    """The client has been told: let go of what stood beside its request."""
    if watch is not None:
        watch.ended(reply, failure)
    if exchange.upload is not None:
        exchange.upload.close()


def _arrived(exchange: Exchange) -> Call:
    """What must be known of a request that is whole."""
    _check_content_type(exchange.headers.get(b"content-type", _JSON_TYPE))
    return exchange.operation.parse(exchange.body)


async def _arriving(exchange: Exchange, upload: Upload) -> Call:
    """What must be known of a form, as soon as it is. GatewayError: it is no form, too large, or its client left."""
    operation = exchange.operation
    assert operation.form is not None
    if operation.stored:
        upload.need_no_model()
    exchange.on_gone = upload.left
    await upload.known
    exchange.on_gone = None
    if upload.problem is not None:
        raise upload.problem
    return operation.form(upload.form.fields)


def _check_content_type(value: bytes) -> None:
    """A form or a text is refused even if it happens to be JSON: a browser sends those across sites unasked."""
    if value != _JSON_TYPE and value.partition(b";")[0].strip().lower() != _JSON_TYPE:
        raise GatewayError("caller_bad_request", "Send the body as content-type: application/json.", status=415)


def _lines(ctx: Context) -> bytes:
    """The header lines that say what happened."""
    overhead = int((time.monotonic() - ctx.started - ctx.upstream_seconds) * 1e6)
    limits = ctx.reservation.header_lines()
    if ctx.operation.renamed is not None:
        limits = ctx.operation.renamed(limits, time.time())
    if (found := ctx.retrieved) is not None:
        more = b"; rerank=failed" if found.rerank == "failed" else b""
        more += b"; trial" if found.trial else b""
        limits += b"x-tunegate-retrieval: %b; passages=%d; ms=%.1f%b\r\n" % (
            found.outcome.encode(), len(found.passages), found.ms, more,
        )  # fmt: skip
    if (cached := ctx.cached) is not None:
        limits += b"x-tunegate-cache: %b\r\n" % cached.result.encode()
        if cached.result in ("hit", "semantic"):
            limits += b"age: %d\r\n" % cached.age
    if ctx.guarded is not None:
        limits += ctx.guarded.line()
    return b"x-request-id: %b\r\n%b%bx-tunegate-attempts: %d\r\nx-tunegate-overhead-us: %d\r\n%b" % (
        ctx.request_id.encode(),
        ctx.route.head,
        ctx.target.head if ctx.target else b"",
        len(ctx.attempts),
        overhead if overhead > 0 else 0,
        limits,
    )


def _error_lines(error: GatewayError, operation: Operation) -> bytes:
    lines = b"%bx-tunegate-error: %b\r\n" % (_JSON, error.code.encode())
    lines += b"".join(name + b": " + value + b"\r\n" for name, value in error.headers)
    return lines if operation.renamed is None else operation.renamed(lines, time.time())
