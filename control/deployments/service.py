"""Deployments: an adapter version is put onto engines, published under its name, and taken away again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.adapters.service import version_of
from control.comparisons.gate import Gate
from control.deployments import engines, gates, publish, reconcile
from control.errors import Problem
from control.kit.audit import note
from control.kit.ownership import find_to_change
from control.kit.permissions import Person
from control.models import Adapter, AdapterVersion, Deployment, Route
from control.models.base import now
from gateway.contract.snapshot import Price

DRAIN = timedelta(seconds=15)
"""From the end of a version's route to its unloading: gateways have heard of it by then."""


async def deploy(
    session: AsyncSession,
    person: Person,
    name: str,
    number: int,
    wanted: Sequence[tuple[str, str]] | None,
    share: float,
    price: Price | None = None,
    gate: Gate | None = None,
) -> list[Deployment]:
    """Put a version onto engines (all that can have it, unless some are named), and publish it once they have it.
    Without a price, its answers cost what those of its base model do. `gate` is instead of the adapter's own.

    Raises:
        Problem: 409 `not_servable` when no engine can have it, with the reason of each.
    """
    adapter = await find_to_change(session, person, Adapter, name)
    version = await version_of(session, adapter, number)
    if version.state != "ready":
        raise Problem(409, "not_ready", f"{name}@v{number} is {version.state}")
    publish.versions_in(name, await publish.route_of(session, name))
    there = await engines.known(session)
    chosen = [placed for placed in there if wanted is None or (placed.worker, placed.engine.name) in wanted]
    fitting = engines.fitting(version, chosen)
    if not fitting or (wanted is not None and len(fitting) < len(set(wanted))):
        reasons = [engines.refusal(version, placed.engine) for placed in chosen]
        why = "; ".join(dict.fromkeys(reason for reason in reasons if reason)) or "no engine is running here"
        raise Problem(409, "not_servable", f"{name}@v{number} cannot be served: {why}")
    publishing: dict[str, Any] = {"share": share}
    if price is not None:
        publishing["price"] = price.model_dump(mode="json", exclude_none=True)
    if gate is not None:
        await gates.checked(session, person, adapter, gate)
        publishing["gate"] = gate.model_dump(mode="json")
    rows = [await _placed(session, person, adapter, version, placed, publishing) for placed in fitting]
    after = {"engines": [f"{one.worker}/{one.engine}" for one in rows], **publishing}
    note(session, person.actor, "deploy", "adapter", f"{name}@v{number}", after=after)
    if all(row.state == "live" for row in rows):
        await reconcile.went_live(session, rows[0])
    return rows


async def _placed(
    session: AsyncSession,
    person: Person,
    adapter: Adapter,
    version: AdapterVersion,
    placed: engines.Placed,
    publishing: dict[str, Any],
) -> Deployment:
    query = select(Deployment).where(
        Deployment.adapter_version_id == version.id, Deployment.worker == placed.worker,
        Deployment.engine == placed.engine.name,
    )  # fmt: skip
    row = await session.scalar(query.with_for_update())
    if row is None:
        row = Deployment(
            adapter_version_id=version.id, served_name=publish.served_name(adapter, version), worker=placed.worker,
            engine=placed.engine.name, state="placing", created_by=person.username,
        )  # fmt: skip
        session.add(row)
    elif row.state in ("draining", "retired", "failed"):
        row.state, row.message, row.drain_until, row.created_by = "placing", "", None, person.username
    row.publish = publishing
    await session.flush()
    return row


async def promote(
    session: AsyncSession, person: Person, name: str, number: int, share: float, price: Price | None = None
) -> Route:
    """Let a live version answer a share of the requests to the adapter's name. Without a price, it keeps its own."""
    adapter = await find_to_change(session, person, Adapter, name)
    version = await version_of(session, adapter, number)
    names = await ready(session, adapter, version)
    publishing = {"share": share} | ({} if price is None else {"price": price.model_dump(mode="json")})
    note(session, person.actor, "promote", "adapter", f"{name}@v{number}", after=publishing)
    writer, served = publish.in_name_of(person.username), publish.served_name(adapter, version)
    if price is not None:
        said = price.model_dump(mode="json", exclude_none=True)
        await publish.put_version_route(session, writer, adapter, served, names, said)
    return await publish.publish(session, writer, adapter, served, names, share)


async def ready(session: AsyncSession, adapter: Adapter, version: AdapterVersion) -> list[str]:
    """The endpoints that have a version.

    Raises:
        Problem: 409 `not_live`: there is none; or `name_taken`.
    """
    publish.versions_in(adapter.name, await publish.route_of(session, adapter.name))
    live = await _of(session, version, ("live",))
    if not live:
        served = publish.served_name(adapter, version)
        raise Problem(409, "not_live", f"{served} is not live on any engine: deploy it first")
    return await reconcile.endpoints_of(session, live)


async def roll_back(session: AsyncSession, person: Person, name: str) -> Route:
    """Let the adapter's name lead where it led before."""
    adapter = await find_to_change(session, person, Adapter, name)
    route = await publish.roll_back(session, publish.in_name_of(person.username), adapter)
    note(session, person.actor, "rollback", "adapter", name, after={"target": route.spec["target"]})
    return route


async def retire(session: AsyncSession, person: Person, name: str, number: int) -> None:
    """Take a version from all engines: first its route goes, then, after a while, its weights.

    Raises:
        Problem: 409 `published` while the adapter's name leads to it.
    """
    adapter = await find_to_change(session, person, Adapter, name)
    version = await version_of(session, adapter, number)
    served = publish.served_name(adapter, version)
    route = await publish.route_of(session, name)
    if route is not None and any(one.get("model") == served for one in route.spec.get("target", ())):
        raise Problem(409, "published", f"the route {name!r} leads to {served}: publish another version first")
    rows = await _of(session, version, ("placing", "live", "degraded", "failed"))
    for row in rows:
        row.state, row.drain_until = "draining", now() + DRAIN
        row.row_version += 1
    if rows:
        await publish.drop_version_route(session, publish.in_name_of(person.username), served)
        note(session, person.actor, "retire", "adapter", served)


async def _of(session: AsyncSession, version: AdapterVersion, states: tuple[str, ...]) -> list[Deployment]:
    query = select(Deployment).where(Deployment.adapter_version_id == version.id, Deployment.state.in_(states))
    return list(await session.scalars(query))
