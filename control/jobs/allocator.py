"""Which queued job gets which devices: by priority, then the team that holds fewest, then who waits longest.

A job that fits a worker but not its free devices keeps them from jobs behind it: large jobs are not starved by small
ones. A job with checkpoints waits for the worker that has them, as long as that worker is heard of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import lock
from control.jobs import attempts
from control.models import DeviceClaim, Team, TrainerRow, TrainingAttempt, TrainingJob
from control.models.base import now

Owner = tuple[str, str]
Device = dict[str, Any]
"""As a worker tells of it: `trainer.contract.worker.Device`."""


async def queue(session: AsyncSession) -> list[TrainingJob]:
    """All queued jobs in the order in which they are served."""
    query = select(TrainingJob).where(TrainingJob.state == "queued").order_by(TrainingJob.queued_at)
    held = await _held(session)
    jobs = (await session.scalars(query)).all()
    return sorted(jobs, key=lambda job: (-job.priority, held[(job.owner_kind, job.owner)]))


async def allocate(session: AsyncSession, worker: TrainerRow, lease: timedelta) -> None:
    """Give the worker's free devices to jobs that wait."""
    waiting = select(TrainingJob.id).where(TrainingJob.state == "queued").limit(1)
    if await session.scalar(waiting) is None:
        return
    await lock(session, "training")  # two workers must not both count the same quota
    free = await _free(session, worker)
    held, quotas = await _held(session), await _quotas(session)
    for job in await queue(session):
        owner = (job.owner_kind, job.owner)
        if not free:
            return
        if not _may_run(job, worker) or await _waits_for_another(session, job, worker, lease):
            continue
        quota = quotas.get(owner)
        if quota is not None and held[owner] + job.devices > quota:
            continue
        chosen = _chosen(job, free)
        if not chosen:
            return
        free = [one for one in free if one not in chosen]
        await attempts.begin(session, job, worker.name, [one["uuid"] for one in chosen], lease)
        held[owner] += job.devices


def _may_run(job: TrainingJob, worker: TrainerRow) -> bool:
    ready = job.not_before is None or job.not_before <= now()
    return ready and job.spec["recipe"] in worker.recipes and bool(_chosen(job, worker.devices))


def _chosen(job: TrainingJob, among: Sequence[Device]) -> list[Device]:
    """Devices for a job: on as many nodes as it wants, of each as many as it has processes there. Empty: too few."""
    nodes = job.spec["resources"]["nodes"]
    each = job.devices // nodes
    by_node: dict[str, list[Device]] = {}
    for one in among:
        by_node.setdefault(one.get("node", ""), []).append(one)
    fitting = [devices[:each] for devices in by_node.values() if len(devices) >= each]
    return [one for devices in fitting[:nodes] for one in devices] if len(fitting) >= nodes else []


async def _waits_for_another(session: AsyncSession, job: TrainingJob, worker: TrainerRow, lease: timedelta) -> bool:
    if job.worker in ("", worker.name):
        return False
    other = await session.get(TrainerRow, job.worker)
    return other is not None and other.seen_at > now() - 2 * lease


async def _free(session: AsyncSession, worker: TrainerRow) -> list[Device]:
    claimed = set(await session.scalars(select(DeviceClaim.uuid).where(DeviceClaim.worker == worker.name)))
    return [one for one in worker.devices if one["uuid"] not in claimed and not one["held_by"]]


async def _held(session: AsyncSession) -> Counter[Owner]:
    query = (
        select(TrainingJob.owner_kind, TrainingJob.owner)
        .join(TrainingAttempt, TrainingAttempt.job_id == TrainingJob.id)
        .join(DeviceClaim, DeviceClaim.attempt_id == TrainingAttempt.id)
    )
    return Counter((kind, owner) for kind, owner in await session.execute(query))


async def _quotas(session: AsyncSession) -> dict[Owner, int]:
    rows = await session.execute(select(Team.name, Team.gpu_quota).where(Team.gpu_quota.is_not(None)))
    return {("team", name): quota for name, quota in rows if quota is not None}


async def reasons(session: AsyncSession, jobs: Sequence[TrainingJob], lease: timedelta) -> dict[str, str]:
    """Why each of these queued jobs waits, in words for people."""
    workers = (await session.scalars(select(TrainerRow).where(TrainerRow.seen_at > now() - 2 * lease))).all()
    held, quotas = await _held(session), await _quotas(session)
    return {job.id: _reason(job, workers, held, quotas) for job in jobs}


def _reason(job: TrainingJob, workers: Sequence[TrainerRow], held: Counter[Owner], quotas: dict[Owner, int]) -> str:
    if job.not_before is not None and job.not_before > now():
        return f"tried again at {job.not_before.isoformat(timespec='seconds')}"
    if not workers:
        return "no worker is running: `tunegate trainer`"
    able = [worker for worker in workers if job.spec["recipe"] in worker.recipes]
    if not able:
        return f"no worker has the environment of the recipe {job.spec['recipe']}"
    if not any(_chosen(job, worker.devices) for worker in able):
        nodes = job.spec["resources"]["nodes"]
        if nodes > 1:
            return f"no worker has {nodes} nodes with {job.devices // nodes} devices each: ask for fewer in resources"
        return f"no worker has {job.devices} devices: ask for fewer in resources.processes"
    quota = quotas.get((job.owner_kind, job.owner))
    if quota is not None and held[(job.owner_kind, job.owner)] + job.devices > quota:
        return f"the team {job.owner!r} holds {held[(job.owner_kind, job.owner)]} of its {quota} devices"
    if job.worker and all(worker.name != job.worker for worker in able):
        return f"its checkpoints are on {job.worker}, which is silent: it goes elsewhere soon"
    return "waits for free devices"
