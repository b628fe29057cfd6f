"""Jobs of the recipes `merge` and `evaluate`: which adapter they take. Versions are immutable and stay, so that the
name in the spec says it for good.
"""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import FieldError, Problem, invalid
from control.jobs import schemas
from control.kit import ownership
from control.kit.permissions import Person
from control.models import Adapter, AdapterVersion
from trainer.contract.spec import OF_AN_ADAPTER, BaseModelRef, JobSpec
from trainer.contract.worker import AdapterFiles

_REFERENCE = re.compile(r"(?P<name>[^@\s]+)@v(?P<number>[1-9]\d{0,8})")
ADVICE = {
    "merge": "a merge holds all weights of the base model in memory, in training.precision",
    "evaluate": "an evaluation holds the base model in memory, in training.precision, and training.micro_batch choices",
}


async def check(session: AsyncSession, person: Person, spec: JobSpec) -> schemas.JobChecked:
    """What is known of such a job before it is queued.

    Raises:
        Problem: 422 if the adapter is not there for this person, not whole, or of another base model.
    """
    match = _REFERENCE.fullmatch(spec.data.train)
    if match is None:
        raise _wrong(f"{spec.data.train[:200]!r} is not NAME@vN, a version of an adapter")
    try:
        await ownership.find(session, person, Adapter, match["name"])
    except Problem as exc:
        raise _wrong(exc.detail) from exc
    version = await source(session, spec)
    if version is None:
        raise _wrong(f"there is no version {spec.data.train}")
    if version.state != "ready" or version.kind != "lora":
        raise _wrong(f"{spec.data.train} is no adapter that is whole: it is {version.state}, kind {version.kind}")
    if BaseModelRef.model_validate(version.base) != spec.base:
        at, said = "body.spec.base", f"{spec.data.train} belongs to the base model {version.base['id']}"
        raise invalid([FieldError(at=at, message=said)])
    guess = schemas.Estimate(
        steps=None, tokens=None, memory_mib=None, seconds=None, fits=None, advice=ADVICE[spec.recipe]
    )
    return schemas.JobChecked(warnings=[], estimate=guess, refused="")


async def source(session: AsyncSession, spec: JobSpec) -> AdapterVersion | None:
    """The adapter version that a spec takes; None: it takes none, or there is none."""
    match = _REFERENCE.fullmatch(spec.data.train) if spec.recipe in OF_AN_ADAPTER else None
    if match is None:
        return None
    query = select(AdapterVersion).join(Adapter, Adapter.id == AdapterVersion.adapter_id)
    query = query.where(Adapter.name == match["name"], AdapterVersion.number == int(match["number"]))
    found: AdapterVersion | None = await session.scalar(query)
    return found


def files(version: AdapterVersion) -> AdapterFiles:
    """What a worker fetches of it."""
    hashes = {path: held["sha256"] for path, held in version.files.items()}
    return AdapterFiles(adapter=version.id, base_sha256=version.base_sha256, files=hashes)


def _wrong(message: str) -> Problem:
    return invalid([FieldError(at="body.spec.data.train", message=message)])
