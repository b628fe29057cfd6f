"""Suites: made, filled version by version, and taken away."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Select

from control.comparisons import fit, schemas
from control.comparisons.sources import Sources
from control.errors import Problem, duplicate, invalid, not_found
from control.kit.audit import canonical, note
from control.kit.files import Files
from control.kit.membership import teams_of
from control.kit.ownership import find_to_change, is_theirs, owner_of, visible_to
from control.kit.pages import contains
from control.kit.permissions import Person
from control.models import ComparisonRun, Suite, SuiteCase, SuiteSchedule, SuiteVersion
from control.models.base import new_id, now
from control.security import Vault

BUSY = ("queued", "running")


async def listed(session: AsyncSession, person: Person, search: str | None) -> Select[Any]:
    """Query of the suites that a person sees, by name."""
    query = select(Suite).where(visible_to(Suite, person, await teams_of(session, person.id)))
    if search:
        query = query.where(contains(search, [Suite.name, Suite.description]))
    return query.order_by(Suite.name)


async def create(session: AsyncSession, person: Person, body: schemas.SuiteCreate) -> Suite:
    """A new suite."""
    if await session.scalar(select(Suite.id).where(Suite.name == body.name)):
        raise duplicate("suite", body.name)
    kind, owner = await owner_of(session, person, body.team, Suite)
    row = Suite(name=body.name, description=body.description, owner_kind=kind, owner=owner)
    session.add(row)
    await session.flush()
    note(session, person.actor, "create", "suite", row.name, after={"owner": owner, "description": row.description})
    return row


async def update(session: AsyncSession, person: Person, name: str, body: schemas.SuiteUpdate) -> Suite:
    """Change the description."""
    row = await find_to_change(session, person, Suite, name, row_version=body.row_version)
    if row.description != body.description:
        note(session, person.actor, "update", "suite", name, {"description": row.description}, body.model_dump())
        row.description = body.description
        row.row_version += 1
        await session.flush()
    return row


async def remove(session: AsyncSession, person: Person, name: str) -> list[str]:
    """Forget a suite with all its versions and runs; ids of the runs.

    Raises:
        Problem: 409 `in_use` while a run is under way.
    """
    row = await find_to_change(session, person, Suite, name)
    runs = (await session.scalars(select(ComparisonRun).where(ComparisonRun.suite_id == row.id))).all()
    if busy := [run.id for run in runs if run.state in BUSY]:
        raise Problem(409, "in_use", f"runs of {name!r} are under way: cancel first {', '.join(busy[:20])}")
    note(session, person.actor, "delete", "suite", name, before={"versions": row.latest, "runs": len(runs)})
    await session.delete(row)
    return [run.id for run in runs]


async def add_version(
    session: AsyncSession, files: Files, vault: Vault, person: Person, name: str, body: schemas.SuiteVersionCreate
) -> schemas.VersionMade:
    """The version with this content: a new one, or the one that has it already."""
    row = await find_to_change(session, person, Suite, name)
    sources = Sources(session, files, vault, person, row)
    cases = await sources.read(body.sources)
    if errors := fit.lacking([one.model_dump() for one in body.prompts], cases, "body.prompts"):
        raise invalid(errors)
    content = schemas.Content.model_validate(body.model_dump(include=set(schemas.Content.model_fields)))
    written: dict[str, Any] = content.model_dump(mode="json", exclude_unset=True)
    dumped = [case.model_dump(mode="json") for case in cases]
    sha256 = hashlib.sha256(canonical([written, dumped]).encode(errors="surrogatepass")).hexdigest()
    same = select(SuiteVersion.number).where(SuiteVersion.suite_id == row.id, SuiteVersion.sha256 == sha256)
    if (number := await session.scalar(same)) is not None:
        return schemas.VersionMade(number=number, made=False, skipped=dict(sources.skipped))
    row.latest += 1
    row.updated_at = moment = now()
    version = SuiteVersion(
        id=new_id(), suite_id=row.id, number=row.latest, sha256=sha256, content=written, cases=len(dumped),
        created_at=moment, created_by=person.username,
    )  # fmt: skip
    session.add(version)
    await session.flush()
    rows = [{"version_id": version.id, "number": at, "content": one} for at, one in enumerate(dumped, 1)]
    await session.execute(insert(SuiteCase), rows)
    after = {"sha256": sha256, "cases": len(dumped), "sources": [one.kind for one in body.sources]}
    note(session, person.actor, "add_version", "suite", f"{name}@{row.latest}", after=after)
    return schemas.VersionMade(number=row.latest, made=True, skipped=dict(sources.skipped))


async def versions_of(session: AsyncSession, row: Suite) -> Sequence[SuiteVersion]:
    """All versions of a suite, the newest first."""
    query = select(SuiteVersion).where(SuiteVersion.suite_id == row.id)
    return (await session.scalars(query.order_by(SuiteVersion.number.desc()))).all()


async def version_of(session: AsyncSession, row: Suite, number: int | None = None) -> SuiteVersion:
    """One version of a suite; without a number, the newest."""
    wanted = row.latest if number is None else number
    query = select(SuiteVersion).where(SuiteVersion.suite_id == row.id, SuiteVersion.number == wanted)
    found: SuiteVersion | None = await session.scalar(query)
    if found is None:
        raise not_found("version", f"{row.name}@{wanted}")
    return found


async def some_cases(session: AsyncSession, version: SuiteVersion, offset: int, limit: int) -> schemas.SuiteCases:
    """Cases of a version, in order."""
    query = select(SuiteCase).where(SuiteCase.version_id == version.id, SuiteCase.number > offset)
    rows = await session.scalars(query.order_by(SuiteCase.number).limit(limit))
    items = [schemas.NumberedCase.model_validate({"number": row.number, **row.content}) for row in rows]
    return schemas.SuiteCases(items=items, total=version.cases)


async def shown(session: AsyncSession, person: Person, suites: Sequence[Suite]) -> list[schemas.Suite]:
    """Suites with what their newest version holds."""
    ids = [row.id for row in suites]
    counted = select(ComparisonRun.suite_id, func.count()).where(ComparisonRun.suite_id.in_(ids))
    runs: dict[str, int] = dict((await session.execute(counted.group_by(ComparisonRun.suite_id))).all())
    newest = select(SuiteVersion.suite_id, SuiteVersion.cases).join(Suite, Suite.id == SuiteVersion.suite_id)
    newest = newest.where(Suite.id.in_(ids), SuiteVersion.number == Suite.latest)
    cases: dict[str, int] = dict((await session.execute(newest)).all())
    standing = await session.scalars(select(SuiteSchedule).where(SuiteSchedule.suite_id.in_(ids)))
    schedules = {row.suite_id: row for row in standing}
    return [
        schemas.Suite(
            name=row.name, description=row.description, owner_kind=row.owner_kind, owner=row.owner,  # type: ignore[arg-type]
            mine=await is_theirs(session, person, row), version=row.latest, cases=cases.get(row.id, 0),
            runs=runs.get(row.id, 0), scheduled=row.id in schedules and schedules[row.id].enabled,
            regressed=row.id in schedules and bool(schedules[row.id].regressions),
            created_at=row.created_at, updated_at=row.updated_at,
            row_version=row.row_version,
        )
        for row in suites
    ]  # fmt: skip


def version_shown(row: SuiteVersion) -> schemas.SuiteVersion:
    """A version as the API tells it."""
    content = schemas.Content.model_validate(row.content)
    return schemas.SuiteVersion(
        number=row.number, sha256=row.sha256, prompts=list(content.prompts), parameters=dict(content.parameters),
        scorers=list(content.scorers), cases=row.cases, created_at=row.created_at, created_by=row.created_by,
    )  # fmt: skip
