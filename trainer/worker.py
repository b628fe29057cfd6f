"""The worker: tells control what it has and does, and does what control wants. It listens to nobody.

A worker that has not reached control for a lease ends its runs, each with a checkpoint: control gives their jobs to
others after twice that time.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from importlib import metadata

from trainer import log
from trainer.attempt import Attempt
from trainer.client import Client, Unreachable
from trainer.contract.spec import RECIPES, RecipeName
from trainer.contract.worker import Orders, WorkerStatus
from trainer.counting import Counting
from trainer.engines.adapters import EngineAdapters
from trainer.runners.base import Runner, Unavailable
from trainer.settings import WorkerTable
from trainer.tracing import Tracer

REAP = 60.0
"""Seconds between looks for runs that nobody follows."""
REAP_AGAIN = 5.0
"""The same where the last look failed."""


class Worker:
    """One worker of a control plane."""

    def __init__(
        self,
        settings: WorkerTable,
        client: Client,
        runner: Runner,
        engines: tuple[EngineAdapters, ...],
        tracer: Tracer | None,
    ) -> None:
        self._settings, self._client, self._runner, self._engines = settings, client, runner, engines
        self._tracer = tracer
        self._root = settings.data_dir.absolute()
        self._boot = secrets.token_hex(8)
        self._attempts: dict[str, Attempt] = {}
        self._unknown: set[str] = set()
        self._counting = Counting(self._root, client, settings.interpreter("lora_sft"))
        self._lease, self._heard, self._silent = 60.0, time.monotonic(), False

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; then end the runs, with checkpoints if there is time."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        tracking = self._settings.tracking.told()
        for attempt in Attempt.found(self._root, self._client, self._runner, tracking, self._tracer):
            self._begin(attempt)
        threading.Thread(target=self._reap, args=(stop,), name="reaper", daemon=True).start()
        while not stop.is_set():
            self._turn()
            stop.wait(self._settings.interval)
        self._end()

    def _turn(self) -> None:
        try:
            orders = self._client.sync(self._status())
        except Unreachable as exc:
            if not self._silent:
                log.event("worker.control_silent", level="warning", cause=str(exc))
            self._silent = True
            if time.monotonic() - self._heard > self._lease:
                for attempt in self._attempts.values():
                    attempt.stop(self._lease / 2)
            return
        if self._silent:
            log.event("worker.control_answers")
        self._heard, self._silent, self._lease = time.monotonic(), False, orders.lease_seconds
        self._obey(orders)

    def _obey(self, orders: Orders) -> None:
        for order in orders.start:
            if order.attempt not in self._attempts:
                log.event("attempt.begins", attempt=order.attempt, job=order.spec.name, devices=list(order.devices))
                tracking = self._settings.tracking.told()
                self._begin(Attempt(order, self._root, self._client, self._runner, tracking, self._tracer))
        for stop in orders.stop:
            if stop.attempt in self._attempts:
                self._attempts[stop.attempt].stop(stop.grace)
        for id in orders.forget:
            if (attempt := self._attempts.pop(id, None)) is not None:
                attempt.leave() if attempt.order.job in orders.unknown else attempt.forget()
        self._clear(set(orders.over))
        self._tell_unknown(set(orders.unknown))
        self._counting.want(orders.counts)
        wanted = {order.engine: order.adapters for order in orders.engines}
        for engine in self._engines:
            engine.want(wanted.get(engine.name, ()))

    def _clear(self, over: set[str]) -> None:
        """Remove what is left of jobs that are over, unless an attempt still has its folder there."""
        held = {attempt.order.job for attempt in self._attempts.values()}
        for job in over.intersection(self._jobs()) - held:
            log.event("job.cleared", job=job)
            shutil.rmtree(self._root / "jobs" / job, ignore_errors=True)  # what cannot go now is told of again

    def _tell_unknown(self, jobs: set[str]) -> None:
        for job in sorted(jobs - self._unknown):
            log.event("job.unknown", level="warning", job=job, folder=str(self._root / "jobs" / job))
        self._unknown = jobs

    def _jobs(self) -> tuple[str, ...]:
        """Those that have a folder here."""
        return tuple(sorted(path.name for path in self._root.glob("jobs/*/")))

    def _begin(self, attempt: Attempt) -> None:
        self._attempts[attempt.order.attempt] = attempt
        attempt.start()

    def _status(self) -> WorkerStatus:
        held = {device: f"engine {engine.name}" for engine in self._engines for device in engine.devices}
        return WorkerStatus(
            worker=self._settings.worker_name, boot=self._boot, version=metadata.version("tunegate"),
            recipes=self._recipes(), devices=self._runner.devices(self._settings.slots, held),
            attempts=tuple(attempt.status for attempt in self._attempts.values()), jobs=self._jobs(),
            engines=tuple(engine.status for engine in self._engines), counts=self._counting.ended,
            dashboard=self._settings.dashboard,
        )  # fmt: skip

    def _recipes(self) -> tuple[RecipeName, ...]:
        """Those whose environment is here."""
        return tuple(recipe for recipe in RECIPES if self._settings.interpreter(recipe).exists())

    def _reap(self, stop: threading.Event) -> None:
        """End runs that nobody follows: of an attempt that was forgotten while the place where it ran was silent."""
        silent = False
        while not stop.is_set():
            try:
                for folder in self._runner.list_owned(self._root):
                    if folder not in {attempt.folder for attempt in tuple(self._attempts.values())}:
                        log.event("worker.reaps", level="warning", folder=str(folder))
                        self._runner.kill(folder, 0.0)
            except (Unavailable, OSError) as exc:
                if not silent:
                    log.event("worker.reap_failed", level="warning", cause=str(exc))
                silent = True
            else:
                silent = False
            stop.wait(REAP_AGAIN if silent else REAP)

    def _end(self) -> None:
        self._counting.close()
        running = [attempt for attempt in self._attempts.values() if attempt.status.state != "ended"]
        for attempt in running:
            attempt.stop(self._settings.stop_grace)
        deadline = time.monotonic() + self._settings.stop_grace + 1
        for attempt in running:
            attempt.join(max(0.0, deadline - time.monotonic()))
            self._runner.kill(attempt.folder, 0.0)
        for engine in self._engines:
            engine.close()
        if self._tracer is not None:
            self._tracer.close()
