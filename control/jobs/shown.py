"""Jobs as the API tells them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.jobs import allocator, schemas
from control.kit.ownership import is_theirs
from control.kit.permissions import Person
from control.models import (
    Adapter,
    AdapterVersion,
    Checkpoint,
    JobEvent,
    MetricPoint,
    TrainerRow,
    TrainingAttempt,
    TrainingJob,
    TrainingSample,
)

RECENT = 20
"""Steps whose speed says how long it still takes."""
_STORED = (
    "name", "owner_kind", "owner", "state", "wanted", "failure", "message", "priority", "devices", "worker", "attempts",
    "step", "total_steps", "latest", "queued_at", "started_at", "ended_at", "created_at", "created_by",
)  # fmt: skip


async def listed(
    session: AsyncSession, person: Person, jobs: Sequence[TrainingJob], lease: timedelta
) -> list[schemas.Job]:
    """Jobs in a list."""
    waiting = [job for job in jobs if job.state == "queued"]
    order = {job.id: place for place, job in enumerate(await allocator.queue(session), 1)} if waiting else {}
    reasons = await allocator.reasons(session, waiting, lease) if waiting else {}
    names = await _adapters(session, jobs)
    items = []
    for job in jobs:
        items.append(
            schemas.Job.model_validate(
                {field: getattr(job, field) for field in _STORED}
                | {
                    "recipe": job.spec["recipe"], "base": job.spec["base"]["id"],
                    "mine": await is_theirs(session, person, job), "position": order.get(job.id),
                    "eta_seconds": await _eta(session, job), "waits_for": reasons.get(job.id, ""),
                    "adapter": names.get(job.adapter_version_id or ""),
                }
            )
        )  # fmt: skip
    return items


async def detail(session: AsyncSession, person: Person, job: TrainingJob, lease: timedelta) -> schemas.JobDetail:
    """A job with its history."""
    light = (await listed(session, person, [job], lease))[0]
    runs = await _all(session, TrainingAttempt, job, TrainingAttempt.number.desc())
    checkpoints = await _all(session, Checkpoint, job, Checkpoint.step)
    samples = await _all(session, TrainingSample, job, TrainingSample.step, TrainingSample.number)
    worker = await session.get(TrainerRow, job.worker) if job.worker else None
    return schemas.JobDetail.model_validate(
        light.model_dump()
        | {
            "spec": job.spec, "warnings": job.warnings, "estimate": job.estimate or None, "retries": job.retries,
            "data": {split: {key: one[key] for key in schemas.JobData.model_fields} for split, one in job.data.items()},
            "max_retries": job.max_retries, "cloned_from": job.cloned_from,
            "dashboard": (worker.dashboard or "") if worker is not None else "",
            "events": [_of(schemas.JobEvent, one) for one in await _all(session, JobEvent, job, JobEvent.id)],
            "runs": [_attempt(job, one) for one in runs],
            "checkpoints": [_of(schemas.Checkpoint, one) for one in checkpoints],
            "samples": [_of(schemas.Sample, one) for one in samples],
        }
    )  # fmt: skip


async def metrics(session: AsyncSession, job: TrainingJob, after: int) -> schemas.Metrics:
    """Figures of the steps after one."""
    query = select(MetricPoint).where(MetricPoint.job_id == job.id, MetricPoint.step > after)
    points = await session.scalars(query.order_by(MetricPoint.step).limit(20_000))
    return schemas.Metrics(items=[schemas.MetricPoint.model_validate(_of(schemas.MetricPoint, one)) for one in points])


async def _all(session: AsyncSession, table: Any, job: TrainingJob, *order: Any) -> Sequence[Any]:
    return (await session.scalars(select(table).where(table.job_id == job.id).order_by(*order))).all()


def _of(schema: Any, row: Any) -> dict[str, Any]:
    return {field: getattr(row, field) for field in schema.model_fields}


def _attempt(job: TrainingJob, row: TrainingAttempt) -> dict[str, Any]:
    ours = job.spec["training"]
    plan = {name: value for name, value in row.spec["training"].items() if ours.get(name) != value}
    known = {field: getattr(row, field, None) for field in schemas.Attempt.model_fields}
    return known | {"plan": plan, "device": str(row.started.get("device") or "")}


async def _eta(session: AsyncSession, job: TrainingJob) -> float | None:
    if job.state != "running" or not job.total_steps or job.step >= job.total_steps:
        return None
    query = select(MetricPoint.step, MetricPoint.at).where(
        MetricPoint.job_id == job.id, MetricPoint.attempt == job.attempts
    )
    recent = (await session.execute(query.order_by(MetricPoint.step.desc()).limit(RECENT))).all()
    if len(recent) < 2 or recent[0][0] == recent[-1][0]:
        return None
    seconds = (recent[0][1] - recent[-1][1]).total_seconds() / (recent[0][0] - recent[-1][0])
    return max(0.0, seconds * (job.total_steps - job.step))


async def _adapters(session: AsyncSession, jobs: Sequence[TrainingJob]) -> dict[str, str]:
    ids = [job.adapter_version_id for job in jobs if job.adapter_version_id]
    query = select(AdapterVersion.id, Adapter.name, AdapterVersion.number).join(
        Adapter, Adapter.id == AdapterVersion.adapter_id
    )
    found = await session.execute(query.where(AdapterVersion.id.in_(ids)))
    return {id: f"{name}@v{number}" for id, name, number in found}
