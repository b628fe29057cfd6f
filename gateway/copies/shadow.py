"""Copies of requests to a route's shadow target: sent, settled as usage of nobody, and their answers discarded.

A copy is a request like any other from its dispatch on: the same relays, time-outs and settlement, with a breaker of
its own and no retry. It begins when the client's answer does, so it can neither delay nor fail that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from typing import Any

from gateway.context import Context, new_id
from gateway.copies.keeper import Keeper
from gateway.copies.recording import Nobody
from gateway.dispatch import Dispatcher
from gateway.errors import GatewayError
from gateway.limits.memory import Held
from gateway.routing.health import HealthBook
from gateway.runtime import LogRule, ShadowRule
from gateway.server.exchange import Exchange
from gateway.server.running import Running
from gateway.settle import Admission, settle, verdict
from gateway.streaming.reply import Reply
from gateway.telemetry.hooks import Telemetry
from gateway.usage import meter
from gateway.usage.spool import Spool

log = logging.getLogger("gateway.shadow")


class Shadows:
    """One worker's copies. `outcomes` counts them by (route, what became of them)."""

    def __init__(
        self, dispatcher: Dispatcher, spool: Spool, telemetry: Telemetry, health: HealthBook, keeper: Keeper
    ) -> None:
        self._dispatcher = dispatcher
        self._spool = spool
        self._telemetry = telemetry
        self._health = health
        self._keeper = keeper
        self._running: set[Any] = set()
        self._under_way: defaultdict[str, int] = defaultdict(int)
        """By name of the rule's route."""
        self.outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)

    def start(self, rule: ShadowRule, original: Context, client: Exchange, log_rule: LogRule | None) -> None:
        """Send a copy of a request, if there is room. With `log_rule`, its answer is kept beside the original's."""
        route, name = rule.route, original.route.name
        if self._under_way[route.name] >= rule.concurrency:
            self.outcomes[name, "full"] += 1
            return
        if not self._health[route.tiers[0][0].id].available(time.monotonic()):
            self.outcomes[name, "resting"] += 1
            return
        ctx = Context(
            original.operation, original.runtime, original.key, original.call, route, new_id(), original.request_id,
            time.monotonic(), time.time(),
        )  # fmt: skip
        ctx.document = original.document
        ctx.trace = original.trace.child() if original.trace is not None else None
        ctx.facts = meter.facts(ctx) + b'"shadow_of":"%b",' % original.id.encode()
        try:
            admission = Admission(Held((), 0, 0), self._spool.open(ctx.facts))
        except GatewayError:
            self.outcomes[name, "spool_full"] += 1
            return
        self.outcomes[name, "sent"] += 1
        self._telemetry.in_flight += 1
        self._under_way[route.name] += 1
        Running(self._run(ctx, client, admission, log_rule), self._running).step()

    async def close(self) -> None:
        """Stop what is under way; it is settled as `stopped`."""
        for running in tuple(self._running):
            running.cancel()
        await asyncio.sleep(0)  # they end in this turn of the loop

    async def _run(self, ctx: Context, client: Exchange, admission: Admission, log_rule: LogRule | None) -> None:
        draft = self._keeper.begin(log_rule, None) if log_rule is not None and log_rule.response else None
        answer = draft.answer if draft is not None else None
        reply: Reply | None = None
        failure: GatewayError | None = None
        try:
            reply = await self._dispatcher.dispatch(ctx, Nobody(client.operation, client.headers, client.body, answer))
            ctx.first_content, ctx.status = reply.content_at, reply.status
            if not reply.whole:
                reply.commit(b"")
                await reply.finished()
            elif answer is not None:
                answer.add(reply.body)
            ctx.end, ctx.error = verdict(ctx, reply)
        except asyncio.CancelledError:
            ctx.end, ctx.status, ctx.error = "stopped", ctx.status or 503, "tunegate_stopping"
            if reply is not None:
                reply.done()
            raise
        except GatewayError as error:
            failure = error
            ctx.end, ctx.status, ctx.error = "upstream_error", error.status, error.code
        except Exception:
            log.exception("shadow.bug", extra={"data": {"request_id": ctx.request_id}})
            ctx.end, ctx.status, ctx.error = "upstream_error", 500, "tunegate_bug"
        finally:
            settle(self._spool, self._telemetry, ctx, admission)
            self._under_way[ctx.route.name] -= 1
            if draft is not None:
                if answer is not None:
                    answer.end(reply, failure)
                self._keeper.keep(ctx.id, ctx.ts, draft)
            if reply is not None:
                reply.close()
