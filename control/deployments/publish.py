"""Routes of adapters: `name@vN` for every version that is live, and `name` for what is published.

A new version takes a share of `name` beside the one that is there, then all of it; each step is a version of the
route, so going back is one, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import Problem, not_found
from control.kit.permissions import Person
from control.models import Adapter, AdapterVersion, Route, RouteVersion
from control.models.base import now
from control.routes import service as routes
from control.routes.schemas import Rollback, RouteCreate, RouteUpdate

WHOLE = 1000
"""Weights of a published route add up to this."""


def served_name(adapter: Adapter, version: AdapterVersion) -> str:
    """As requests and engines call a version."""
    return f"{adapter.name}@v{version.number}"


def in_name_of(username: str) -> Person:
    """Who deployed it has been allowed to; routes are written in their name."""
    return Person("", username, "operator", "")


async def route_of(session: AsyncSession, name: str) -> Route | None:
    """A route of this name."""
    found: Route | None = await session.scalar(select(Route).where(Route.name == name))
    return found


async def put_version_route(
    session: AsyncSession,
    person: Person,
    adapter: Adapter,
    name: str,
    endpoints: Sequence[str],
    price: Mapping[str, Any] | None,
) -> None:
    """The route `name@vN`, with these endpoints as its targets. Without a price, the one that it has stays."""
    price = price if price is not None else await price_of(session, name)
    spec = {"target": [_target(endpoint, name, price) for endpoint in endpoints]}
    await _put(session, person, adapter, name, spec, f"engines have {name}")


async def price_of(session: AsyncSession, name: str) -> Mapping[str, Any] | None:
    """What the route of a version says that it costs."""
    route = await route_of(session, name)
    prices = (one.get("price") for one in route.spec.get("target", ())) if route is not None else ()
    return next((price for price in prices if price is not None), None)


def _target(endpoint: str, name: str, price: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"endpoint": endpoint, "model": name} | ({} if price is None else {"price": dict(price)})


async def drop_version_route(session: AsyncSession, person: Person, name: str) -> None:
    """Take the route of a version away."""
    if await route_of(session, name) is not None:
        await routes.remove(session, person, name)


async def publish(
    session: AsyncSession, person: Person, adapter: Adapter, name: str, endpoints: Sequence[str], share: float
) -> Route:
    """Let a version answer a share of the requests to the adapter's name (the first one: all of them).

    Raises:
        Problem: 409 `name_taken` if a route of that name leads elsewhere.
    """
    route = await route_of(session, adapter.name)
    others = [one for one in versions_in(adapter.name, route) if one["model"] != name]
    if route is None or not others:
        share = 1.0
    mine = round(WHOLE * share)
    price = await price_of(session, name)
    targets = [_target(endpoint, name, price) | {"weight": mine} for endpoint in endpoints]
    if share < 1.0:
        before = sum(one.get("weight", 1) for one in others) or 1
        targets += [{**one, "weight": round((WHOLE - mine) * one.get("weight", 1) / before)} for one in others]
    spec = {**(route.spec if route is not None else {}), "target": targets}
    return await _put(session, person, adapter, adapter.name, spec, f"{name}: {share:.0%}")


async def roll_back(session: AsyncSession, person: Person, adapter: Adapter) -> Route:
    """Let the adapter's name lead where it led before its last change."""
    route = await route_of(session, adapter.name)
    if route is None:
        raise not_found("route", adapter.name)
    versions_in(adapter.name, route)
    query = select(RouteVersion).where(RouteVersion.route_id == route.id, RouteVersion.number < route.version)
    for before in await session.scalars(query.order_by(RouteVersion.number.desc())):
        if before.spec != route.spec:
            body = Rollback(row_version=route.row_version, number=before.number)
            return await routes.rollback(session, person, adapter.name, body)
    raise Problem(409, "nothing_before", f"the route {adapter.name!r} has led nowhere else before")


def versions_in(adapter: str, route: Route | None) -> list[dict[str, Any]]:
    """Targets of the adapter's route.

    Raises:
        Problem: 409 `name_taken` if it is another route, which only happens to have this name.
    """
    targets: list[dict[str, Any]] = list(route.spec.get("target", ())) if route is not None else []
    if any(not str(one.get("model", "")).startswith(f"{adapter}@v") for one in targets):
        raise Problem(409, "name_taken", f"the route {adapter!r} leads elsewhere: publish under another adapter name")
    return targets


async def _put(
    session: AsyncSession, person: Person, adapter: Adapter, name: str, spec: dict[str, Any], why: str
) -> Route:
    route = await route_of(session, name)
    if route is None:
        grants = [{"principal_kind": adapter.owner_kind, "principal": adapter.owner}]
        body = RouteCreate.model_validate({"name": name, "spec": spec, "note": why, "grants": grants})
        return await routes.create(session, person, body)
    if not route.enabled:
        route.enabled, route.updated_at = True, now()
    change = RouteUpdate.model_validate({"row_version": route.row_version, "spec": spec, "note": why})
    return await routes.update(session, person, name, change)
