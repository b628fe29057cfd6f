"""`/api/v1/suites/{name}/schedule`: suites that are asked by themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from control.comparisons import schedule_schemas as schemas, schedules
from control.deps import Db, allow
from control.kit.permissions import Person

router = APIRouter(prefix="/suites/{name}/schedule", tags=["comparisons"])
Writer = Annotated[Person, Depends(allow("comparisons:own"))]


@router.put("")
async def put_schedule(name: str, body: schemas.ScheduleSet, session: Db, person: Writer) -> schemas.Schedule:
    """Ask the suite by itself, in your name. Each run is compared with the last one in which nothing was worse."""
    return schedules.shown(await schedules.put(session, person, name, body))


@router.delete("", status_code=204)
async def delete_schedule(name: str, session: Db, person: Writer) -> None:
    """Ask it by hand only; its runs stay."""
    await schedules.remove(session, person, name)


@router.post("/accept")
async def accept_regression(name: str, session: Db, person: Writer) -> schemas.Schedule:
    """What has become worse is how it should be: the next run is compared with the one that shows it."""
    return schedules.shown(await schedules.accept(session, person, name))
