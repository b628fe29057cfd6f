"""Who may use a route: grants, read and replaced as a whole list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import FieldError, invalid
from control.kit.access import EVERYONE, ROUTE, Principal
from control.kit.audit import note
from control.kit.permissions import Person
from control.models import ApiKey, Grant, Team, User
from control.routes import schemas


async def of(session: AsyncSession, route: str) -> list[Principal]:
    """Principals of a route, sorted."""
    return sorted((row.principal_kind, row.principal) for row in await _rows(session, route))


async def summaries(session: AsyncSession, route: str | None = None) -> dict[str, schemas.Granted]:
    """Of each route that is granted to anybody, or of this one: by route."""
    query = select(Grant.resource, Grant.principal_kind, func.count()).where(Grant.resource_kind == ROUTE)
    if route is not None:
        query = query.where(Grant.resource == route)
    found: dict[str, schemas.Granted] = {}
    for name, kind, count in await session.execute(query.group_by(Grant.resource, Grant.principal_kind)):
        summary = found.setdefault(name, schemas.Granted())
        if kind == EVERYONE[0]:
            summary.everyone = True
        else:
            setattr(summary, f"{kind}s", count)
    return found


async def replace(session: AsyncSession, person: Person, route: str, wanted: Sequence[schemas.Grant]) -> bool:
    """Let exactly these use the route; whether that is a change."""
    await _check(session, wanted)
    target = {(grant.principal_kind, grant.principal) for grant in wanted}
    rows = {(row.principal_kind, row.principal): row for row in await _rows(session, route)}
    if target == set(rows):
        return False
    for principal in rows.keys() - target:
        await session.delete(rows[principal])
    for kind, name in sorted(target - rows.keys()):
        session.add(Grant(resource_kind=ROUTE, resource=route, principal_kind=kind, principal=name))
    await session.flush()
    note(session, person.actor, "grant", "route", route, _facts(rows), _facts(target))
    return True


async def clear(session: AsyncSession, route: str) -> None:
    """A route that is made later under this name must not inherit them."""
    for row in await _rows(session, route):
        await session.delete(row)


async def _rows(session: AsyncSession, route: str) -> Sequence[Grant]:
    return (await session.scalars(select(Grant).where(Grant.resource_kind == ROUTE, Grant.resource == route))).all()


async def _check(session: AsyncSession, wanted: Sequence[schemas.Grant]) -> None:
    asked: dict[str, set[str]] = {}
    for grant in wanted:
        asked.setdefault(grant.principal_kind, set()).add(grant.principal)
    there = {
        "everyone": {EVERYONE[1]},
        "user": set(await session.scalars(select(User.username).where(User.username.in_(asked.get("user", ()))))),
        "team": set(await session.scalars(select(Team.name).where(Team.name.in_(asked.get("team", ()))))),
        "key": set(
            await session.scalars(
                select(ApiKey.public_name).where(
                    ApiKey.public_name.in_(asked.get("key", ())), ApiKey.revoked_at.is_(None)
                )
            )
        ),
    }
    errors = [
        FieldError(at=f"body.grants.{number}.principal", message=_unknown(grant))
        for number, grant in enumerate(wanted)
        if grant.principal not in there[grant.principal_kind]
    ]
    if errors:
        raise invalid(errors)


def _unknown(grant: schemas.Grant) -> str:
    if grant.principal_kind == "everyone":
        return "must be empty for everyone"
    return f"there is no {grant.principal_kind} {grant.principal!r}"


def _facts(principals: Iterable[Principal]) -> dict[str, list[str]]:
    return {"grants": sorted(f"{kind}:{name}" if name else kind for kind, name in principals)}
