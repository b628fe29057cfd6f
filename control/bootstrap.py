"""What the first `tunegate up` puts into an empty database: an admin, a service token, the local model and a key.

Every part is made only where it is missing, so a first start that was killed half-way is finished by the next one.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.auth.service import create_user
from control.kit.audit import Actor, note
from control.models import ApiKey, Endpoint, Grant, Route, RouteVersion, ServiceToken, User
from control.models.base import new_id, now
from control.security import hash_password, sha256
from gateway.contract import snapshot as wire
from gateway.contract.base import Wire

SYSTEM = Actor("system")
ADMIN = "admin"


class FirstRun(BaseModel):
    """What `tunegate up` asks for, as JSON on standard input."""

    password: str
    """Of the admin; to be changed at the first login."""
    service_token: str
    """For the gateway."""
    api_key: str
    """The first API key, of the admin."""
    endpoints: list[wire.Endpoint]
    """Accounts and URLs."""
    routes: list[wire.Route]
    """Public model names; everyone may use them."""


async def bootstrap(session: AsyncSession, first: FirstRun) -> None:
    """Make what is missing."""
    if await session.scalar(select(User.id).where(User.username == ADMIN)) is None:
        hashed = await hash_password(first.password)
        await create_user(session, SYSTEM, ADMIN, "admin", hashed, must_change_password=True)
    moment, digest = now(), sha256(first.service_token)
    if await session.scalar(select(ServiceToken.id).where(ServiceToken.digest == digest)) is None:
        name, prefix = f"local-{digest[:6]}", first.service_token[:12]
        session.add(
            ServiceToken(
                id=new_id(), name=name, digest=digest, prefix=prefix, created_at=moment, created_by=SYSTEM.name
            )
        )
        note(session, SYSTEM, "create", "service_token", name)
    for endpoint in first.endpoints:
        if await session.scalar(select(Endpoint.id).where(Endpoint.name == endpoint.name)) is None:
            spec = _spec(endpoint, "name", "provider")
            session.add(Endpoint(name=endpoint.name, provider=endpoint.provider, spec=spec))
            note(session, SYSTEM, "create", "endpoint", endpoint.name, after=spec)
    for route in first.routes:
        if await session.scalar(select(Route.id).where(Route.name == route.name)) is None:
            await _add_route(session, route)
    if await session.scalar(select(ApiKey.seq).where(ApiKey.digest == sha256(first.api_key))) is None:
        session.add(
            ApiKey(
                id=new_id(), public_name=f"first@{ADMIN}", name="first", owner_kind="user", owner=ADMIN,
                digest=sha256(first.api_key), prefix=first.api_key[:12], created_at=moment, updated_at=moment,
                created_by=SYSTEM.name, limits={"rpm": 600, "tpm": 1_000_000, "concurrency": 64},
                budgets=[{"amount": "10", "window": "day", "timezone": "UTC"}],
            )
        )  # fmt: skip
        note(session, SYSTEM, "create", "key", f"first@{ADMIN}")


async def _add_route(session: AsyncSession, route: wire.Route) -> None:
    spec = _spec(route, "name")
    row = Route(name=route.name, version=1, spec=spec)
    session.add(row)
    await session.flush()
    session.add(
        RouteVersion(route_id=row.id, number=1, spec=spec, created_at=now(), created_by=SYSTEM.name, note="first start")
    )
    session.add(Grant(resource_kind="route", resource=route.name, principal_kind="everyone"))
    note(session, SYSTEM, "create", "route", route.name, after=spec)


def _spec(model: Wire, *without: str) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude=set(without), exclude_unset=True)
