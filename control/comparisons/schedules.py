"""Schedules: suites are asked by themselves, and what has become worse is said.

Whichever process of control finds a schedule due begins its run in the transaction that moves it to its next time, so
each time is one run whatever dies or runs twice. Times that went by while no control ran are made up by one run.
"""

from __future__ import annotations

import logging

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons import results, runs, schedule_schemas as schemas, suites
from control.comparisons.report_schemas import Change
from control.comparisons.run_schemas import RunCreate
from control.db import Database
from control.errors import Problem, not_found
from control.kit.audit import Actor, note
from control.kit.ownership import find_to_change
from control.kit.people import person_of
from control.kit.periodic import every
from control.kit.permissions import Person
from control.models import ComparisonRun, Suite, SuiteSchedule
from control.models.base import now

log = logging.getLogger("tunegate.control.schedules")

EVERY = 5.0
"""Seconds between two looks."""
ROBOT = Actor("schedule")


async def of(session: AsyncSession, suite: Suite) -> SuiteSchedule | None:
    """The schedule of a suite."""
    found: SuiteSchedule | None = await session.scalar(
        select(SuiteSchedule).where(SuiteSchedule.suite_id == suite.id).execution_options(populate_existing=True)
    )
    return found


async def put(session: AsyncSession, person: Person, name: str, body: schemas.ScheduleSet) -> SuiteSchedule:
    """Ask a suite by itself from now on, in the person's name. What it was compared with before stays.

    Raises:
        Problem: what `runs.create` would raise now.
    """
    suite = await find_to_change(session, person, Suite, name)
    await runs.prepared(session, suite, body.run)
    await runs.key_of(session, person, body.run.key)
    row = await of(session, suite)
    before = shown(row).model_dump(mode="json", include=set(schemas.ScheduleSet.model_fields)) if row else None
    if row is None:
        row = SuiteSchedule(suite_id=suite.id, regressions=[])
        session.add(row)
    row.times = body.model_dump(mode="json", exclude={"run", "enabled"})
    row.run, row.enabled, row.created_by = body.run.model_dump(mode="json"), body.enabled, person.username
    row.next_at, row.message = body.after(now(), now()), ""
    await session.flush()
    action = "update" if before else "create"
    note(session, person.actor, action, "schedule", name, before, body.model_dump(mode="json"))
    return row


async def remove(session: AsyncSession, person: Person, name: str) -> None:
    """Ask it by hand only; runs stay."""
    row = await _of_theirs(session, person, name)
    note(session, person.actor, "delete", "schedule", name, before=row.times)
    await session.delete(row)


async def accept(session: AsyncSession, person: Person, name: str) -> SuiteSchedule:
    """What the last run that was compared shows is how it should be: the next one is compared with it."""
    row = await _of_theirs(session, person, name)
    if row.judged is None or not row.regressions:
        raise Problem(409, "nothing_worse", f"nothing has become worse in the schedule of {name!r}")
    note(session, person.actor, "accept", "schedule", name, {"baseline": row.baseline}, {"baseline": row.judged})
    row.baseline, row.regressions = row.judged, []
    await session.flush()
    return row


async def _of_theirs(session: AsyncSession, person: Person, name: str) -> SuiteSchedule:
    row = await of(session, await find_to_change(session, person, Suite, name))
    if row is None:
        raise not_found("schedule", name)
    return row


def shown(row: SuiteSchedule) -> schemas.Schedule:
    """A schedule as the API tells it."""
    same = ("enabled", "run", "next_at", "last_run", "baseline", "regressions", "message", "created_by")
    return schemas.Schedule.model_validate(row.times | {field: getattr(row, field) for field in same})


async def run(db: Database) -> None:
    """Look at schedules until cancelled. Replicas may do so too: a row is locked while it is changed."""
    await every(EVERY, lambda: look(db), "schedules of suites cannot be looked at now")


async def look(db: Database) -> None:
    """Judge runs that are over, then begin what is due."""
    over = (SuiteSchedule.last_run != SuiteSchedule.judged) | SuiteSchedule.judged.is_(None)
    ended = select(SuiteSchedule.id).join(ComparisonRun, ComparisonRun.id == SuiteSchedule.last_run)
    due = (SuiteSchedule.enabled, SuiteSchedule.next_at <= now())
    async with db.read() as session:
        judged = list(await session.scalars(ended.where(over, ComparisonRun.state.in_(runs.OVER))))
        waiting = list(await session.scalars(select(SuiteSchedule.id).where(*due)))
    for id in judged:
        await _judge(db, id)
    for id in waiting:
        try:
            async with db.write() as session:
                if (row := await _locked(session, id, *due)) is not None:
                    await _begin(session, row)
        except Problem as exc:
            log.error("schedule %s: its run did not begin: %s", id, exc.detail)
            async with db.write() as session:
                if (row := await _locked(session, id, *due)) is not None:
                    row.message = f"the run of {row.next_at:%Y-%m-%d %H:%M} UTC did not begin: {exc.detail}"[:1000]
                    _move(row)


async def _locked(session: AsyncSession, id: str, *still: object) -> SuiteSchedule | None:
    query = select(SuiteSchedule).where(SuiteSchedule.id == id, *still)  # type: ignore[arg-type]
    found: SuiteSchedule | None = await session.scalar(query.with_for_update())
    return found


async def _begin(session: AsyncSession, row: SuiteSchedule) -> None:
    last = await session.get(ComparisonRun, row.last_run) if row.last_run is not None else None
    if last is not None and last.state in suites.BUSY:
        raise Problem(409, "busy", "the one before is still under way")
    suite = await session.get_one(Suite, row.suite_id)
    person = await person_of(session, row.created_by, "comparisons:own")
    begun = await runs.create(session, person, suite.name, RunCreate.model_validate(row.run))
    row.last_run, row.message = begun.id, ""
    _move(row)


def _move(row: SuiteSchedule) -> None:
    row.next_at = schemas.Times.model_validate(row.times).after(now(), row.next_at)


async def _judge(db: Database, id: str) -> None:
    """Compare the last run with the baseline."""
    async with db.read() as session:
        row = await session.get_one(SuiteSchedule, id)
        fresh = await session.get(ComparisonRun, row.last_run)
        earlier = await session.get(ComparisonRun, row.baseline) if row.baseline is not None else None
        if fresh is None:
            return  # it was deleted this very moment
        whole = fresh.state == "done"
        worse: list[Change] = []
        if fresh.state in ("done", "partial") and earlier is not None:
            found = await results.against(session, await results.load(session, fresh), earlier)
            worse = [one for one in found.changes if one.verdict == "worse"]
    async with db.write() as session:
        undone = or_(SuiteSchedule.judged.is_(None), SuiteSchedule.judged != fresh.id)
        same = await _locked(session, id, undone, SuiteSchedule.baseline.is_not_distinct_from(row.baseline))
        if same is None:
            return  # another process was first
        same.judged, same.message = fresh.id, "" if whole else f"the last run is {fresh.state}: {fresh.failed} failed"
        if fresh.state in ("done", "partial"):
            same.regressions = [one.model_dump(mode="json") for one in worse]
        if whole and not worse:
            same.baseline = fresh.id
        if worse:
            suite = await session.get_one(Suite, same.suite_id)
            said = [f"{one.candidate}: {one.scorer}: {one.difference.value:+.3f}" for one in worse]
            log.warning("suite %s: worse than in run %s: %s", suite.name, row.baseline, "; ".join(said))
            after = {"run": fresh.id, "against": row.baseline, "worse": said}
            note(session, ROBOT, "regression", "suite", suite.name, after=after)
