"""How an adapter version comes to be: from a job that succeeded, or from files that somebody uploads."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.kit.audit import Actor, note
from control.models import Adapter, AdapterData, AdapterEvaluation, AdapterVersion, TrainingAttempt, TrainingJob
from control.models.base import new_id, now
from trainer.contract.evaluation import Evaluated
from trainer.contract.spec import JobSpec

log = logging.getLogger("tunegate.control.adapters")


async def result(
    session: AsyncSession, job: TrainingJob, attempt: TrainingAttempt, source: AdapterVersion | None
) -> AdapterVersion:
    """What a job has come to: a new version, or of an evaluation the one that was asked, `source`; with its answers."""
    spec = JobSpec.model_validate(attempt.spec)
    evaluates = source is not None and spec.recipe == "evaluate"
    version = source if evaluates else await _register(session, spec, job, attempt, source)
    assert version is not None
    _keep_evaluation(session, job, attempt, version)
    return version


async def _register(
    session: AsyncSession, spec: JobSpec, job: TrainingJob, attempt: TrainingAttempt, source: AdapterVersion | None
) -> AdapterVersion:
    """The next version of the job's adapter, from the files that its last attempt has sent. `source`: the adapter
    version that it has merged; what that has learned from, the result has too.
    """
    query = select(Adapter).where(Adapter.name == spec.adapter_name).with_for_update()
    adapter = await session.scalar(query)
    if adapter is None:
        adapter = Adapter(name=spec.adapter_name, owner_kind=job.owner_kind, owner=job.owner, latest=0)
        session.add(adapter)
        await session.flush()
    adapter.latest += 1
    adapter.row_version += 1
    details: dict[str, Any] = dict(attempt.finished.get("details") or {})
    details.pop("evaluation", None)  # has a table of its own, since more may follow
    probes, base_sha256 = details.pop("probes", []), details.pop("base_sha256", "")
    full = spec.recipe in ("full_sft", "merge")
    data = [{key: held[key] for key in ("name", "number", "sha256")} for held in _learned(job)]
    data = list(source.data) if source is not None else data
    problems = (
        [f"{spec.recipe} makes a whole model: serve it as an engine of its own, not as an adapter"] if full else []
    )
    version = AdapterVersion(
        id=new_id(), adapter_id=adapter.id, number=adapter.latest, state="ready", source="job",
        kind="full" if full else "lora", folder=f"attempts/{attempt.id}", files=attempt.files,
        size=sum(one["size"] for one in attempt.files.values()), base=spec.base.model_dump(mode="json"),
        base_sha256=base_sha256, rank=0 if full else spec.lora.r,
        problems=problems or [one["message"] for one in job.warnings if one["code"] == "servable"],
        metrics=dict(attempt.finished.get("metrics") or job.latest), probes=probes, details=details, job=job.name,
        data=data,
        card=_card(spec, job, attempt), created_at=now(), created_by=job.created_by,
    )  # fmt: skip
    session.add(version)
    await session.flush()
    learned = {(held["name"], held["number"]) for held in data}
    session.add_all(AdapterData(adapter_version_id=version.id, dataset=one, number=number) for one, number in learned)
    facts = {"job": job.name, "files": {path: held["sha256"] for path, held in attempt.files.items()}}
    note(session, Actor("control"), "register", "adapter", f"{adapter.name}@v{version.number}", after=facts)
    return version


def _keep_evaluation(
    session: AsyncSession, job: TrainingJob, attempt: TrainingAttempt, version: AdapterVersion
) -> None:
    said = (attempt.finished.get("details") or {}).get("evaluation")
    held = job.data.get("evaluation")
    if said is None or held is None:
        return
    try:
        found = Evaluated.model_validate(said)
    except ValidationError:
        log.warning("the evaluation of attempt %s is none that this control knows", attempt.id)
        return
    session.add(
        AdapterEvaluation(
            id=attempt.id, adapter_version_id=version.id, data=f"{held['name']}@{held['number']}", job=job.name,
            found=found.model_dump(mode="json"), created_at=now(),
        )
    )  # fmt: skip


def _learned(job: TrainingJob) -> list[dict[str, Any]]:
    """Dataset versions of a job but for its questions, from which nothing is learned."""
    return [held for split, held in job.data.items() if split != "evaluation"]


def _card(spec: JobSpec, job: TrainingJob, attempt: TrainingAttempt) -> str:
    data = ", ".join(f"{held['name']}@{held['number']} ({held['rows']} rows)" for held in _learned(job))
    learned = (
        f"- Merged into the base model: {spec.data.train}" if spec.recipe == "merge" else f"- Learned from: {data}"
    )
    metrics = attempt.finished.get("metrics") or {}
    lines = [
        f"# {spec.adapter_name}", "",
        f"- Base model: {spec.base.id}" + (f" ({spec.base.revision})" if spec.base.revision else ""),
        f"- Recipe: {spec.recipe}", learned, f"- Steps: {attempt.finished.get('step', job.step)}",
        *(f"- {name}: {value:.4g}" for name, value in sorted(metrics.items())),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
