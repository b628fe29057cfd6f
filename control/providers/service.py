"""Endpoints: added, changed, taken away. Every change is made under the lock that changes of routes take too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import lock
from control.errors import Problem, duplicate, invalid, not_found, stale
from control.kit.audit import note
from control.kit.permissions import Person
from control.kit.schemas import EndpointSpec
from control.models import Credential, Endpoint, Route
from control.providers import check
from control.providers.schemas import EndpointCreate, EndpointUpdate


async def create(session: AsyncSession, person: Person, body: EndpointCreate) -> Endpoint:
    """Add an endpoint."""
    await lock(session, "config")
    if await session.scalar(select(Endpoint.id).where(Endpoint.name == body.name)):
        raise duplicate("endpoint", body.name)
    spec = stored(body.spec)
    if problems := check.problems(body.provider, spec):
        raise invalid(problems)
    endpoint = Endpoint(name=body.name, provider=body.provider, spec=spec, enabled=body.enabled)
    session.add(endpoint)
    await session.flush()
    note(session, person.actor, "create", "endpoint", body.name, after=facts(endpoint))
    return endpoint


async def find(session: AsyncSession, name: str) -> Endpoint:
    """The endpoint of this name."""
    endpoint = await session.scalar(select(Endpoint).where(Endpoint.name == name))
    if endpoint is None:
        raise not_found("endpoint", name)
    return endpoint


async def find_to_change(session: AsyncSession, name: str) -> Endpoint:
    """The endpoint of this name; nobody else changes endpoints or routes until the transaction ends."""
    await lock(session, "config")
    return await find(session, name)


async def update(session: AsyncSession, person: Person, name: str, body: EndpointUpdate) -> Endpoint:
    """Change an endpoint. Its credentials do not follow it to another host: they must be given again."""
    endpoint = await find_to_change(session, name)
    if endpoint.row_version != body.row_version:
        raise stale("endpoint")
    before, held = facts(endpoint), await credentials_of(session, [endpoint])
    if body.spec is not None:
        spec = stored(body.spec)
        if problems := check.problems(endpoint.provider, spec):
            raise invalid(problems)
        if held and not body.drop_credentials and check.binding(spec) != check.binding(endpoint.spec):
            raise Problem(
                409,
                "credential_bound",
                f"the credentials of {name!r} are bound to its host, scheme, port, proxy and ca_file: send "
                "drop_credentials: true, and give the secrets again afterwards",
            )
        endpoint.spec = spec
    if body.enabled is not None:
        endpoint.enabled = body.enabled
    dropped = held if body.drop_credentials else []
    for credential in dropped:
        await session.delete(credential)
        note(session, person.actor, "delete", "credential", f"{name}/{credential.name}")
    if facts(endpoint) == before and not dropped:
        return endpoint
    endpoint.row_version += 1
    await session.flush()
    note(session, person.actor, "update", "endpoint", name, before, facts(endpoint))
    return endpoint


async def delete(session: AsyncSession, person: Person, name: str) -> None:
    """Take an endpoint away with its credentials, unless a route still uses it."""
    endpoint = await find_to_change(session, name)
    if used := await routes_with(session, name):
        shown = ", ".join(used[:20]) + (", …" if len(used) > 20 else "")
        raise Problem(409, "in_use", f"the endpoint {name!r} is used by routes: {shown}")
    for credential in await credentials_of(session, [endpoint]):
        await session.delete(credential)
        note(session, person.actor, "delete", "credential", f"{name}/{credential.name}")
    await session.flush()
    await session.delete(endpoint)
    note(session, person.actor, "delete", "endpoint", name, before=facts(endpoint))


async def routes_with(session: AsyncSession, name: str) -> list[str]:
    """Routes, disabled ones too, that have a target or their shadow at this endpoint."""
    rows = await session.scalars(select(Route).order_by(Route.name))
    return [row.name for row in rows if name in _endpoints_of(row.spec)]


def _endpoints_of(spec: dict[str, Any]) -> set[str]:
    shadow = spec.get("shadow")
    return {target["endpoint"] for target in [*spec["target"], *([shadow] if shadow else [])]}


async def credentials_of(session: AsyncSession, endpoints: Iterable[Endpoint]) -> list[Credential]:
    """Credentials of these endpoints, in the order in which they were added."""
    ids = [endpoint.id for endpoint in endpoints]
    query = select(Credential).where(Credential.endpoint_id.in_(ids))
    return list(await session.scalars(query.order_by(Credential.created_at, Credential.id)))


def stored(spec: EndpointSpec) -> dict[str, Any]:
    """The settings as they are kept."""
    return spec.model_dump(mode="json", by_alias=True)


def facts(endpoint: Endpoint) -> dict[str, Any]:
    """What the audit log tells of an endpoint."""
    return {"provider": endpoint.provider, "spec": endpoint.spec, "enabled": endpoint.enabled is not False}
