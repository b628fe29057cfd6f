"""The composition root of one worker: builds the parts, starts them in order, stops them in reverse."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from gateway.api.embeddings import EMBEDDINGS
from gateway.api.media import MODERATIONS
from gateway.api.routes import OPERATIONS, Api, build, match
from gateway.cache.answers import Answers, response_cache
from gateway.contract import snapshot as wire
from gateway.copies.deliver import FileBodies
from gateway.copies.inner import Inner
from gateway.copies.keeper import Keeper
from gateway.copies.moderation import RouteModerator
from gateway.copies.shadow import Shadows
from gateway.copies.watch import Watcher
from gateway.dispatch import Dispatcher
from gateway.errors import ConfigError
from gateway.gauges import gauges
from gateway.kept import Kept
from gateway.limits.memory import MemoryLimiter
from gateway.objects import Objects
from gateway.pipeline import Pipeline
from gateway.retrieval.base import Nowhere, Retriever
from gateway.routing.health import HealthBook
from gateway.routing.places import Places
from gateway.runtime import Runtime
from gateway.server.cors import Cors, lines
from gateway.server.front import Front
from gateway.server.listener import Listener
from gateway.server.upload import Disk
from gateway.settings import Settings
from gateway.snapshot.compile import compile_snapshot
from gateway.snapshot.file import report, watch
from gateway.snapshot.holder import Holder
from gateway.snapshot.secrets import secret
from gateway.steps.base import Steps
from gateway.steps.guard import Guardian
from gateway.steps.webhook import WebhookClient
from gateway.telemetry.hooks import Telemetry
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracer
from gateway.upstream.client import Upstreams
from gateway.upstream.renewals import Renewals
from gateway.usage.ledger import spent
from gateway.usage.shipper import Shipper
from gateway.usage.sink import JsonlSink
from gateway.usage.spool import Spool, SpoolInUse
from gateway.workers import Sibling, parent_changed

if TYPE_CHECKING:
    from gateway.limits.redis import RedisLimiter
    from gateway.remote import Remote

log = logging.getLogger("gateway.app")

FLUSH_AT_START, FLUSH_AT_STOP = 2.0, 5.0
"""Seconds that control gets for usage events before we go on without it; the spool keeps them."""
CREDENTIALS_AT_START = 2.0
"""Seconds that issuers of tokens get before the first request is taken."""
REMOTE_PATIENCE = 2.0
"""Longest pause in seconds between two deliveries to a control plane that fails."""


class Way(NamedTuple):
    """What a request passes, put together."""

    pipeline: Pipeline
    upstreams: Upstreams
    shadows: Shadows
    answers: Answers
    closing: tuple[Inner, Answers, WebhookClient]
    """What must be closed when no request comes any more."""


class Worker:
    """One gateway process: number `index` of `settings.gateway.workers`."""

    def __init__(
        self, settings: Settings, snapshot: wire.Snapshot, config: Path, index: int = 0, told: Sequence[int] = ()
    ) -> None:
        self._settings = settings
        self._told = told
        """Signals to stop that came before the server listened to them itself."""
        self._config = config
        usage, gateway = settings.usage, settings.gateway
        self._ledger = gateway.data_dir / "usage"
        slot = f"w{index}"
        self.spool = Spool(gateway.data_dir / "spool" / slot, usage.segment_bytes, usage.spool_max_bytes)
        self.holder = Holder()
        self.metrics = Metrics(str(index))
        self.shared: RedisLimiter | None = None
        if settings.limits.backend == "redis":
            from gateway.limits.redis import RedisLimiter  # noqa: PLC0415  (a client that others need not have)

            observe = self.metrics.histogram("tunegate_limits_redis_seconds", ()).observe
            self.shared = RedisLimiter(settings.limits, gateway.workers, observe)
        self.limiter = self.shared or MemoryLimiter(share=1.0 / gateway.workers)
        self.health = HealthBook()
        self.remote: Remote | None = None
        self.retriever: Retriever = Nowhere()
        if settings.control.url is None:
            self.holder.swap(compile_snapshot(snapshot))
            self.shipper = Shipper(self.spool, JsonlSink(self._ledger, slot), usage.flush_interval)
            self.files = FileBodies(gateway.data_dir / "request-log", slot)
            self.keeper = Keeper(self.files, usage.bodies_max_bytes)
        else:
            from gateway.remote import Remote  # noqa: PLC0415  (an HTTP client that a stand-alone gateway never loads)

            self.remote = Remote(settings, slot, self.holder, self.limiter, self.health)
            self.retriever = self.remote.retriever
            self.shipper = Shipper(self.spool, self.remote.sink, usage.flush_interval, REMOTE_PATIENCE)
            self.keeper = Keeper(self.remote.bodies, usage.bodies_max_bytes)
        otlp = settings.telemetry.otlp_endpoint
        self.tracer = Tracer(otlp, settings.telemetry.trace_sample) if otlp else None
        self.telemetry = Telemetry(self.metrics, settings.telemetry.access_log, self.tracer)
        self.sibling = Sibling(gateway.data_dir / "spool", index, gateway.workers)
        token = settings.telemetry.metrics_token
        self.kept = Kept(gateway.responses_dir or gateway.data_dir / "responses", gateway.responses_days)
        self.objects = Objects(gateway.objects_dir or gateway.data_dir / "objects")
        metrics_token = secret(token) if token else None
        self.api = Api(
            self.holder, self.telemetry, self.kept, self.objects, self.retriever, metrics_token, self._render_metrics
        )
        self._registry = CollectorRegistry()
        self._registry.register(self.metrics)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    async def serve(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then drain, settle and flush."""
        try:
            self.spool.start()
        except SpoolInUse as exc:
            raise SystemExit(str(exc)) from exc
        await self._begin()
        loop = asyncio.get_running_loop()
        renewals, way = Renewals(), self.way(loop)
        upstreams, answers = way.upstreams, way.answers
        own = self._settings.gateway
        front = self._front(way.pipeline)
        listening = Listener(own, Cors(build(self.api), own.cors_origins), front)
        server = listening.server
        self.metrics.sources.update(gauges(self, way, listening, renewals))
        self.holder.on_swap += [renewals.apply, lambda runtime: self._apply(runtime, upstreams)]
        if self.holder.held:
            renewals.apply(self.holder.current)
            await renewals.ready(CREDENTIALS_AT_START)
        front.sweep(loop.time())
        await self.sibling.start(lambda: generate_latest(self._registry))
        source = self.remote.standing() if self.remote else (self._follow_config(), self.files.run())
        standing = (
            self._sweep(listening),
            upstreams.run(),
            self.shipper.run(),
            self.keeper.run(),
            self.kept.run(),
            self.objects.run(self.kept.days),
            answers.run(),
            *source,
            *(self.shared.standing(self.health) if self.shared else ()),
        )
        tasks = [asyncio.create_task(work) for work in standing]
        for task in tasks:
            task.add_done_callback(lambda ended: _fatal(ended, server))
        gc.collect()
        gc.freeze()
        # requests leave no cycles behind; by default the collector would look for them thirty times as often
        gc.set_threshold(20_000, 20, 100)
        _announce(listener, own.tls_cert is not None, self._version)
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for part in way.closing:
                await part.close()
            upstreams.close()
            await renewals.close()
            await self._close()

    def way(self, loop: asyncio.AbstractEventLoop) -> Way:
        """Put together what a request passes."""
        upstreams = Upstreams()
        dispatcher = Dispatcher(upstreams, self.health, loop)
        inner = Inner(dispatcher, self.spool, self.telemetry)
        shadows = Shadows(inner, self.health, self.keeper)
        answers = response_cache(self._settings, inner, EMBEDDINGS, Watcher(self.keeper, shadows, loop), loop)
        hook = WebhookClient()
        steps = Steps(self.kept, self.retriever, Guardian(RouteModerator(inner, MODERATIONS), hook))
        pipeline = Pipeline(
            self.holder, self.limiter, self.spool, dispatcher, self.telemetry, answers, self.kept, steps,
            Places(self.objects),
        )  # fmt: skip
        return Way(pipeline, upstreams, shadows, answers, (inner, answers, hook))

    async def _begin(self) -> None:
        """Get the configuration, and what budgets have spent."""
        if self.shared is not None:
            await self._join(self.shared)
        if self.remote is not None:
            self.remote.open()
            await self._flush(FLUSH_AT_START)
            await self.remote.start()
            if self.holder.held:
                self.limiter.apply(self.holder.current)
            await self.remote.learn_spend()
            return
        await self.shipper.flush()  # what an earlier process left behind counts before budgets are read
        self.limiter.restored = self._restore(self.holder.current)
        self.limiter.apply(self.holder.current)

    async def _join(self, shared: RedisLimiter) -> None:
        try:
            await shared.start()
        except ConfigError as exc:
            raise SystemExit("\n".join(report(self._config, exc))) from exc

    async def _flush(self, patience: float) -> bool:
        """Deliver what is settled; a ledger on another machine gets this many seconds."""
        try:
            async with asyncio.timeout(patience if self.remote else None):
                return await self.shipper.flush()
        except TimeoutError:
            return False

    async def _close(self) -> None:
        """Deliver what is settled, and close what was opened."""
        if not await self._flush(FLUSH_AT_STOP):
            log.error("usage.left_in_spool", extra={"data": {"bytes": self.spool.backlog}})
        if lost := await self.keeper.close(FLUSH_AT_STOP):
            log.warning("request_log.lost_at_stop", extra={"data": {"bytes": lost}})
        self.spool.close()
        if self.shared is not None:
            await self.shared.close()
        if self.remote is not None:
            await self.remote.close()
        self.sibling.close()
        if self.tracer is not None:
            self.tracer.close()
        log.info("gateway.stopped")

    def _front(self, pipeline: Pipeline) -> Front:
        gateway = self._settings.gateway
        return Front(
            operations=OPERATIONS,
            match=match,
            handle=pipeline.handle,
            on_reject=self.telemetry.rejected,
            max_body_bytes=gateway.max_body_bytes,
            max_upload_bytes=gateway.max_upload_bytes,
            upload_disk=Disk(gateway.data_dir, gateway.upload_disk_bytes),
            max_header_bytes=gateway.max_header_bytes,
            max_connections=gateway.max_connections,
            request_timeout=gateway.request_timeout,
            keepalive_timeout=gateway.keepalive_timeout,
            cors=lines(gateway.cors_origins),
        )

    @property
    def _version(self) -> str | None:
        return self.holder.current.version if self.holder.held else None

    def _restore(self, runtime: Runtime) -> dict[tuple[str, str, str], int]:
        return spent(self._ledger, runtime, time.time())

    def _apply(self, runtime: Runtime, upstreams: Upstreams) -> None:
        upstreams.apply(runtime)
        self.limiter.apply(runtime)
        if self.remote is not None:
            self.remote.spend.applied()
        routes = {*runtime.routes.values(), *runtime.wildcards}
        routes |= {route.watched.shadow.route for route in routes if route.watched and route.watched.shadow}
        self.health.keep({target.id for route in routes for tier in route.tiers for target in tier})

    async def _follow_config(self) -> None:
        async for change in watch(self._config, self.holder.current.version):
            try:
                if isinstance(change, ConfigError):
                    raise change
                runtime = compile_snapshot(change)
            except ConfigError as exc:
                self.holder.refusals += 1
                data = {"problems": report(self._config, exc), "kept": self.holder.current.version}
                log.error("snapshot.refused", extra={"data": data})
                continue
            # a budget that is new may have been spent from already; the ledger is read beside the event loop
            self.limiter.restored = await asyncio.to_thread(self._restore, runtime)
            self.holder.swap(runtime)
            log.info("snapshot.swapped", extra={"data": {"version": runtime.version}})

    async def _sweep(self, listening: Listener) -> None:
        loop, parent, server = asyncio.get_running_loop(), os.getppid(), listening.server
        while True:
            await asyncio.sleep(1.0)
            listening.sweep(loop.time())
            orphan = self._settings.gateway.workers > 1 and parent_changed(parent)
            server.should_exit = server.should_exit or bool(self._told) or orphan
            self.api.stopping = server.should_exit

    async def _render_metrics(self) -> bytes:
        return await self.sibling.merge(generate_latest(self._registry))


def run(
    settings: Settings,
    snapshot: wire.Snapshot,
    config: Path,
    listener: socket.socket,
    index: int = 0,
    told: Sequence[int] = (),
) -> None:
    """Run one worker until it is told to stop; `told` grows by a signal that comes before it is up."""
    serving = Worker(settings, snapshot, config, index, told).serve(listener)
    if sys.platform == "linux":
        import uvloop  # noqa: PLC0415  (installed there only)

        uvloop.run(serving)
    else:
        asyncio.run(serving)


def _fatal(task: asyncio.Task[None], server: uvicorn.Server) -> None:
    """None of the standing tasks may end: without one of them, the gateway would only look alive."""
    if not task.cancelled() and (problem := task.exception()) is not None:
        log.critical("gateway.task_died", exc_info=problem)
        server.should_exit = True


def _announce(listener: socket.socket, tls: bool, version: str | None) -> None:
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    data = {"url": f"{'https' if tls else 'http'}://{address}", "snapshot": version}
    log.info("gateway.listening", extra={"data": data})
