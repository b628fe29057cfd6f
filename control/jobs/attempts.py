"""Attempts: ordered from a worker, followed, and settled when they are over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.adapters import registry
from control.jobs import merging, retry, states
from control.models import DeviceClaim, TrainingAttempt, TrainingJob
from control.models.base import new_id, now
from trainer.contract.spec import JobSpec
from trainer.contract.worker import AttemptOrder, AttemptStatus, DataFile

ACTIVE = ("ordered", "preparing", "running", "finalizing")
_JOB_STATES: dict[str, states.State] = {"preparing": "preparing", "running": "running", "finalizing": "finalizing"}


async def begin(
    session: AsyncSession, job: TrainingJob, worker: str, devices: list[str], lease: timedelta
) -> TrainingAttempt:
    """A new attempt of a queued job, with its devices claimed."""
    spec = retry.planned(JobSpec.model_validate(job.spec), job.plan)
    before = await latest(session, job)
    attempt = TrainingAttempt(
        id=new_id(), job_id=job.id, number=job.attempts + 1, worker=worker, state="ordered", devices=devices,
        spec=spec.model_dump(mode="json"), resume=before is not None, lease_until=now() + lease, created_at=now(),
    )  # fmt: skip
    session.add(attempt)
    await session.flush()
    session.add_all(DeviceClaim(worker=worker, uuid=uuid, attempt_id=attempt.id) for uuid in devices)
    changes = {"attempts": attempt.number, "worker": worker, "not_before": None, "ended_at": None}
    await states.move(session, job, "allocating", "control", f"{worker}: {', '.join(devices)}", **changes)
    return attempt


async def latest(session: AsyncSession, job: TrainingJob) -> TrainingAttempt | None:
    """The last attempt of a job."""
    query = select(TrainingAttempt).where(TrainingAttempt.job_id == job.id)
    found: TrainingAttempt | None = await session.scalar(query.order_by(TrainingAttempt.number.desc()).limit(1))
    return found


async def job_of(session: AsyncSession, attempt: TrainingAttempt) -> TrainingJob:
    """Its job, locked."""
    query = select(TrainingJob).where(TrainingJob.id == attempt.job_id).with_for_update()
    return (await session.scalars(query.execution_options(populate_existing=True))).one()


async def order(session: AsyncSession, attempt: TrainingAttempt, job: TrainingJob) -> AttemptOrder:
    """What the worker is told."""
    data = [
        DataFile(version=held["id"], split=split, sha256=held["sha256"], rows=held["rows"])  # type: ignore[arg-type]
        for split, held in job.data.items()
    ]
    spec = JobSpec.model_validate(attempt.spec)
    source = await merging.source(session, spec)
    return AttemptOrder(
        attempt=attempt.id, job=job.id, number=attempt.number, spec=spec, data=tuple(data),
        adapter=merging.files(source) if source is not None else None, devices=tuple(attempt.devices),
        resume=attempt.resume, trace=job.trace,
    )  # fmt: skip


async def follow(session: AsyncSession, attempt: TrainingAttempt, status: AttemptStatus, lease: timedelta) -> None:
    """Take what its worker says of an attempt that is under way; settle it when it is over."""
    attempt.lease_until = now() + lease
    actor = f"worker {attempt.worker}"
    job = await job_of(session, attempt)
    if status.state != "ended":
        if attempt.state != status.state:
            attempt.state = status.state
            await states.advance(session, job, _JOB_STATES[status.state], actor)
        return
    attempt.exit_status = status.exit_status
    if status.failure:
        attempt.message = attempt.message or status.failure[:2000]
    await settle(session, attempt, job, "ended", actor)


async def settle(session: AsyncSession, attempt: TrainingAttempt, job: TrainingJob, state: str, actor: str) -> None:
    """End an attempt (`ended`, or `lost` with its worker): give its devices back, and decide about its job."""
    attempt.state, attempt.ended_at = state, now()
    await session.execute(delete(DeviceClaim).where(DeviceClaim.attempt_id == attempt.id))
    outcome = str(attempt.finished.get("outcome") or "") if state == "ended" else ""
    if outcome == "completed":
        await states.advance(session, job, "finalizing", actor)
        source = await merging.source(session, JobSpec.model_validate(attempt.spec))
        version = await registry.result(session, job, attempt, source)
        changes: dict[str, Any] = {"adapter_version_id": version.id, "ended_at": now(), "failure": ""}
        job.message = ""
        await states.move(session, job, "succeeded", actor, **changes)
        return
    if state == "lost":
        await states.move(session, job, "lost", actor, attempt.message)
    if job.wanted == "cancel":
        await states.move(session, job, "canceled", actor, ended_at=now())
    elif outcome == "stopped" or job.wanted == "pause":
        await _stopped(session, job, actor)
    else:
        await _failed(session, attempt, job, actor)


async def _stopped(session: AsyncSession, job: TrainingJob, actor: str) -> None:
    if job.wanted == "pause":
        await states.move(session, job, "stopped", actor, ended_at=now())
        return
    # nobody wants it to stop: its worker is going away, and a later attempt goes on from the checkpoint
    if job.state != "lost":
        await states.move(session, job, "stopped", actor, "its worker stops")
    await states.move(session, job, "queued", "control", "goes on from its last checkpoint", queued_at=now())


async def _failed(session: AsyncSession, attempt: TrainingAttempt, job: TrainingJob, actor: str) -> None:
    attempt.failure = "lost" if attempt.state == "lost" else str(attempt.finished.get("failure") or "unknown")
    if not attempt.message:
        attempt.message = str(attempt.finished.get("message") or f"the recipe ended with {attempt.exit_status}")[:2000]
    spec = JobSpec.model_validate(job.spec)
    verdict = retry.after(attempt.failure, attempt.message, spec, job.plan, job.retries, job.max_retries)
    changes: dict[str, Any] = {"failure": attempt.failure}
    job.message = verdict.message[:2000]
    if job.state != "lost" or not verdict.again:
        await states.move(session, job, "failed", actor, verdict.message, ended_at=now(), **changes)
    if verdict.again:
        changes |= {"queued_at": now(), "not_before": now() + timedelta(seconds=verdict.delay), "ended_at": None}
        changes |= {"retries": job.retries + verdict.counts}
        changes |= {} if verdict.plan is None else {"plan": verdict.plan}
        await states.move(session, job, "queued", "control", verdict.message, **changes)
