"""How an admitted request ends: what became of it, and the one record that says so."""

from __future__ import annotations

import logging
import time

from gateway.context import Context
from gateway.contract.usage import End
from gateway.streaming.reply import Reply
from gateway.telemetry.hooks import Telemetry
from gateway.usage import meter
from gateway.usage.spool import Spool

log = logging.getLogger("gateway.pipeline")


def verdict(ctx: Context, reply: Reply) -> tuple[End, str]:
    """(end, error code) of a reply that was committed to."""
    if reply.client_left:
        return "client_gone_partial", ""
    if reply.failure is not None and reply.failure.code == "policy_guard":
        reply.succeeded()
        return "blocked", reply.failure.code
    if reply.failure is not None:
        reply.broke(ctx.route.breaker, reply.failure.code)
        return "upstream_error_partial", reply.failure.code
    reply.succeeded()
    return "success", ""


def settle(spool: Spool, telemetry: Telemetry, ctx: Context) -> None:
    """Record and count how a request ended, exactly once. Never awaits."""
    ended = time.monotonic()
    usage, source, cost = meter.settlement(ctx)
    event = meter.closing(ctx, usage, source, cost, ended)
    try:
        spool.settle(ctx.segment, event)
    except OSError as exc:
        log.critical("usage.not_recorded", extra={"data": {"error": str(exc), "usage_event": event.decode()}})
    ctx.reservation.settle(sum(usage), cost)
    telemetry.settled(ctx, usage, source, cost, ended)
