"""`/api/v1/suites`: cases and what scores their answers, in versions that never change."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy.ext.asyncio import AsyncSession

from control import models
from control.comparisons import promptfoo, schedules, schemas, suites
from control.comparisons.schedule_schemas import SuiteDetail
from control.deps import Db, Parts, allow
from control.errors import FieldError, invalid
from control.kit.ownership import find
from control.kit.pages import Page, Paging, Search, paginate
from control.kit.permissions import Person

router = APIRouter(prefix="/suites", tags=["comparisons"])
Reader = Annotated[Person, Depends(allow("comparisons:list"))]
Writer = Annotated[Person, Depends(allow("comparisons:own"))]
Number = Annotated[int, Path(ge=1, le=2_000_000_000)]
Offset = Annotated[int, Query(ge=0, le=2_000_000_000)]
Limit = Annotated[int, Query(ge=1, le=200)]


@router.get("")
async def list_suites(session: Db, person: Reader, paging: Paging, search: Search = None) -> Page[schemas.Suite]:
    """Suites by name: all with `comparisons:read`, yours and your teams' without."""
    page = await paginate(session, await suites.listed(session, person, search), paging, lambda row: row)
    items = await suites.shown(session, person, page.items)
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("", status_code=201)
async def create_suite(body: schemas.SuiteCreate, session: Db, person: Writer) -> schemas.Suite:
    """A new suite, still without versions."""
    return (await suites.shown(session, person, [await suites.create(session, person, body)]))[0]


@router.get("/{name}")
async def get_suite(name: str, session: Db, person: Reader) -> SuiteDetail:
    """A suite with its versions, and when it is asked by itself."""
    row = await find(session, person, models.Suite, name)
    light = (await suites.shown(session, person, [row]))[0].model_dump()
    versions = [suites.version_shown(version) for version in await suites.versions_of(session, row)]
    schedule = await schedules.of(session, row)
    shown = schedules.shown(schedule) if schedule is not None else None
    return SuiteDetail(**light, versions=versions, schedule=shown)


@router.patch("/{name}")
async def update_suite(name: str, body: schemas.SuiteUpdate, session: Db, person: Writer) -> schemas.Suite:
    """Change a suite."""
    return (await suites.shown(session, person, [await suites.update(session, person, name, body)]))[0]


@router.delete("/{name}", status_code=204)
async def delete_suite(name: str, session: Db, parts: Parts, person: Writer) -> None:
    """Forget a suite with all its versions, runs and answers, for good."""
    for run in await suites.remove(session, person, name):
        await asyncio.to_thread(parts.files.remove, "comparisons", run)


@router.post("/{name}/versions", status_code=201)
async def create_suite_version(
    name: str, body: schemas.SuiteVersionCreate, session: Db, parts: Parts, person: Writer
) -> schemas.VersionMade:
    """The next version; the one that has just this content already, if there is one."""
    return await suites.add_version(session, parts.files, parts.vault, person, name, body)


@router.post("/{name}/promptfoo", status_code=201)
async def import_promptfoo(
    name: str, body: schemas.PromptfooImport, session: Db, parts: Parts, person: Writer
) -> schemas.Imported:
    """The next version from promptfoo's YAML: prompts, tests with variables, and assertions equals, contains,
    icontains, regex, is-json and llm-rubric. What has no meaning here is refused with its reason, or left out if you
    say so."""
    taken, left_out = await asyncio.to_thread(promptfoo.read, body.text, body.judge, body.leave_out)
    version = taken.version()
    if version is None:
        raise invalid([FieldError(at=f"body.text.{one.at}", message=one.message) for one in taken.problems])
    made = await suites.add_version(session, parts.files, parts.vault, person, name, version)
    routes = [schemas.Mapped(provider=provider, route=body.providers.get(provider, "")) for provider in taken.providers]
    return schemas.Imported(**made.model_dump(), providers=routes, left_out=left_out)


@router.get("/{name}/versions/{number}/cases")
async def list_suite_cases(
    name: str, number: Number, session: Db, person: Reader, offset: Offset = 0, limit: Limit = 20
) -> schemas.SuiteCases:
    """Cases of a version, in order."""
    return await suites.some_cases(session, await _version(session, person, name, number), offset, limit)


async def _version(session: AsyncSession, person: Person, name: str, number: int) -> models.SuiteVersion:
    return await suites.version_of(session, await find(session, person, models.Suite, name), number)
