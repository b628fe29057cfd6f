"""The response cache of one worker: what a route that has one does before its requests are sent, and with the answers.

Two equal requests at a time are both sent: neither waits for the other.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Literal

from gateway.cache.entry import Entry
from gateway.cache.key import Wishes, cacheable, digest, wishes
from gateway.cache.memory import Memory
from gateway.cache.replay import Replayed, finished, told
from gateway.cache.semantic import Asked, Embedder
from gateway.context import Cached, Context, Operation
from gateway.copies.inner import Inner
from gateway.copies.recording import Recording, Tee
from gateway.copies.watch import Watch, Watcher
from gateway.errors import GatewayError
from gateway.guarded import repeated
from gateway.runtime import CacheRule, Watched
from gateway.server.exchange import Exchange
from gateway.settings import Settings
from gateway.steps.guard import AT_ONCE
from gateway.streaming.reply import ClientGone, Reply
from gateway.telemetry.metrics import Gauge
from gateway.usage import meter

if TYPE_CHECKING:
    from gateway.cache.shared import SharedAnswers

SWEEP = 60.0
"""Seconds between looks for what is too old."""


class Answers:
    """See the module. `outcomes` counts requests by (route, what there was for them)."""

    def __init__(
        self,
        memory: Memory,
        shared: SharedAnswers | None,
        embedder: Embedder,
        watcher: Watcher,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.memory = memory
        self.shared = shared
        self._embedder = embedder
        self._watcher = watcher
        self._loop = loop
        self.outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)

    async def begin(self, ctx: Context, exchange: Exchange, watched: Watched) -> Watch | Caching | None:
        """What is done beside a request of a watched route whose steps have run; with its answer, if there is one."""
        rule = watched.cache
        if rule is None:
            return self._watcher.begin(ctx, exchange, watched)
        found, keeping = None, None
        key = None
        if cacheable(ctx, exchange.body) and await _tells_one_thing(exchange.body):
            key = digest(ctx, rule, exchange.headers)
        if key is not None:
            wanted = wishes(exchange.headers)
            keeping = Keeping(ctx, rule, key) if wanted.store else None
            if wanted.max_age > 0.0:
                found = await self._find(ctx, exchange, rule, key, wanted, keeping)
            elif keeping is not None:
                keeping.asked = self._embedder.ask(ctx, exchange, rule)
        if ctx.cached is None:
            ctx.cached = Cached("bypass")
        self.outcomes[ctx.route.name, ctx.cached.result] += 1
        if found is not None:  # a copy could be compared with nothing
            watched, keeping = watched._replace(shadow=None), None
        watch = self._watcher.begin(ctx, exchange, watched)
        return Caching(self, watch, found, keeping)

    async def _find(
        self, ctx: Context, exchange: Exchange, rule: CacheRule, key: bytes, wanted: Wishes, keeping: Keeping | None
    ) -> Reply | None:
        semantic = rule.spec.semantic
        ctx.cached = Cached("miss")
        entry = self._fresh(self.memory.get(key, time.time()), rule, wanted)
        if entry is None and self.shared is not None:
            entry = self._fresh(await self.shared.get(key), rule, wanted)
            if entry is not None:
                self.memory.put(key, entry, entry.at + rule.spec.ttl)
        if entry is not None:
            return self._hit(ctx, exchange, rule, entry, "hit")
        asked = self._embedder.ask(ctx, exchange, rule)
        if semantic is None or asked is None:
            return None
        began = time.monotonic()
        question = await asked.within(semantic.timeout)
        ctx.upstream_seconds += time.monotonic() - began
        if question is not None:
            entry = self.memory.nearest(question, semantic.threshold, time.time(), wanted.max_age)
            if entry is not None:
                return self._hit(ctx, exchange, rule, entry, "semantic")
        if keeping is not None:
            keeping.asked = asked
        return None

    def _fresh(self, entry: Entry | None, rule: CacheRule, wanted: Wishes) -> Entry | None:
        """The entry, unless it is older than it may be: Redis forgets by its own clock."""
        if entry is None or time.time() - entry.at >= min(rule.spec.ttl, wanted.max_age):
            return None
        return entry

    def _hit(
        self, ctx: Context, exchange: Exchange, rule: CacheRule, entry: Entry, result: Literal["hit", "semantic"]
    ) -> Reply | None:
        answer = told(ctx, entry)
        if answer is None:
            return None
        if exchange.gone:
            raise ClientGone
        share = rule.spec.billing
        cost = entry.cost if share == 1.0 else int(entry.cost * share + 0.5)
        age = max(0, int(time.time() - entry.at))
        ctx.cached = Cached(result, age, entry.usage, entry.source, cost, entry.cost - cost)
        ctx.usage = entry.usage
        return Replayed(ctx, exchange, *answer, self._loop)

    def keep(self, keeping: Keeping, body: bytes, events: bool) -> None:
        """Keep the whole answer of a request that has been settled."""
        ctx, rule = keeping.ctx, keeping.rule
        if ctx.guarded is not None and ctx.guarded.unchecked:  # who was to judge it did not: not again without them
            return
        usage, source, cost = meter.settlement(ctx)
        now = time.time()
        entry = Entry(body, events, ctx.call.wants_usage, usage, source, cost, now)
        if not finished(ctx.operation.name, entry):
            return
        semantic = rule.spec.semantic
        question = keeping.asked.question if keeping.asked is not None else None
        most = semantic.candidates if semantic is not None else 0
        self.memory.put(keeping.digest, entry, now + rule.spec.ttl, question, most)
        if self.shared is not None:
            self.shared.put(keeping.digest, entry, rule.spec.ttl)

    def gauges(self) -> dict[str, Gauge]:
        """Metric name -> where it is read."""
        shared = self.shared
        calls: dict[str, Gauge] = {}
        if shared is not None:
            calls["tunegate_cache_redis_calls"] = lambda: [(how, float(n)) for how, n in shared.outcomes.items()]
        return calls | {
            "tunegate_cache": lambda: [(labels, float(count)) for labels, count in self.outcomes.items()],
            "tunegate_cache_bytes": lambda: [((), float(self.memory.held))],
            "tunegate_cache_entries": lambda: [((), float(len(self.memory)))],
        }

    async def run(self) -> None:
        """Forget what is too old, every minute, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP)
            self.memory.sweep(time.time())

    async def close(self) -> None:
        """Let go of Redis."""
        if self.shared is not None:
            await self.shared.close()


async def _tells_one_thing(body: bytes) -> bool:
    """Whether every reader takes the same from a body: one that reads the other of two members of one name would
    answer a question that the key does not tell.
    """
    try:
        twice = repeated(body) if len(body) <= AT_ONCE else await asyncio.to_thread(repeated, body)
    except RecursionError:
        return False
    return twice is None


def response_cache(
    settings: Settings, inner: Inner, embeddings: Operation, watcher: Watcher, loop: asyncio.AbstractEventLoop
) -> Answers:
    """The cache of a worker with these settings; `embeddings` is the operation that embeds questions."""
    shared = None
    if settings.limits.backend == "redis":
        from gateway.cache.shared import SharedAnswers  # noqa: PLC0415  (a client that others need not have)

        shared = SharedAnswers(settings.limits)
    return Answers(Memory(settings.cache.max_bytes), shared, Embedder(inner, embeddings), watcher, loop)


class Keeping:
    """What an answer will be kept by."""

    __slots__ = ("asked", "ctx", "digest", "rule")

    def __init__(self, ctx: Context, rule: CacheRule, digest: bytes) -> None:
        self.ctx = ctx
        self.rule = rule
        self.digest = digest
        self.asked: Asked | None = None


class Caching:
    """One request's: stands where its `Watch` would, and does that one's work too."""

    __slots__ = ("_answers", "_keeping", "_recording", "_watch", "found")

    def __init__(self, answers: Answers, watch: Watch | None, found: Reply | None, keeping: Keeping | None) -> None:
        self._answers = answers
        self._watch = watch
        self._keeping = keeping
        self._recording: Recording | None = None
        self.found = found
        """The answer, if there is one already."""

    def answering(self, reply: Reply) -> None:
        """See `Watch.answering`."""
        if self._keeping is not None:
            self._recording = Recording(self._keeping.rule.spec.max_bytes)
            if reply.whole:
                self._recording.add(reply.body)
            else:
                reply.exchange = Tee(reply.exchange, self._recording)
        if self._watch is not None:
            self._watch.answering(reply)

    def ended(self, reply: Reply | None, failure: GatewayError | None) -> None:
        """See `Watch.ended`."""
        keeping, recording = self._keeping, self._recording
        if keeping is not None and recording is not None and reply is not None and keeping.ctx.end == "success":
            recording.end(reply, failure)
            if not recording.cut:
                self._answers.keep(keeping, b"".join(recording.pieces), reply.is_event_stream)
        if self._watch is not None:
            self._watch.ended(reply, failure)
