"""Training jobs: checked, queued, and told what people want of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Select

from control.datasets.service import version_of
from control.errors import FieldError, Problem, duplicate, invalid
from control.jobs import attempts, estimate, merging, schemas, states
from control.kit import ownership, tracing
from control.kit.audit import note
from control.kit.membership import teams_of
from control.kit.ownership import find_to_change, owner_of, visible_to
from control.kit.pages import contains
from control.kit.permissions import Person
from control.models import Adapter, Dataset, DatasetVersion, DeletedJob, TrainerRow, TrainingJob
from control.models.base import now
from control.settings import TrainingTable
from trainer.contract.servable import problems
from trainer.contract.spec import OF_AN_ADAPTER, ROWS_OF, JobSpec, RowKind
from trainer.contract.worker import Split

_REFERENCE = re.compile(r"(?P<name>[^@\s]+)@(?P<number>[1-9]\d{0,8})")


async def listed(session: AsyncSession, person: Person, search: str | None, state: str | None) -> Select[Any]:
    """Query of the jobs that a person sees, the newest first."""
    query = select(TrainingJob).where(visible_to(TrainingJob, person, await teams_of(session, person.id)))
    if search:
        query = query.where(contains(search, [TrainingJob.name, TrainingJob.owner]))
    if state == "active":
        query = query.where(TrainingJob.state.in_(states.HELD | {"queued", "lost"}))
    elif state:
        query = query.where(TrainingJob.state == state)
    return query.order_by(TrainingJob.created_at.desc(), TrainingJob.id.desc())


async def check(
    session: AsyncSession, person: Person, spec: JobSpec, settings: TrainingTable
) -> tuple[schemas.JobChecked, dict[str, Any]]:
    """What is known of a job before it is queued, and the dataset versions that it names.

    Raises:
        Problem: 422 that lists what is wrong with the data.
    """
    data = await _data(session, person, spec)
    if spec.recipe in OF_AN_ADAPTER:
        return await merging.check(session, person, spec), _without_reports(data)
    warnings = [schemas.JobWarning(code="servable", message=one) for one in problems(spec, settings.max_lora_rank)]
    report = data["train"]["report"]
    device, speed = await _smallest_device(session, spec), await _speed(session, spec)
    guess = estimate.of(spec, data["train"]["rows"], report, device, speed)
    if guess.fits is False:
        warnings.append(schemas.JobWarning(code="fit", message=guess.advice))
    refused = guess.advice if guess.fits is False else ""
    return schemas.JobChecked(warnings=warnings, estimate=guess, refused=refused), _without_reports(data)


async def create(
    session: AsyncSession, person: Person, body: schemas.JobCreate, settings: TrainingTable
) -> TrainingJob:
    """A new job, queued at once unless it is a draft."""
    spec = body.spec
    if await session.scalar(select(TrainingJob.id).where(TrainingJob.name == spec.name)):
        raise duplicate("job", spec.name)
    kind, owner = await owner_of(session, person, body.team)
    await _may_add_to(session, person, spec)
    checked, data = await check(session, person, spec, settings)
    job = TrainingJob(
        name=spec.name, owner_kind=kind, owner=owner, spec=spec.model_dump(mode="json"), plan={}, data=data,
        warnings=[one.model_dump() for one in checked.warnings], estimate=checked.estimate.model_dump(),
        state="draft", wanted="run", priority=body.priority, max_retries=body.max_retries,
        devices=spec.resources.processes * spec.resources.nodes, cloned_from=body.cloned_from or "",
        created_by=person.username,
    )  # fmt: skip
    session.add(job)
    await session.flush()
    note(session, person.actor, "create", "job", job.name, after={"spec": job.spec, "owner": owner, "data": data})
    if not body.draft:
        await _enqueue(session, person, job, checked.refused)
    return job


async def start(session: AsyncSession, person: Person, name: str, settings: TrainingTable) -> TrainingJob:
    """Queue a draft, or let a job that was stopped or has failed go on from its last checkpoint."""
    job = await find_to_change(session, person, TrainingJob, name)
    if job.state == "draft":
        checked, _ = await check(session, person, JobSpec.model_validate(job.spec), settings)
        await _enqueue(session, person, job, checked.refused)
        return job
    if job.state not in ("stopped", "failed"):
        raise Problem(409, "illegal_state", f"the job {name!r} is {job.state}: only a stopped or failed one goes on")
    changes: dict[str, Any] = {"wanted": "run", "retries": 0, "queued_at": now(), "not_before": None, "ended_at": None}
    await states.move(session, job, "queued", person.username, "goes on", trace=_trace(), **changes)
    note(session, person.actor, "resume", "job", name)
    return job


async def stop(session: AsyncSession, person: Person, name: str, wanted: str) -> TrainingJob:
    """`pause` a job, so that it can go on later, or `cancel` it for good. Doing it twice changes nothing."""
    job = await find_to_change(session, person, TrainingJob, name)
    if job.state in states.OVER or (job.wanted == wanted and job.state in ("stopping", "stopped")):
        return job
    if wanted == "pause" and job.state not in states.HELD | {"queued"}:
        raise Problem(409, "illegal_state", f"the job {name!r} is {job.state}: it does not run")
    note(session, person.actor, wanted, "job", name, before={"state": job.state})
    await want(session, job, wanted, person.username, "")
    return job


async def want(session: AsyncSession, job: TrainingJob, wanted: str, actor: str, message: str) -> None:
    """Stop a job that is not over: at once if nothing runs, else by its worker."""
    if job.state not in states.HELD:
        await states.move(
            session, job, "canceled" if wanted == "cancel" else "stopped", actor, message, wanted=wanted, ended_at=now()
        )
        return
    attempt = await attempts.latest(session, job)
    if job.state in ("stopping", "finalizing"):  # already on its way out: remember what is wanted now
        job.wanted = wanted
        states.remark(session, job, actor, message or wanted)
    else:
        await states.move(session, job, "stopping", actor, message, wanted=wanted)
    if attempt is not None and attempt.stop_asked_at is None:
        attempt.stop_asked_at = now()
        if attempt.state == "ordered":  # no worker has begun it: should one have taken the order, it is told to stop
            await attempts.settle(session, attempt, job, "ended", actor)


async def reprioritise(session: AsyncSession, person: Person, name: str, priority: int) -> TrainingJob:
    """Change a job's place in the queue."""
    job = await find_to_change(session, person, TrainingJob, name)
    if job.state in states.OVER:
        raise Problem(409, "illegal_state", f"the job {name!r} is {job.state}")
    if job.priority != priority:
        note(session, person.actor, "update", "job", name, {"priority": job.priority}, {"priority": priority})
        states.remark(session, job, person.username, f"priority {job.priority} → {priority}")
        job.priority = priority
        job.row_version += 1
        await session.flush()
    return job


async def remove(session: AsyncSession, person: Person, name: str) -> str:
    """Forget a job that does not run, with its figures; the folder that is to be deleted once that is committed."""
    job = await find_to_change(session, person, TrainingJob, name)
    if job.state in states.HELD | {"queued", "lost"}:
        raise Problem(409, "illegal_state", f"the job {name!r} is {job.state}: cancel it first")
    await session.execute(delete(TrainingJob).where(TrainingJob.id == job.id))
    session.add(DeletedJob(id=job.id, deleted_at=now()))
    note(session, person.actor, "delete", "job", name, before={"state": job.state, "spec": job.spec})
    return f"jobs/{job.id}"


async def _enqueue(session: AsyncSession, person: Person, job: TrainingJob, refused: str) -> None:
    await states.move(session, job, "validating", person.username)
    if refused:
        job.message = refused[:2000]
        await states.move(session, job, "rejected", "control", refused, ended_at=now())
    else:
        await states.move(session, job, "queued", person.username, queued_at=now(), trace=_trace())


def _trace() -> str:
    """Of the call that is being answered; empty if it belongs to no recorded trace."""
    trace = tracing.current.get()
    return trace.header if trace is not None else ""


async def _may_add_to(session: AsyncSession, person: Person, spec: JobSpec) -> None:
    adapter = await session.scalar(select(Adapter).where(Adapter.name == spec.adapter_name))
    if adapter is not None and spec.recipe != "evaluate" and not await ownership.is_theirs(session, person, adapter):
        at, message = "body.spec.adapter", f"the adapter {spec.adapter_name!r} belongs to somebody else"
        raise invalid([FieldError(at=at, message=message)])


async def _data(session: AsyncSession, person: Person, spec: JobSpec) -> dict[str, Any]:
    found: dict[str, Any] = {}
    errors = []
    for split, (at, text, kinds) in _named(spec).items():
        if not text:
            continue
        try:
            found[split] = await _version(session, person, text, kinds, at)
        except Problem as exc:
            errors.append(FieldError(at=f"body.spec.{at}", message=exc.detail))
    if errors:
        raise invalid(errors)
    return found


def _named(spec: JobSpec) -> dict[Split, tuple[str, str, Sequence[RowKind]]]:
    """Of each split where it stands in the spec, the dataset version that is named there, and which rows are wanted."""
    found: dict[Split, tuple[str, str, Sequence[RowKind]]] = {}
    if spec.recipe not in OF_AN_ADAPTER:
        found["train"] = ("data.train", spec.data.train, ROWS_OF[spec.recipe])
        found["validation"] = ("data.validation", spec.data.validation, ROWS_OF[spec.recipe])
    if spec.eval is not None:
        found["evaluation"] = ("eval.data", spec.eval.data, ("choice",))
    return found


def _without_reports(data: dict[str, Any]) -> dict[str, Any]:
    return {split: {name: value for name, value in one.items() if name != "report"} for split, one in data.items()}


async def _version(
    session: AsyncSession, person: Person, text: str, kinds: Sequence[RowKind], at: str
) -> dict[str, Any]:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise Problem(422, "invalid", f"{text[:200]!r} is not NAME@N, a version of a dataset")
    row = await ownership.find(session, person, Dataset, match["name"])
    version: DatasetVersion = await version_of(session, row, int(match["number"]))
    if version.state != "ready":
        raise Problem(409, "not_ready", f"{text} is {version.state}: only a checked version can be learned from")
    if version.kind not in kinds:
        raise Problem(422, "invalid", f"{text} has {version.kind} rows: {at} needs {' or '.join(kinds)}")
    return {
        "id": version.id, "name": row.name, "number": version.number, "sha256": version.sha256, "rows": version.rows,
        "report": version.report,
    }  # fmt: skip


async def _smallest_device(session: AsyncSession, spec: JobSpec) -> int | None:
    """MiB of the smallest device of a worker that could run it; None: no worker is known."""
    workers = [row for row in await session.scalars(select(TrainerRow)) if spec.recipe in row.recipes]
    return min((one["memory_mib"] for row in workers for one in row.devices if one["memory_mib"]), default=None)


async def _speed(session: AsyncSession, spec: JobSpec) -> float | None:
    """Tokens per second of the last job with this base model and recipe; None: there was none."""
    query = select(TrainingJob).where(TrainingJob.state == "succeeded").order_by(TrainingJob.ended_at.desc()).limit(200)
    for job in await session.scalars(query):
        speed = job.latest.get("tokens_per_second")
        if speed and job.spec["recipe"] == spec.recipe and job.spec["base"]["id"] == spec.base.id:
            return float(speed)
    return None
