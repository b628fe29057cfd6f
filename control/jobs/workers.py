"""Workers: what they say of themselves in their heartbeat, and what they are told in return."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.datasets import counting
from control.db import Database
from control.deployments import reconcile
from control.jobs import allocator, attempts, service, states
from control.kit.audit import Actor, note
from control.kit.periodic import every
from control.models import DeletedJob, TrainerRow, TrainingAttempt, TrainingJob
from control.models.base import now
from control.settings import TrainingTable
from trainer.contract.worker import AttemptOrder, AttemptStatus, Orders, StopOrder, WorkerStatus

log = logging.getLogger("tunegate.control.workers")

SWEEP = 1.0
"""Seconds between looks for workers that are silent and jobs that take too long."""


async def sync(session: AsyncSession, status: WorkerStatus, settings: TrainingTable) -> Orders:
    """Keep what a worker says, settle what has ended, give it what waits, and say what it is to do."""
    lease = timedelta(seconds=settings.lease_seconds)
    over, unknown = await _left(session, status.jobs)
    worker = await _keep(session, status, unknown)
    known = await _attempts(session, status)
    reported = {one.attempt: one for one in status.attempts}
    stop: list[str] = []
    forget: list[str] = []
    for one in status.attempts:
        attempt = known.get(one.attempt)
        if attempt is None or attempt.worker != worker.name or attempt.state not in attempts.ACTIVE:
            (forget if one.state == "ended" else stop).append(one.attempt)
            continue
        await attempts.follow(session, attempt, one, lease)
        if one.state == "ended":
            forget.append(one.attempt)
    for attempt in known.values():
        if attempt.state not in ("ordered", "ended", "lost") and attempt.id not in reported:
            attempt.message = f"the worker {worker.name} does not have it any more"
            job = await attempts.job_of(session, attempt)
            await attempts.settle(session, attempt, job, "lost", f"worker {worker.name}")
    await allocator.allocate(session, worker, lease)
    start = await _to_start(session, worker.name, reported, lease)
    asked = [one for one in known.values() if one.state in attempts.ACTIVE and one.stop_asked_at is not None]
    orders = [StopOrder(attempt=one.id) for one in asked] + [StopOrder(attempt=one, grace=0.0) for one in stop]
    engines = await reconcile.orders(session, status)
    return Orders(
        start=tuple(start), stop=tuple(orders), forget=tuple(forget), over=over, unknown=unknown,
        engines=engines, counts=await counting.orders(session, worker, status.counts, lease),
        lease_seconds=settings.lease_seconds,
    )  # fmt: skip


async def _left(session: AsyncSession, jobs: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of jobs that have files on a worker, those that are over or deleted, and those of which there is no trace here:
    made after the backup from which this database was restored, or at another control.
    """
    if not jobs:
        return (), ()
    query = select(TrainingJob.id, TrainingJob.state).where(TrainingJob.id.in_(jobs))
    known = dict((await session.execute(query)).all())
    deleted = set(await session.scalars(select(DeletedJob.id).where(DeletedJob.id.in_(jobs))))
    over = deleted.union(id for id, state in known.items() if state in states.OVER)
    return tuple(sorted(over)), tuple(sorted(set(jobs).difference(known, deleted)))


async def _keep(session: AsyncSession, status: WorkerStatus, unknown: Sequence[str]) -> TrainerRow:
    worker = TrainerRow(
        name=status.worker[:120], boot=status.boot[:64], version=status.version[:40], recipes=list(status.recipes),
        devices=[one.model_dump() for one in status.devices], engines=[one.model_dump() for one in status.engines],
        unknown_jobs=list(unknown), dashboard=status.dashboard, seen_at=now(),
    )  # fmt: skip
    return await session.merge(worker)


async def _attempts(session: AsyncSession, status: WorkerStatus) -> dict[str, TrainingAttempt]:
    """Those that the worker tells of, and those that it should have."""
    named = TrainingAttempt.id.in_([one.attempt for one in status.attempts])
    its = (TrainingAttempt.worker == status.worker) & TrainingAttempt.state.in_(attempts.ACTIVE)
    query = select(TrainingAttempt).where(named | its).order_by(TrainingAttempt.id).with_for_update()
    return {one.id: one for one in await session.scalars(query)}


async def _to_start(
    session: AsyncSession, worker: str, reported: dict[str, AttemptStatus], lease: timedelta
) -> list[AttemptOrder]:
    query = select(TrainingAttempt, TrainingJob).join(TrainingJob, TrainingJob.id == TrainingAttempt.job_id)
    query = query.where(TrainingAttempt.worker == worker, TrainingAttempt.state == "ordered")
    found: list[AttemptOrder] = []
    for attempt, job in await session.execute(query):
        if attempt.id not in reported:
            attempt.lease_until = now() + lease
            found.append(await attempts.order(session, attempt, job))
    return found


async def run(db: Database, settings: TrainingTable) -> None:
    """Look for silent workers, and for jobs that take too long or that nobody goes on with, until cancelled.

    A lease that ran out while this process was not there proves nothing: workers are given time to come back.
    """
    lease, not_before = timedelta(seconds=settings.lease_seconds), now() + timedelta(seconds=2 * settings.lease_seconds)

    async def look() -> None:
        await sweep(db, lease, not_before)
        await give_up(db, timedelta(days=settings.resumable_days))

    await every(SWEEP, look, "silent workers cannot be found now")


async def sweep(db: Database, lease: timedelta, not_before: datetime | None = None) -> None:
    """Take attempts of silent workers for lost, and stop jobs after their `max_hours`."""
    await _stop_long_jobs(db)
    if not_before is not None and now() < not_before:
        return
    gone = (TrainingAttempt.state.in_(attempts.ACTIVE), TrainingAttempt.lease_until < now() - lease)
    for id in await _ids(db, gone):
        async with db.write() as session:
            query = select(TrainingAttempt).where(TrainingAttempt.id == id, *gone).with_for_update()
            attempt = await session.scalar(query)
            if attempt is not None:
                attempt.message = f"the worker {attempt.worker} has been silent since {attempt.lease_until - lease}"
                job = await attempts.job_of(session, attempt)
                await attempts.settle(session, attempt, job, "lost", "control")
                log.warning("job %s is lost: %s", job.name, attempt.message)
        await asyncio.sleep(0)


async def give_up(db: Database, resumable: timedelta) -> None:
    """Cancel jobs that stopped or failed so long ago: their checkpoints go, and their datasets may be deleted."""
    old = (TrainingJob.state.in_(("stopped", "failed")), TrainingJob.ended_at < now() - resumable)
    async with db.read() as session:
        ids = list(await session.scalars(select(TrainingJob.id).where(*old)))
    for id in ids:
        async with db.write() as session:
            job = await session.scalar(select(TrainingJob).where(TrainingJob.id == id, *old).with_for_update())
            if job is not None:
                note(session, Actor("control"), "cancel", "job", job.name, before={"state": job.state})
                message = f"nobody went on with it for {resumable.days} days (resumable_days)"
                await service.want(session, job, "cancel", "control", message)


async def _ids(db: Database, conditions: Sequence[object]) -> list[str]:
    async with db.read() as session:
        return list(await session.scalars(select(TrainingAttempt.id).where(*conditions)))  # type: ignore[arg-type]


async def _stop_long_jobs(db: Database) -> None:
    async with db.read() as session:
        query = select(TrainingJob).where(TrainingJob.state == "running", TrainingJob.started_at.is_not(None))
        long = [job for job in await session.scalars(query) if _is_too_long(job)]
    for job in long:
        async with db.write() as session:
            row = await session.get(TrainingJob, job.id, with_for_update=True)
            if row is not None and row.state == "running":
                message = f"it has run for {row.spec['max_hours']} hours (max_hours)"
                await service.want(session, row, "pause", "control", message)


def _is_too_long(job: TrainingJob) -> bool:
    hours = job.spec.get("max_hours")
    return hours is not None and job.started_at is not None and now() - job.started_at > timedelta(hours=hours)
