"""Requests that the gateway sends by itself: requests like any other from their dispatch on, with the same relays,
time-outs and settlement, but for no client and no limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from gateway.context import Context
from gateway.copies.recording import Nobody, Recording
from gateway.dispatch import Dispatcher
from gateway.errors import GatewayError
from gateway.limits.memory import Held
from gateway.server.running import Running
from gateway.settle import settle, verdict
from gateway.streaming.reply import Reply
from gateway.telemetry.hooks import Telemetry
from gateway.usage.spool import Spool

log = logging.getLogger("gateway.inner")
Ended = Callable[[Reply | None, GatewayError | None], None]
"""Called when a request is settled, with how its answer ended."""


class Inner:
    """One worker's."""

    def __init__(self, dispatcher: Dispatcher, spool: Spool, telemetry: Telemetry) -> None:
        self._dispatcher = dispatcher
        self._spool = spool
        self._telemetry = telemetry
        self._running: set[Any] = set()

    def admit(self, ctx: Context) -> None:
        """Open the usage record of one whose `ctx.facts` are set. GatewayError: there is no room for it."""
        ctx.segment, ctx.reservation = self._spool.open(ctx.facts), Held((), 0, 0)

    def start(self, ctx: Context, exchange: Nobody, answer: Recording | None, ended: Ended) -> Callable[[], None]:
        """Send one that is admitted. A whole answer is put into `answer`, as a stream is by the exchange. Call what is
        returned to stop it, if it has not ended yet.
        """
        self._telemetry.in_flight += 1
        running = Running(self._run(ctx, exchange, answer, ended), self._running)
        running.step()
        return lambda: running.cancel() if running in self._running else None

    async def close(self) -> None:
        """Stop what is under way; it is settled as `stopped`."""
        for running in tuple(self._running):
            running.cancel()
        await asyncio.sleep(0)  # they end in this turn of the loop

    async def _run(self, ctx: Context, exchange: Nobody, answer: Recording | None, ended: Ended) -> None:
        reply: Reply | None = None
        failure: GatewayError | None = None
        try:
            reply = await self._dispatcher.dispatch(ctx, exchange)
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
            log.exception("inner.bug", extra={"data": {"request_id": ctx.request_id}})
            ctx.end, ctx.status, ctx.error = "upstream_error", 500, "tunegate_bug"
        finally:
            settle(self._spool, self._telemetry, ctx)
            ended(reply, failure)
            if reply is not None:
                reply.close()
