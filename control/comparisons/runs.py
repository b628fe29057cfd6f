"""Runs: begun, paused, gone on with, ended and taken away. `runner` does their work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Select

from control.comparisons import estimate, fit, run_schemas as schemas, suites
from control.comparisons.sources import contents
from control.db import lock
from control.errors import FieldError, Problem, invalid, not_found
from control.keys import service as keys
from control.keys.schemas import ApiKeyCreate
from control.kit.access import COMPARISONS
from control.kit.audit import note
from control.kit.membership import teams_of
from control.kit.ownership import find, find_to_change, is_theirs, visible_to
from control.kit.permissions import Person
from control.models import ApiKey, ComparisonCell, ComparisonRun, ComparisonVerdict, Route, Suite, SuiteVersion
from control.models.base import new_id, now

OVER = ("done", "partial", "failed", "canceled")
SHOWN = 300
"""Characters of an answer in a list."""


async def prepared(
    session: AsyncSession, suite: Suite, body: schemas.RunCreate
) -> tuple[SuiteVersion, list[dict[str, Any]], schemas.RunEstimate]:
    """Version, candidates and estimate of what is asked for.

    Raises:
        Problem: 404 for a version, 422 for a route or a prompt that is not there, or too many cells.
    """
    version = await suites.version_of(session, suite, body.version)
    prompts = [one["name"] for one in version.content["prompts"]]
    candidates = await _candidates(session, body.candidates, prompts)
    cells = version.cases * len(candidates) * body.repeats
    if cells > schemas.MOST_CELLS:
        raise Problem(422, "too_many_cells", f"these are {cells} answers, {schemas.MOST_CELLS} is the most")
    matches = estimate.matches(version.content, version.cases, len(candidates), body.repeats)
    if matches > schemas.MOST_CELLS:
        raise Problem(422, "too_many_cells", f"these are {matches} pairs to judge, {schemas.MOST_CELLS} is the most")
    cases = await contents(session, version)
    return version, candidates, await estimate.of(session, version.content, cases, candidates, body.repeats)


async def _candidates(
    session: AsyncSession, asked: Sequence[schemas.Candidate], prompts: Sequence[str]
) -> list[dict[str, Any]]:
    rows = await session.scalars(select(Route).where(Route.name.in_([one.route for one in asked])))
    routes = {row.name: row.version for row in rows}
    found, errors = fit.expanded(asked, prompts, "body.candidates")
    errors += [
        FieldError(at=f"body.candidates.{number}.route", message=f"there is no route {one.route!r}")
        for number, one in enumerate(asked)
        if one.route not in routes
    ]
    if errors:
        raise invalid(errors)
    return [one | {"route_version": routes[one["route"]]} for one in found]


async def create(session: AsyncSession, person: Person, name: str, body: schemas.RunCreate) -> ComparisonRun:
    """A new run, which begins by itself."""
    suite = await find_to_change(session, person, Suite, name)
    version, candidates, expected = await prepared(session, suite, body)
    key = await key_of(session, person, body.key)
    await _check_drafts(session, candidates, key)
    settings = schemas.RunSettings.model_validate(body.model_dump(include=set(schemas.RunSettings.model_fields)))
    row = ComparisonRun(
        id=new_id(), suite_id=suite.id, version_id=version.id, note=body.note, key=key, candidates=candidates,
        settings=settings.model_dump(), estimate=expected.model_dump(mode="json"), state="queued", total=expected.cells,
        created_at=now(), created_by=person.username,
    )  # fmt: skip
    session.add(row)
    await session.flush()
    after = {
        "suite": f"{name}@{version.number}", "routes": sorted({one["route"] for one in candidates}), "paid_by": key,
        "cells": expected.cells, "estimate_nano": expected.cost_nano, "budget_nano": body.budget_nano,
    }  # fmt: skip
    note(session, person.actor, "create", "run", row.id, after=after)
    return row


async def _check_drafts(session: AsyncSession, candidates: Sequence[Mapping[str, Any]], key: str) -> None:
    names = select(Route.name).where(Route.name.in_([one["route"] for one in candidates]), Route.draft)
    drafts = sorted(await session.scalars(names))
    if drafts and not key.startswith(f"{COMPARISONS}@"):
        message = f"drafts are asked by your key {COMPARISONS!r} only: {', '.join(drafts)}"
        raise invalid([FieldError(at="body.key", message=message)])


async def key_of(session: AsyncSession, person: Person, asked: str | None) -> str:
    """Name of the key that pays; the person's own one is made if it is not there.

    Raises:
        Problem: 422 `unknown_key`, or 403.
    """
    if asked is not None:
        try:
            return (await keys.find_to_change(session, person, asked)).public_name
        except Problem as exc:
            raise Problem(422, "unknown_key", exc.detail) if exc.status == 404 else exc from exc
    query = select(ApiKey).where(ApiKey.public_name == f"{COMPARISONS}@{person.username}")
    key = await session.scalar(query)
    if key is None:
        await lock(session, "config")  # two runs begin at once: the second one finds what the first has made
        key = await session.scalar(query)
    if key is None:
        key, _ = await keys.create(
            session,
            person,
            ApiKeyCreate(name=COMPARISONS, note="For runs of suites; nobody has its secret."),
            for_runs=True,
        )
    if key.revoked_at is not None or not key.enabled:
        raise Problem(422, "unknown_key", f"your key {key.public_name!r} was revoked or is disabled: name another one")
    return key.public_name


async def listed(session: AsyncSession, person: Person, suite: str | None) -> Select[Any]:
    """Query of the runs that a person sees, the newest first."""
    seen = visible_to(Suite, person, await teams_of(session, person.id))
    query = select(ComparisonRun).join(Suite, Suite.id == ComparisonRun.suite_id).where(seen)
    if suite is not None:
        query = query.where(Suite.name == suite)
    return query.order_by(ComparisonRun.created_at.desc(), ComparisonRun.id.desc())


async def of_id(session: AsyncSession, person: Person, id: str, *, to_change: bool = False) -> ComparisonRun:
    """A run of a suite that the person may see (or change; it is locked then)."""
    query = select(Suite.name).join(ComparisonRun, ComparisonRun.suite_id == Suite.id).where(ComparisonRun.id == id)
    name = await session.scalar(query)
    try:
        await (find_to_change if to_change else find)(session, person, Suite, name or "")
    except Problem as exc:
        raise not_found("run", id) if exc.status == 404 else exc from exc
    row = await session.get(ComparisonRun, id, with_for_update=to_change or None, populate_existing=True)
    if row is None:
        raise not_found("run", id)
    return row


async def pause(session: AsyncSession, person: Person, id: str) -> ComparisonRun:
    """Begin nothing more; what is under way is still answered and kept."""
    row = await of_id(session, person, id, to_change=True)
    if row.state in OVER:
        raise Problem(409, "over", f"the run is {row.state}")
    if row.state == "queued":
        row.state = "paused"
    row.wanted = "pause"
    return _noted(session, person, row, "pause")


async def resume(session: AsyncSession, person: Person, id: str, body: schemas.RunResume) -> ComparisonRun:
    """Fill the cells that are not there."""
    row = await of_id(session, person, id, to_change=True)
    if not row.key:
        raise Problem(409, "recorded", "its answers are from the request log: there is nobody to ask")
    if row.state == "canceled" or (row.state in OVER and not body.failed_again and row.state != "failed"):
        raise Problem(409, "over", f"the run is {row.state}")
    if body.budget_nano is not None:
        row.settings = {**row.settings, "budget_nano": body.budget_nano}
    if body.failed_again and row.state == "running":
        raise Problem(409, "busy", "the run is under way: pause it first")
    if body.failed_again:
        failed = (ComparisonCell.run_id == row.id, ~ComparisonCell.ok)
        await session.execute(delete(ComparisonCell).where(*failed))
        row.failed = 0
        silent = (ComparisonVerdict.run_id == row.id, ComparisonVerdict.winner.is_(None))
        await session.execute(delete(ComparisonVerdict).where(*silent))
    if row.state != "running":
        row.state, row.claimed_until = "queued", None
    row.wanted, row.code, row.message, row.ended_at = "run", "", "", None
    return _noted(session, person, row, "resume")


async def cancel(session: AsyncSession, person: Person, id: str) -> ComparisonRun:
    """End it for good; its cells stay."""
    row = await of_id(session, person, id, to_change=True)
    if row.state in OVER:
        raise Problem(409, "over", f"the run is {row.state}")
    drop(row)
    return _noted(session, person, row, "cancel")


def drop(row: ComparisonRun) -> None:
    """End a run that is not over; what is under way is still answered."""
    if row.state in ("queued", "paused"):
        row.state, row.ended_at = "canceled", now()
    row.wanted = "cancel"


async def remove(session: AsyncSession, person: Person, id: str) -> None:
    """Forget a run with all its cells."""
    row = await of_id(session, person, id, to_change=True)
    if row.state in suites.BUSY:
        raise Problem(409, "in_use", f"the run is {row.state}: cancel it first")
    note(session, person.actor, "delete", "run", row.id, before={"state": row.state, "cells": row.done + row.failed})
    await session.delete(row)


def _noted(session: AsyncSession, person: Person, row: ComparisonRun, action: str) -> ComparisonRun:
    note(session, person.actor, action, "run", row.id, after={"done": row.done, "total": row.total})
    return row


async def shown(session: AsyncSession, person: Person, rows: Sequence[ComparisonRun]) -> list[schemas.Run]:
    """Runs as the API tells them."""
    query = select(SuiteVersion.id, SuiteVersion.number, Suite).join(Suite, Suite.id == SuiteVersion.suite_id)
    found = await session.execute(query.where(SuiteVersion.id.in_([row.version_id for row in rows])))
    versions = {id: (number, suite) for id, number, suite in found}
    items = []
    for row in rows:
        number, suite = versions[row.version_id]
        facts = {field: getattr(row, field) for field in schemas.Run.model_fields if hasattr(row, field)}
        left = row.total - row.done - row.failed + row.pairs - row.judged
        facts |= {
            "suite": suite.name, "version": number, "mine": await is_theirs(session, person, suite),
            "seconds_left": left / row.rate if row.state == "running" and row.rate > 0 else None,
        }  # fmt: skip
        items.append(schemas.Run.model_validate(facts))
    return items


async def some_cells(
    session: AsyncSession, row: ComparisonRun, *, case: int | None, failed: bool, offset: int, limit: int
) -> schemas.Cells:
    """Cells by case, candidate and repeat."""
    table = ComparisonCell
    query = select(table).where(table.run_id == row.id)
    if case is not None:
        query = query.where(table.case == case)
    if failed:
        query = query.where(~table.ok)
    total = await session.scalar(select(func.count()).select_from(query.subquery()))
    cells = await session.scalars(query.order_by(table.case, table.candidate, table.repeat).offset(offset).limit(limit))
    items = []
    for one in cells:
        text = (
            one.answer["text"] if one.answer else f"{(one.error or {}).get('code')}: {(one.error or {}).get('message')}"
        )
        items.append(
            schemas.CellSummary(
                case=one.case, candidate=one.candidate, repeat=one.repeat, ok=one.ok, text=text[:SHOWN],
                scores=one.scores, latency_ms=one.latency_ms, cost_nano=one.cost_nano,
            )
        )  # fmt: skip
    return schemas.Cells(items=items, total=total or 0)


async def some_verdicts(
    session: AsyncSession, row: ComparisonRun, *, case: int | None, offset: int, limit: int
) -> schemas.Verdicts:
    """What judges of pairs have said, by case, pair and repeat."""
    table = ComparisonVerdict
    scorers = (await version_of(session, row)).content.get("scorers", [])
    query = select(table).where(table.run_id == row.id)
    if case is not None:
        query = query.where(table.case == case)
    total = await session.scalar(select(func.count()).select_from(query.subquery()))
    ordered = query.order_by(table.case, table.first, table.second, table.repeat, table.scorer)
    fields = [name for name in schemas.Verdict.model_fields if name != "scorer"]
    items = [
        schemas.Verdict.model_validate(
            {name: getattr(one, name) for name in fields} | {"scorer": scorers[one.scorer]["name"]}
        )
        for one in await session.scalars(ordered.offset(offset).limit(limit))
    ]
    return schemas.Verdicts(items=items, total=total or 0)


async def cell(session: AsyncSession, row: ComparisonRun, case: int, candidate: int, repeat: int) -> schemas.Cell:
    """Everything of a cell."""
    found = await session.get(ComparisonCell, (row.id, case, candidate, repeat))
    if found is None:
        raise not_found("cell", f"{case}/{candidate}/{repeat}")
    return schemas.Cell.model_validate({field: getattr(found, field) for field in schemas.Cell.model_fields})


async def version_of(session: AsyncSession, row: ComparisonRun) -> SuiteVersion:
    """The version of the suite that a run asks."""
    version = await session.get(SuiteVersion, row.version_id)
    assert version is not None, "it goes with the suite, and so does the run"
    return version
