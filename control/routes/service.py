"""Routes: every change of a spec is a new version. All checks are made under the lock of `config`, so that two edits
at the same time cannot build together what each alone could not (a fallback loop, the same alias twice).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, delete, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import lock
from control.errors import FieldError, Problem, duplicate, invalid, not_found, stale
from control.kit.access import granted_to
from control.kit.audit import note
from control.kit.membership import teams_of
from control.kit.permissions import Person
from control.models import Route, RouteVersion
from control.models.base import now
from control.routes import grants
from control.routes.check import Known, problems
from control.routes.schemas import Rollback, RouteCheck, RouteCreate, RouteUpdate


async def visible_to(session: AsyncSession, person: Person) -> ColumnElement[bool]:
    """Which routes a person sees: all with `routes:write`, else those that they may use."""
    if person.may("routes:write"):
        return true()
    granted = await granted_to(session, person.username, await teams_of(session, person.id))
    return Route.name.in_(granted)


async def find(session: AsyncSession, person: Person, name: str) -> Route:
    """A route that the person may see."""
    route = await session.scalar(select(Route).where(Route.name == name, await visible_to(session, person)))
    if route is None:
        raise not_found("route", name)
    return route


async def check(session: AsyncSession, body: RouteCheck) -> list[FieldError]:
    """What saving it would answer, without saving."""
    known = await Known.load(session)
    found = problems(body.name, body.spec, known)
    if body.new and body.name in known.routes:
        found.insert(0, FieldError(at="body.name", message=f"there is a route {body.name!r} already"))
    return found


async def create(session: AsyncSession, person: Person, body: RouteCreate) -> Route:
    """Add a route with its first version and its grants."""
    await lock(session, "config")
    known = await Known.load(session)
    if body.name in known.routes:
        raise duplicate("route", body.name)
    spec = _accepted(body.name, body.spec.model_dump(mode="json", by_alias=True), known)
    if body.grants and not person.may("grants:write"):
        raise Problem(403, "forbidden", "your role does not have the permission 'grants:write'")
    _check_draft(body.name, body.draft)
    route = Route(name=body.name, version=1, spec=spec, enabled=body.enabled, draft=body.draft)
    session.add(route)
    await session.flush()
    _keep_version(session, person, route, body.note)
    note(session, person.actor, "create", "route", body.name, after=facts(route))
    if body.grants:
        await grants.replace(session, person, body.name, body.grants)
    return route


async def update(session: AsyncSession, person: Person, name: str, body: RouteUpdate) -> Route:
    """Change a route; a spec that differs becomes its next version."""
    route, known = await _to_change(session, name, body.row_version)
    before = facts(route)
    if body.spec is not None:
        spec = _accepted(name, body.spec.model_dump(mode="json", by_alias=True), known)
        _set_spec(session, person, route, spec, body.note)
    if body.enabled is not None and body.enabled != route.enabled:
        if not body.enabled:
            _refuse_if_needed(known, name, "disable")
        elif body.spec is None:
            _accepted(name, route.spec, known)
        route.enabled = body.enabled
    if body.draft is not None and body.draft != route.draft:
        _check_draft(name, body.draft)
        if body.draft:
            _refuse_if_needed(known, name, "make a draft of")
        route.draft = body.draft
    if facts(route) == before:
        return route
    await _touch(session, route)
    note(session, person.actor, "update", "route", name, before, facts(route))
    return route


async def rollback(session: AsyncSession, person: Person, name: str, body: Rollback) -> Route:
    """Make a new version with the settings of an old one, which must still be valid today."""
    route, known = await _to_change(session, name, body.row_version)
    before, old = facts(route), await version(session, route, body.number)
    _set_spec(session, person, route, _accepted(name, old.spec, known), body.note or f"rollback to {old.number}")
    if facts(route) == before:
        return route
    await _touch(session, route)
    note(session, person.actor, "rollback", "route", name, before, facts(route))
    return route


async def remove(session: AsyncSession, person: Person, name: str) -> None:
    """Take a route away with its history and grants, unless another one falls back to it."""
    route, known = await _to_change(session, name, None)
    _refuse_if_needed(known, name, "delete")
    await grants.clear(session, name)
    await session.execute(delete(RouteVersion).where(RouteVersion.route_id == route.id))
    await session.delete(route)
    note(session, person.actor, "delete", "route", name, before=facts(route))


async def set_grants(session: AsyncSession, person: Person, name: str, body: Any) -> Route:
    """Replace who may use a route."""
    route, _ = await _to_change(session, name, body.row_version)
    if await grants.replace(session, person, name, body.grants):
        await _touch(session, route)
    return route


async def version(session: AsyncSession, route: Route, number: int) -> RouteVersion:
    """One version of a route."""
    query = select(RouteVersion).where(RouteVersion.route_id == route.id, RouteVersion.number == number)
    found = await session.scalar(query)
    if found is None:
        raise not_found("version", f"{route.name} {number}")
    return found


def facts(route: Route) -> dict[str, Any]:
    """What the audit log tells of a route."""
    return {
        "version": route.version, "spec": route.spec, "enabled": route.enabled is not False, "draft": bool(route.draft),
    }  # fmt: skip


async def _to_change(session: AsyncSession, name: str, row_version: int | None) -> tuple[Route, Known]:
    await lock(session, "config")
    known = await Known.load(session)
    route = known.routes.get(name)
    if route is None:
        raise not_found("route", name)
    if row_version is not None and route.row_version != row_version:
        raise stale("route")
    return route, known


def _accepted(name: str, spec: dict[str, Any], known: Known) -> dict[str, Any]:
    if found := problems(name, spec, known):
        raise invalid(found)
    return spec


def _check_draft(name: str, draft: bool) -> None:
    if draft and name.endswith("*"):
        raise invalid([FieldError(at="body.draft", message="a draft is one model: its name cannot end in *")])


def _set_spec(session: AsyncSession, person: Person, route: Route, spec: dict[str, Any], why: str) -> None:
    if spec != route.spec:
        route.spec = spec
        route.version += 1
        _keep_version(session, person, route, why)


def _keep_version(session: AsyncSession, person: Person, route: Route, why: str) -> None:
    session.add(
        RouteVersion(
            route_id=route.id, number=route.version, spec=route.spec, note=why, created_at=now(),
            created_by=person.username,
        )
    )  # fmt: skip


def _refuse_if_needed(known: Known, name: str, what: str) -> None:
    if needing := known.falling_back_to(name):
        text = ", ".join(needing[:20])
        raise Problem(409, "in_use", f"cannot {what} the route {name!r}: these routes fall back to it: {text}")


async def _touch(session: AsyncSession, route: Route) -> None:
    route.row_version += 1
    route.updated_at = now()
    await session.flush()
