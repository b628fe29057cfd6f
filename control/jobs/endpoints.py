"""`/api/v1/jobs`: training jobs, from the first idea to the last checkpoint; `/api/v1/trainers`: who runs them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control import models
from control.deps import Control, Db, Parts, allow
from control.errors import not_found
from control.jobs import logs, schemas, service, shown
from control.jobs.states import State
from control.kit.ownership import find
from control.kit.pages import Page, Paging, Search, paginate
from control.kit.permissions import Person
from control.kit.schemas import A_MOMENT, example
from control.models.base import now
from trainer.contract.spec import JobSpec
from trainer.contract.worker import Device, EngineStatus

router = APIRouter(prefix="/jobs", tags=["jobs"])
trainers = APIRouter(prefix="/trainers", tags=["jobs"])
Reader = Annotated[Person, Depends(allow("training:list"))]
Writer = Annotated[Person, Depends(allow("training:own"))]
Attempt = Annotated[int, Path(ge=1, le=1_000_000)]


@router.get("")
async def list_jobs(
    session: Db, parts: Parts, person: Reader, paging: Paging, search: Search = None,
    state: Annotated[State | Literal["active"] | None, Query(description="`active`: waits or runs.")] = None,
) -> Page[schemas.Job]:  # fmt: skip
    """Jobs, the newest first: all with `training:read`, yours and your teams' without."""
    page = await paginate(session, await service.listed(session, person, search, state), paging, lambda row: row)
    items = await shown.listed(session, person, page.items, _lease(parts))
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("", status_code=201)
async def create_job(body: schemas.JobCreate, session: Db, parts: Parts, person: Writer) -> schemas.JobDetail:
    """A new job: checked, then queued. One that cannot fit is `rejected`, with the setting to change."""
    job = await service.create(session, person, body, parts.settings.training)
    return await _detail(session, parts, person, job)


@router.post("/check")
async def check_job(body: schemas.JobCheck, session: Db, parts: Parts, person: Writer) -> schemas.JobChecked:
    """What a job is going to take, and what will keep its result from being served; nothing is saved."""
    checked, _ = await service.check(session, person, body.spec, parts.settings.training)
    return checked


class JobDefaults(BaseModel):
    """What the form for a new job offers."""

    model_config = example(base_models=["/models/qwen3-8b"], recipes=["lora_sft"], devices=2, max_lora_rank=64, form={})

    base_models: list[str]
    """Folders on the workers: of the settings, and of their engines."""
    recipes: list[str]
    """That a worker can run."""
    devices: int
    """Of the largest worker."""
    max_lora_rank: int
    """Highest rank that can be served."""
    form: dict[str, Any]
    """JSON schema of a job's `spec`."""


@router.get("/defaults")
async def get_job_defaults(session: Db, parts: Parts, person: Reader) -> JobDefaults:
    """What can be chosen for a new job here."""
    workers = (await session.scalars(select(models.TrainerRow))).all()
    folders = [*parts.settings.training.base_models, *(one["model"] for row in workers for one in row.engines)]
    return JobDefaults(
        base_models=list(dict.fromkeys(folders)), recipes=sorted({one for row in workers for one in row.recipes}),
        devices=max((len(row.devices) for row in workers), default=0),
        max_lora_rank=parts.settings.training.max_lora_rank, form=JobSpec.model_json_schema(),
    )  # fmt: skip


@router.get("/{name}")
async def get_job(name: str, session: Db, parts: Parts, person: Reader) -> schemas.JobDetail:
    """A job with its history, attempts, checkpoints and samples."""
    return await _detail(session, parts, person, await find(session, person, models.TrainingJob, name))


@router.patch("/{name}")
async def update_job(
    name: str, body: schemas.JobUpdate, session: Db, parts: Parts, person: Writer
) -> schemas.JobDetail:
    """Change a job's place in the queue."""
    job = await service.reprioritise(session, person, name, body.priority)
    return await _detail(session, parts, person, job)


@router.delete("/{name}", status_code=204)
async def delete_job(name: str, session: Db, parts: Parts, person: Writer) -> None:
    """Forget a job that is over or a draft, with its figures and logs. What came out of it stays."""
    await asyncio.to_thread(parts.files.remove, await service.remove(session, person, name))


@router.post("/{name}/start")
async def start_job(name: str, session: Db, parts: Parts, person: Writer) -> schemas.JobDetail:
    """Queue a draft, or let a stopped or failed job go on from its last checkpoint."""
    job = await service.start(session, person, name, parts.settings.training)
    return await _detail(session, parts, person, job)


@router.post("/{name}/pause")
async def pause_job(name: str, session: Db, parts: Parts, person: Writer) -> schemas.JobDetail:
    """Stop a job with a checkpoint, so that it can go on later."""
    return await _detail(session, parts, person, await service.stop(session, person, name, "pause"))


@router.post("/{name}/cancel")
async def cancel_job(name: str, session: Db, parts: Parts, person: Writer) -> schemas.JobDetail:
    """End a job for good: with a checkpoint first, then firmly."""
    return await _detail(session, parts, person, await service.stop(session, person, name, "cancel"))


@router.get("/{name}/metrics")
async def get_job_metrics(
    name: str, session: Db, person: Reader, after: Annotated[int, Query(ge=-1, le=2_000_000_000)] = -1
) -> schemas.Metrics:
    """Figures of the steps after one, at most 20,000 at a time. Ask again with the last step that you have."""
    return await shown.metrics(session, await find(session, person, models.TrainingJob, name), after)


@router.get("/{name}/attempts/{number}/log")
async def get_job_log(
    name: str, number: Attempt, session: Db, parts: Parts, person: Reader,
    offset: Annotated[int | None, Query(ge=0, le=2**40, description="From there; its end if absent.")] = None,
) -> schemas.LogPiece:  # fmt: skip
    """Part of the log of an attempt, at most 256 kB."""
    attempt = await _attempt(session, person, name, number)
    return await asyncio.to_thread(logs.piece, logs.path(parts.files, attempt), offset)


@router.get("/{name}/attempts/{number}/log/search")
async def search_job_log(
    name: str, number: Attempt, session: Db, parts: Parts, person: Reader,
    text: Annotated[str, Query(min_length=1, max_length=200)],
) -> schemas.LogMatches:  # fmt: skip
    """The last 200 lines that contain a text."""
    attempt = await _attempt(session, person, name, number)
    return await asyncio.to_thread(logs.search, logs.path(parts.files, attempt), text)


class HeldDevice(Device):
    """A device, and the job that has it."""

    job: str
    """Empty: none that you may see."""
    claimed: bool
    """Whether a job has it."""


class Trainer(BaseModel):
    """A worker, with what it has."""

    model_config = example(
        name="gpu-1", version="0.1.0", recipes=["lora_sft"], alive=True, seen_at=A_MOMENT, devices=[], engines=[],
        unknown_jobs=[],
    )  # fmt: skip

    name: str
    version: str
    recipes: list[str]
    alive: bool
    """It has said something within a lease."""
    seen_at: datetime
    devices: list[HeldDevice]
    engines: list[EngineStatus]
    unknown_jobs: list[str]
    """Ids of jobs whose files it keeps, and of which control has no trace: `jobs/ID` of the worker's `data_dir`."""


class Trainers(BaseModel):
    """All workers."""

    items: list[Trainer]


@trainers.get("")
async def list_trainers(session: Db, parts: Parts, person: Reader) -> Trainers:
    """Workers with their devices and engines: the map of who computes what."""
    query = select(models.DeviceClaim, models.TrainingJob).join(
        models.TrainingAttempt, models.TrainingAttempt.id == models.DeviceClaim.attempt_id
    )
    query = query.join(models.TrainingJob, models.TrainingJob.id == models.TrainingAttempt.job_id)
    its = (await service.listed(session, person, None, None)).with_only_columns(models.TrainingJob.name)
    visible = set(await session.scalars(its))
    held = {(claim.worker, claim.uuid): job.name for claim, job in await session.execute(query)}
    rows = await session.scalars(select(models.TrainerRow).order_by(models.TrainerRow.name))
    return Trainers(items=[_trainer(row, held, visible, _lease(parts)) for row in rows])


def _trainer(row: models.TrainerRow, held: dict[tuple[str, str], str], visible: set[str], lease: timedelta) -> Trainer:
    devices = []
    for one in row.devices:
        job = held.get((row.name, one["uuid"]), "")
        devices.append(HeldDevice(**one, job=job if job in visible else "", claimed=bool(job)))
    return Trainer(
        name=row.name, version=row.version, recipes=row.recipes, alive=row.seen_at > now() - lease,
        seen_at=row.seen_at, devices=devices, engines=[EngineStatus.model_validate(one) for one in row.engines],
        unknown_jobs=row.unknown_jobs or [],
    )  # fmt: skip


def _lease(parts: Control) -> timedelta:
    return timedelta(seconds=parts.settings.training.lease_seconds)


async def _detail(session: AsyncSession, parts: Control, person: Person, job: models.TrainingJob) -> schemas.JobDetail:
    return await shown.detail(session, person, job, _lease(parts))


async def _attempt(session: AsyncSession, person: Person, name: str, number: int) -> models.TrainingAttempt:
    job = await find(session, person, models.TrainingJob, name)
    table = models.TrainingAttempt
    found: models.TrainingAttempt | None = await session.scalar(
        select(table).where(table.job_id == job.id, table.number == number)
    )
    if found is None:
        raise not_found("attempt", f"{name} {number}")
    return found
