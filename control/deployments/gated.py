"""Publishing through gates: what waits for one begins, or goes on once its run is over."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.adapters import schemas
from control.adapters.service import version_of
from control.comparisons import results, runs
from control.comparisons.gate import Gate, why_not
from control.db import Database
from control.deployments import canary, gates, rollout, service
from control.errors import Problem
from control.kit.ownership import find_to_change
from control.kit.people import person_of
from control.kit.periodic import every
from control.kit.permissions import Person
from control.models import Adapter, AdapterGate, ComparisonRun

log = logging.getLogger("tunegate.control.gates")

EVERY = 2.0
"""Seconds between two looks at runs of gates."""


async def promote(session: AsyncSession, person: Person, name: str, number: int, body: schemas.Promote) -> None:
    """Give a live version its share, now or once it has passed."""
    adapter = await find_to_change(session, person, Adapter, name)
    version = await version_of(session, adapter, number)
    await service.ready(session, adapter, version)
    price = body.price.model_dump(mode="json", exclude_none=True) if body.price is not None else None
    goal = {"share": body.share, "price": price}
    if await gates.hold(session, person, adapter, version, body.gate, goal) is None:
        await service.promote(session, person, name, number, body.share, body.price)


async def roll_out(session: AsyncSession, person: Person, name: str, number: int, body: schemas.RollOut) -> None:
    """Begin a rollout, now or once the version has passed."""
    adapter = await find_to_change(session, person, Adapter, name)
    version = await version_of(session, adapter, number)
    await rollout.ready(session, adapter, version)
    rule = await canary.checked(session, person, adapter, body.model_dump(mode="json", exclude={"gate"}))
    if await gates.hold(session, person, adapter, version, body.gate, {"rule": rule}) is None:
        await rollout.begin(session, person, name, number, rule)


async def run(db: Database) -> None:
    """Look at gates until cancelled. Replicas may do so too: a row is locked while it is ended."""
    await every(EVERY, lambda: look(db), "gates cannot be judged now")


async def look(db: Database) -> None:
    """End every gate whose run is over, and go on with what has waited."""
    over = or_(ComparisonRun.id.is_(None), ComparisonRun.state.in_(runs.OVER))
    query = select(AdapterGate.id).outerjoin(ComparisonRun, ComparisonRun.id == AdapterGate.run)
    async with db.read() as session:
        ids = list(await session.scalars(query.where(AdapterGate.state == "running", over)))
    for id in ids:
        async with db.read() as session:
            wrong = await _wrong(session, await session.get_one(AdapterGate, id))
        try:
            async with db.write() as session:
                if (row := await _running(session, id)) is not None:
                    gates.end(session, row, gates.ROBOT, "failed" if wrong else "passed", "; ".join(wrong))
                    if not wrong:
                        await _go_on(session, row)
        except Problem as exc:  # it has passed, but what waited for it is not possible any more
            log.error("gate %s: %s", id, exc.detail)
            async with db.write() as session:
                if (row := await _running(session, id)) is not None:
                    gates.end(session, row, gates.ROBOT, "passed", f"not published: {exc.detail}")


async def _running(session: AsyncSession, id: str) -> AdapterGate | None:
    query = select(AdapterGate).where(AdapterGate.id == id, AdapterGate.state == "running")
    row: AdapterGate | None = await session.scalar(query.with_for_update())
    return row


async def _wrong(session: AsyncSession, row: AdapterGate) -> list[str]:
    """Why it does not pass; empty: it does."""
    asked = await session.get(ComparisonRun, row.run)
    if asked is None:
        return ["its run was deleted"]
    if asked.state == "partial":
        return [f"{asked.failed} of {asked.total} answers are missing"]
    if asked.state != "done":
        return [f"its run is {asked.state}: {asked.message}" if asked.message else f"its run is {asked.state}"]
    made = await results.reported(session, asked)
    return why_not(Gate.model_validate(row.gate), row.served_name, asked.candidates, made)


async def _go_on(session: AsyncSession, row: AdapterGate) -> None:
    adapter = await session.get_one(Adapter, row.adapter_id)
    person = await person_of(session, row.created_by, "training:own")
    goal: dict[str, Any] = row.goal
    if "rule" in goal:
        await rollout.begin(session, person, adapter.name, row.number, goal["rule"])
    else:
        price = schemas.Promote.model_validate(goal).price
        await service.promote(session, person, adapter.name, row.number, goal["share"], price)
