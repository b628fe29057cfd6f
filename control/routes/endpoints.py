"""`/api/v1/routes`: public model names. People without `routes:write` see what they may use, without its settings.

Names may hold slashes, so the paths below a route come before the route itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import select

from control import models
from control.deps import Db, Parts, allow
from control.errors import Problem
from control.keys import service as keys
from control.kit.pages import Page, Paging, Search, contains, paginate
from control.kit.permissions import Person
from control.kit.schemas import RouteSpec
from control.routes import explain, grants, service
from control.routes.diff import differences
from control.routes.schemas import (
    Checked,
    Differences,
    Explanation,
    Grant,
    Granted,
    GrantsUpdate,
    Number,
    Rollback,
    Route,
    RouteCheck,
    RouteCreate,
    RouteGrants,
    RouteUpdate,
    RouteVersion,
    RouteVersionSummary,
)
from gateway.contract.snapshot import Price

router = APIRouter(prefix="/routes", tags=["routes"])
Reader = Annotated[Person, Depends(allow("routes:read"))]
Writer = Annotated[Person, Depends(allow("routes:write"))]
Granter = Annotated[Person, Depends(allow("grants:write"))]
Name = Annotated[str, Path(max_length=250)]


@router.get("")
async def list_routes(
    session: Db, person: Reader, paging: Paging, search: Search = None, enabled: bool | None = None
) -> Page[Route]:
    """Routes, by name."""
    query = select(models.Route).where(await service.visible_to(session, person)).order_by(models.Route.name)
    if search:
        query = query.where(contains(search, [models.Route.name]))
    if enabled is not None:
        query = query.where(models.Route.enabled == enabled)
    granted = await grants.summaries(session) if person.may("grants:write") else None
    return await paginate(session, query, paging, lambda row: _shown(row, person, granted))


@router.post("", status_code=201)
async def create_route(body: RouteCreate, session: Db, person: Writer) -> Route:
    """Add a route."""
    return await _one(session, await service.create(session, person, body), person)


@router.post("/validate")
async def validate_route(body: RouteCheck, session: Db, _: Writer) -> Checked:
    """The problems that saving this route would answer, without saving it."""
    problems = await service.check(session, body)
    return Checked(ok=not problems, problems=problems)


@router.get("/{name:path}/versions")
async def list_route_versions(name: Name, session: Db, person: Writer, paging: Paging) -> Page[RouteVersionSummary]:
    """Versions of a route, the newest first."""
    route = await service.find(session, person, name)
    query = select(models.RouteVersion).where(models.RouteVersion.route_id == route.id)
    ordered = query.order_by(models.RouteVersion.number.desc())
    return await paginate(
        session, ordered, paging, lambda row: RouteVersionSummary.model_validate(row, from_attributes=True)
    )


@router.get("/{name:path}/versions/{number}")
async def get_route_version(name: Name, number: Number, session: Db, person: Writer) -> RouteVersion:
    """What a route was."""
    route = await service.find(session, person, name)
    return RouteVersion.model_validate(await service.version(session, route, number), from_attributes=True)


@router.get("/{name:path}/diff")
async def diff_route_versions(
    name: Name,
    session: Db,
    person: Writer,
    before: Annotated[Number, Query(description="Number of one version.")],
    after: Annotated[Number, Query(description="Number of the other.")],
) -> Differences:
    """What differs between two versions."""
    route = await service.find(session, person, name)
    old, new = await service.version(session, route, before), await service.version(session, route, after)
    return Differences(items=list(differences(old.spec, new.spec)))


@router.post("/{name:path}/rollback")
async def rollback_route(name: Name, body: Rollback, session: Db, person: Writer) -> Route:
    """Make a new version with the settings of an old one."""
    return await _one(session, await service.rollback(session, person, name, body), person)


@router.get("/{name:path}/grants")
async def get_route_grants(name: Name, session: Db, person: Granter) -> RouteGrants:
    """Who may use a route."""
    return await _grants(session, await service.find(session, person, name))


@router.put("/{name:path}/grants")
async def put_route_grants(name: Name, body: GrantsUpdate, session: Db, person: Granter) -> RouteGrants:
    """Let exactly these use a route; gateways know within two seconds."""
    return await _grants(session, await service.set_grants(session, person, name, body))


@router.get("/{name:path}/explain")
async def explain_route(
    name: Name,
    session: Db,
    parts: Parts,
    person: Writer,
    key: Annotated[str, Query(max_length=250, description="Public name of a key, `name@owner`.")],
) -> Explanation:
    """Whether a key may use a route and why, what limits it, and where its requests go."""
    route = await service.find(session, person, name)
    found = await keys.find(session, person, key)
    rendered = parts.publisher.current
    if rendered is None:
        raise Problem(503, "no_snapshot", "the database has not answered yet: try again", retry_after=1)
    return await explain.explain(session, rendered, route, found)


@router.get("/{name:path}")
async def get_route(name: Name, session: Db, person: Reader) -> Route:
    """One route."""
    return await _one(session, await service.find(session, person, name), person)


@router.patch("/{name:path}")
async def update_route(name: Name, body: RouteUpdate, session: Db, person: Writer) -> Route:
    """Change a route; gateways know within two seconds."""
    return await _one(session, await service.update(session, person, name, body), person)


@router.delete("/{name:path}", status_code=204)
async def delete_route(name: Name, session: Db, person: Writer) -> None:
    """Take a route away with its history; 409 while another one falls back to it."""
    await service.remove(session, person, name)


async def _grants(session: Db, route: models.Route) -> RouteGrants:
    held = [
        Grant.model_validate({"principal_kind": k, "principal": p}) for k, p in await grants.of(session, route.name)
    ]
    return RouteGrants(grants=held, row_version=route.row_version)


async def _one(session: Db, row: models.Route, person: Person) -> Route:
    return _shown(row, person, await grants.summaries(session, row.name) if person.may("grants:write") else None)


def _shown(row: models.Route, person: Person, granted: Mapping[str, Granted] | None) -> Route:
    return Route(
        name=row.name,
        aliases=row.spec.get("aliases", []),
        price=Price.model_validate(row.spec.get("price", {})),
        enabled=row.enabled,
        draft=row.draft,
        version=row.version,
        spec=RouteSpec.model_validate(row.spec) if person.may("routes:write") else None,
        granted=granted.get(row.name, Granted()) if granted is not None else None,
        created_at=row.created_at,
        updated_at=row.updated_at,
        row_version=row.row_version,
    )
