"""Copies of requests to a route's shadow target: sent, settled as usage of nobody, and their answers discarded.

A copy has a breaker of its own and no retry. It begins when the client's answer does, so it can neither delay nor fail
that.
"""

from __future__ import annotations

import time
from collections import defaultdict
from functools import partial

from gateway.context import Context, new_id
from gateway.copies.inner import Inner
from gateway.copies.keeper import Draft, Keeper
from gateway.copies.recording import Nobody
from gateway.errors import GatewayError
from gateway.routing.health import HealthBook
from gateway.runtime import LogRule, ShadowRule
from gateway.server.exchange import Exchange
from gateway.streaming.reply import Reply
from gateway.usage import meter


class Shadows:
    """One worker's copies. `outcomes` counts them by (route, what became of them)."""

    def __init__(self, inner: Inner, health: HealthBook, keeper: Keeper) -> None:
        self._inner = inner
        self._health = health
        self._keeper = keeper
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
            self._inner.admit(ctx)
        except GatewayError:
            self.outcomes[name, "spool_full"] += 1
            return
        self.outcomes[name, "sent"] += 1
        self._under_way[route.name] += 1
        draft = self._keeper.begin(log_rule, None) if log_rule is not None and log_rule.response else None
        answer = draft.answer if draft is not None else None
        nobody = Nobody(client.operation, client.headers, client.body, answer)
        self._inner.start(ctx, nobody, answer, partial(self._ended, ctx, draft))

    def _ended(self, ctx: Context, draft: Draft | None, reply: Reply | None, failure: GatewayError | None) -> None:
        self._under_way[ctx.route.name] -= 1
        if draft is not None:
            if draft.answer is not None:
                draft.answer.end(reply, failure)
            self._keeper.keep(ctx.id, ctx.ts, draft)
