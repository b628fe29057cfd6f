"""What happens beside a request on a route that keeps bodies or has a shadow. Other routes never come here."""

from __future__ import annotations

import asyncio
import random

from gateway.context import Context
from gateway.copies.keeper import Draft, Keeper
from gateway.copies.recording import Tee
from gateway.copies.shadow import Shadows
from gateway.errors import GatewayError
from gateway.runtime import ShadowRule, Watched
from gateway.server.exchange import Exchange
from gateway.streaming.reply import Reply

OPT_OUT = b"x-tunegate-no-log"
"""A request with this header, whatever its value, has its bodies kept by nobody."""


class Watcher:
    """Throws the dice for each request of a watched route."""

    def __init__(self, keeper: Keeper, shadows: Shadows, loop: asyncio.AbstractEventLoop) -> None:
        self.keeper = keeper
        self.shadows = shadows
        self.loop = loop

    def begin(self, ctx: Context, exchange: Exchange, watched: Watched) -> Watch | None:
        """What to do beside this request, whose route's steps have run; None if nothing."""
        rule, shadow = watched.log, watched.shadow
        draft = None
        wanted = ctx.key.log_bodies and OPT_OUT not in exchange.headers
        if rule is not None and wanted and random.random() < rule.spec.share:
            draft = self.keeper.begin(rule, exchange.body)
        if shadow is not None and random.random() >= shadow.share:
            shadow = None
        if draft is None and shadow is None:
            return None
        return Watch(self, ctx, exchange, draft, shadow)


class Watch:
    """One request's."""

    __slots__ = ("_ctx", "_draft", "_exchange", "_shadow", "_watcher")
    found: Reply | None = None
    """An answer that need not be asked for: see `gateway.cache.answers`."""

    def __init__(
        self,
        watcher: Watcher,
        ctx: Context,
        exchange: Exchange,
        draft: Draft | None,
        shadow: ShadowRule | None,
    ) -> None:
        self._watcher = watcher
        self._ctx = ctx
        self._exchange = exchange
        self._draft = draft
        self._shadow = shadow

    def answering(self, reply: Reply) -> None:
        """The answer is at its commit point."""
        answer = self._draft.answer if self._draft is not None else None
        if answer is not None and reply.whole:
            answer.add(reply.body)
        elif answer is not None:
            reply.exchange = Tee(reply.exchange, answer)
        self._start_shadow()

    def ended(self, reply: Reply | None, failure: GatewayError | None) -> None:
        """The request is settled, and its client has been told."""
        draft = self._draft
        if draft is not None:
            if draft.answer is not None:
                draft.answer.end(reply, failure)
            self._watcher.keeper.keep(self._ctx.id, self._ctx.ts, draft)
        if self._ctx.end != "stopped":
            self._start_shadow()

    def _start_shadow(self) -> None:
        shadow, self._shadow = self._shadow, None
        if shadow is not None:  # in the next turn: this one writes the client's answer
            log_rule = self._draft.rule if self._draft is not None else None
            self._watcher.loop.call_soon(self._watcher.shadows.start, shadow, self._ctx, self._exchange, log_rule)
