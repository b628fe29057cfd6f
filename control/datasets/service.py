"""Datasets: made, filled version by version, and taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Select

from control.datasets import rows, schemas
from control.db import Database
from control.errors import Problem, duplicate, not_found
from control.kit.audit import note
from control.kit.files import Files
from control.kit.membership import teams_of
from control.kit.ownership import find_to_change, is_theirs, owner_of, visible_to
from control.kit.pages import contains
from control.kit.permissions import Person
from control.models import Adapter, AdapterData, AdapterVersion, Dataset, DatasetVersion, TrainingJob
from control.models.base import new_id, now

OVER = ("succeeded", "canceled", "rejected")
"""States in which a job needs its data no more: `control.jobs.states.OVER`, which knows of datasets."""
STALLED = 3
"""Uploads of one dataset that may be unfinished at a time."""


async def listed(session: AsyncSession, person: Person, search: str | None) -> Select[Any]:
    """Query of the datasets that a person sees, by name."""
    query = select(Dataset).where(visible_to(Dataset, person, await teams_of(session, person.id)))
    if search:
        query = query.where(contains(search, [Dataset.name, Dataset.description]))
    return query.order_by(Dataset.name)


async def create(session: AsyncSession, person: Person, body: schemas.DatasetCreate) -> Dataset:
    """A new dataset."""
    if await session.scalar(select(Dataset.id).where(Dataset.name == body.name)) or await session.scalar(
        select(AdapterData.dataset).where(AdapterData.dataset == body.name).limit(1)
    ):
        raise duplicate("dataset", body.name)
    kind, owner = await owner_of(session, person, body.team)
    row = Dataset(name=body.name, description=body.description, owner_kind=kind, owner=owner)
    session.add(row)
    await session.flush()
    note(session, person.actor, "create", "dataset", row.name, after={"owner": owner, "description": row.description})
    return row


async def update(session: AsyncSession, person: Person, name: str, body: schemas.DatasetUpdate) -> Dataset:
    """Change the description."""
    row = await find_to_change(session, person, Dataset, name, row_version=body.row_version)
    if row.description != body.description:
        note(session, person.actor, "update", "dataset", name, {"description": row.description}, body.model_dump())
        row.description = body.description
        row.row_version += 1
        await session.flush()
    return row


async def remove(session: AsyncSession, person: Person, files: Files, name: str) -> list[str]:
    """Forget a dataset with all its rows; folders that are to be deleted once that is committed.

    Raises:
        Problem: 409 `in_use` while a job needs it: one that stopped or failed can go on until it is canceled.
    """
    row = await find_to_change(session, person, Dataset, name)
    versions = await versions_of(session, row)
    ids = {version.id for version in versions}
    jobs = await session.scalars(select(TrainingJob).where(TrainingJob.state.not_in(OVER)))
    needing = [f"{job.name} ({job.state})" for job in jobs if ids & {data["id"] for data in job.data.values()}]
    if needing:
        raise Problem(
            409, "in_use", f"the dataset {name!r} is needed by jobs: cancel or delete first {', '.join(needing[:20])}"
        )
    await session.execute(delete(DatasetVersion).where(DatasetVersion.dataset_id == row.id))
    await session.delete(row)
    facts = {"versions": [{"number": one.number, "sha256": one.sha256, "rows": one.rows} for one in versions]}
    note(session, person.actor, "delete", "dataset", name, before=facts)
    return [f"datasets/{version.id}" for version in versions]


async def versions_of(session: AsyncSession, row: Dataset) -> Sequence[DatasetVersion]:
    """All versions of a dataset, the newest first."""
    query = select(DatasetVersion).where(DatasetVersion.dataset_id == row.id)
    return (await session.scalars(query.order_by(DatasetVersion.number.desc()))).all()


async def version_of(session: AsyncSession, row: Dataset, number: int) -> DatasetVersion:
    """One version of a dataset."""
    query = select(DatasetVersion).where(DatasetVersion.dataset_id == row.id, DatasetVersion.number == number)
    found: DatasetVersion | None = await session.scalar(query)
    if found is None:
        raise not_found("version", f"{row.name}@{number}")
    return found


async def begin(
    session: AsyncSession,
    person: Person,
    row: Dataset,
    source: schemas.Source,
    filename: str,
    *,
    asked_format: str = "auto",
    parent: int | None = None,
) -> DatasetVersion:
    """The next version, which waits for its file. `row` is locked."""
    open_ones = select(func.count()).where(
        DatasetVersion.dataset_id == row.id, DatasetVersion.state.in_(("uploading", "checking"))
    )
    if (await session.scalar(open_ones) or 0) >= STALLED:
        raise Problem(409, "busy", f"{STALLED} versions of {row.name!r} are not finished: finish or delete one first")
    row.latest += 1
    row.updated_at = moment = now()
    version = DatasetVersion(
        id=new_id(), dataset_id=row.id, number=row.latest, state="uploading", source=source, parent=parent,
        filename=filename, asked_format=asked_format, size=0, created_at=moment, updated_at=moment,
        created_by=person.username,
    )  # fmt: skip
    session.add(version)
    await session.flush()
    note(session, person.actor, "begin_version", "dataset", f"{row.name}@{row.latest}", after={"source": source})
    return version


async def receive(
    db: Database,
    files: Files,
    person: Person,
    name: str,
    number: int,
    offset: int,
    pieces: AsyncIterator[bytes],
    most: int,
) -> int:
    """Write a piece of the file of a version that is uploading; how many bytes there are now."""
    async with db.read() as session:
        row = await find_to_change(session, person, Dataset, name)
        version = await version_of(session, row, number)
    if version.state != "uploading":
        raise Problem(409, "not_uploading", f"{name}@{number} is {version.state}: its file is not changed any more")
    size = await files.append(rows.source(files, version), offset, pieces, most)
    async with db.write() as session:
        held = await session.get(DatasetVersion, version.id, with_for_update=True)
        if held is None or held.state != "uploading":
            raise Problem(409, "not_uploading", f"{name}@{number} was finished meanwhile")
        held.size, held.updated_at = size, now()
    return size


async def check(session: AsyncSession, files: Files, version: DatasetVersion, size: int) -> None:
    """All of its file is there: let it be checked. Doing it twice changes nothing."""
    if version.state in ("checking", "ready", "rejected") and version.size == size:
        return
    path = rows.source(files, version)
    there = await asyncio.to_thread(lambda: path.stat().st_size if path.exists() else 0)
    if there != size:
        raise Problem(409, "incomplete", f"{there} of {size} bytes have arrived: send the rest from offset {there}")
    version.state, version.size, version.updated_at, version.claimed_until = "checking", size, now(), None
    await session.flush()


async def drop_version(session: AsyncSession, person: Person, name: str, number: int) -> str:
    """Take a version away that is not ready; the folder to be deleted once that is committed."""
    row = await find_to_change(session, person, Dataset, name)
    version = await version_of(session, row, number)
    if version.state == "ready":
        raise Problem(409, "immutable", f"{name}@{number} is ready: it stays as long as the dataset does")
    await session.delete(version)
    note(session, person.actor, "drop_version", "dataset", f"{name}@{number}", before={"state": version.state})
    return f"datasets/{version.id}"


async def used_by(session: AsyncSession, name: str, numbers: Iterable[int] | None = None) -> list[schemas.UsedBy]:
    """Adapter versions that have learned from a dataset (or from some of its versions)."""
    query = (
        select(Adapter.name, AdapterVersion.number, AdapterData.number)
        .join(AdapterVersion, AdapterVersion.id == AdapterData.adapter_version_id)
        .join(Adapter, Adapter.id == AdapterVersion.adapter_id)
        .where(AdapterData.dataset == name)
        .order_by(Adapter.name, AdapterVersion.number)
    )
    if numbers is not None:
        query = query.where(AdapterData.number.in_(list(numbers)))
    found = await session.execute(query)
    return [schemas.UsedBy(adapter=adapter, version=version, number=number) for adapter, version, number in found]


async def shown(session: AsyncSession, person: Person, datasets: Sequence[Dataset]) -> list[schemas.Dataset]:
    """Datasets with what their newest ready version holds."""
    found: dict[str, list[DatasetVersion]] = {row.id: [] for row in datasets}
    query = select(DatasetVersion).where(DatasetVersion.dataset_id.in_(list(found)))
    for version in await session.scalars(query.order_by(DatasetVersion.number.desc())):
        found[version.dataset_id].append(version)
    items = []
    for row in datasets:
        ready = next((version for version in found[row.id] if version.state == "ready"), None)
        items.append(
            schemas.Dataset(
                name=row.name, description=row.description, owner_kind=row.owner_kind, owner=row.owner,  # type: ignore[arg-type]
                mine=await is_theirs(session, person, row), versions=len(found[row.id]),
                kind=ready.kind if ready else "", rows=ready.rows if ready else 0, ready=ready.number if ready else 0,
                created_at=row.created_at, updated_at=row.updated_at, row_version=row.row_version,
            )
        )  # fmt: skip
    return items


def version_shown(version: DatasetVersion) -> schemas.DatasetVersion:
    """A version as the API tells it."""
    return schemas.DatasetVersion.model_validate(
        {field: getattr(version, field) for field in schemas.DatasetVersion.model_fields if field != "format"}
        | {"format": version.asked_format}
    )
