"""What a run tells, line by line of its `events.jsonl`: each line is taken once, whatever is sent again."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime

from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import Problem
from control.jobs import attempts, states
from control.models import Checkpoint, MetricPoint, TrainingAttempt, TrainingJob, TrainingSample
from trainer.contract import events
from trainer.contract.worker import EventBatch, Taken

log = logging.getLogger("tunegate.control.jobs")
WARNINGS = 100
"""Most remarks of one attempt that become part of the job's history."""


async def live(session: AsyncSession, id: str) -> TrainingAttempt:
    """An attempt that is not over, locked.

    Raises:
        Problem: 404 for one that is not known, 409 `attempt_over` for one that is over (another worker may have it).
    """
    query = select(TrainingAttempt).where(TrainingAttempt.id == id).with_for_update()
    attempt: TrainingAttempt | None = await session.scalar(query)
    if attempt is None:
        raise Problem(404, "not_found", f"there is no attempt {id!r}")
    if attempt.state not in attempts.ACTIVE:
        raise Problem(409, "attempt_over", f"this attempt is {attempt.state}: end it")
    return attempt


async def take(session: AsyncSession, id: str, batch: EventBatch) -> Taken:
    """Take the lines that are new of a batch; a batch beyond a gap is not taken."""
    attempt = await live(session, id)
    if batch.first <= attempt.events < batch.first + len(batch.lines):
        job = await attempts.job_of(session, attempt)
        for line in batch.lines[attempt.events - batch.first :]:
            attempt.events += 1
            try:
                event = events.EVENT.validate_python(line)
            except ValidationError:
                log.warning("line %d of attempt %s is no event that this control knows", attempt.events, id)
                continue
            await _apply(session, job, attempt, event)
    return Taken(next=attempt.events)


async def _apply(session: AsyncSession, job: TrainingJob, attempt: TrainingAttempt, event: events.Event) -> None:
    at = datetime.fromtimestamp(event.at, UTC)
    actor = f"worker {attempt.worker}"
    match event:
        case events.Started():
            attempt.started, attempt.started_at = event.model_dump(mode="json"), at
            attempt.state = "running"
            job.total_steps, job.step = event.total_steps, event.first_step
            job.started_at = job.started_at or at
            await states.advance(session, job, "running", actor)
        case events.Metrics():
            await _measure(session, job, attempt, event, at)
        case events.Checkpoint():
            await session.merge(
                Checkpoint(
                    job_id=job.id, step=event.step, attempt=attempt.number, at=at, folder=event.folder[:255],
                    size=event.size, files=event.files,
                )
            )  # fmt: skip
            job.retries = 0  # it has got ahead
        case events.Sample():
            await _keep_sample(session, job, event)
        case events.Warned():
            states.remark(session, job, actor, event.message)
        case events.Finished():
            attempt.finished, attempt.message = event.model_dump(mode="json"), event.message[:2000]
            job.step = max(job.step, event.step)


async def _measure(
    session: AsyncSession, job: TrainingJob, attempt: TrainingAttempt, event: events.Metrics, at: datetime
) -> None:
    values = {name[:40]: value for name, value in event.values.items() if math.isfinite(value)}
    if len(values) < len(event.values):  # JSON has no word for them; the reader must see that there was one
        values |= {f"{name[:30]}_not_finite": 1.0 for name, value in event.values.items() if not math.isfinite(value)}
    point = await session.get(MetricPoint, (job.id, event.step))
    if point is None:
        session.add(MetricPoint(job_id=job.id, step=event.step, attempt=attempt.number, at=at, values=values))
    else:
        before = point.values if point.attempt == attempt.number else {}
        point.values, point.attempt, point.at = {**before, **values}, attempt.number, at
    job.step = max(event.step, job.step if event.step else 0)
    job.latest = {**job.latest, **values}


async def _keep_sample(session: AsyncSession, job: TrainingJob, event: events.Sample) -> None:
    prompts = list(job.spec.get("prompts") or ())
    number = prompts.index(event.prompt) + 1 if event.prompt in prompts else 0
    same = (TrainingSample.job_id == job.id, TrainingSample.step == event.step, TrainingSample.number == number)
    await session.execute(delete(TrainingSample).where(*same))
    session.add(
        TrainingSample(job_id=job.id, step=event.step, number=number, prompt=event.prompt, text=event.text[:20_000])
    )
    await session.flush()
