"""From what is wanted to what engines have: orders for a worker's engines, and what follows from what it reports.

placing → live ⇄ degraded → draining → retired,  or failed
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons.gate import Gate
from control.deployments import engines, gates, pricing, publish
from control.errors import Problem
from control.kit.audit import note
from control.kit.people import person_of
from control.models import Adapter, AdapterVersion, Deployment
from control.models.base import now
from trainer.contract.worker import AdapterOrder, EngineOrder, EngineStatus, Probe, WorkerStatus

log = logging.getLogger("tunegate.control.deployments")

WANTED = ("placing", "live", "degraded", "draining")
THERE = frozenset({"loaded", "evicted"})
"""States of an adapter in an engine in which a request for it is answered: an evicted one is loaded for it again."""


async def orders(session: AsyncSession, status: WorkerStatus) -> tuple[EngineOrder, ...]:
    """What each engine of a worker should have; takes over first what the worker says that they have."""
    query = (
        select(Deployment, AdapterVersion)
        .join(AdapterVersion, AdapterVersion.id == Deployment.adapter_version_id)
        .where(Deployment.worker == status.worker, Deployment.state.in_(WANTED))
        .order_by(Deployment.id)
    )
    rows = (await session.execute(query)).all()
    found = []
    for engine in status.engines:
        wanted = []
        for deployment, version in rows:
            if deployment.engine == engine.name:
                await _follow(session, deployment, engine)
                if deployment.state in WANTED:
                    wanted.append(_order(deployment, version))
        found.append(EngineOrder(engine=engine.name, adapters=tuple(wanted)))
    return tuple(found)


def _order(deployment: Deployment, version: AdapterVersion) -> AdapterOrder:
    return AdapterOrder(
        adapter=version.id, name=deployment.served_name, base_sha256=version.base_sha256,
        files={path: held["sha256"] for path, held in version.files.items()},
        probes=tuple(Probe.model_validate(one) for one in version.probes),
    )  # fmt: skip


async def _follow(session: AsyncSession, deployment: Deployment, engine: EngineStatus) -> None:
    said = next((one for one in engine.adapters if one.name == deployment.served_name), None)
    there = engine.state == "ready" and said is not None and said.state in THERE
    message = said.message if said is not None else f"the engine {engine.name!r} is {engine.state}"
    if deployment.state == "draining":
        if deployment.drain_until is not None and deployment.drain_until < now():
            _set(session, deployment, "retired", "")
    elif there and deployment.state != "live":
        _set(session, deployment, "live", "")
        deployment.live_at = deployment.live_at or now()
        await session.flush()
        await went_live(session, deployment)
    elif said is not None and said.state == "failed" and deployment.state == "placing":
        _set(session, deployment, "failed", said.message)
    elif not there and deployment.state == "live":
        _set(session, deployment, "degraded", message)


def _set(session: AsyncSession, deployment: Deployment, state: str, message: str) -> None:
    actor = publish.in_name_of(deployment.created_by).actor
    before = {"state": deployment.state}
    deployment.state, deployment.message = state, message[:2000]
    deployment.row_version += 1
    resource = f"{deployment.served_name} on {deployment.worker}/{deployment.engine}"
    note(session, actor, "deployment", "adapter", resource, before, {"state": state, "message": message})


async def went_live(session: AsyncSession, deployment: Deployment) -> None:
    """When every engine that should have a version has it: its route, and what was asked for besides."""
    query = select(Deployment).where(
        Deployment.adapter_version_id == deployment.adapter_version_id, Deployment.state.in_(WANTED)
    )
    all_of_it = (await session.scalars(query)).all()
    if any(one.state != "live" for one in all_of_it):
        return
    its = select(Adapter).join(AdapterVersion, AdapterVersion.adapter_id == Adapter.id)
    adapter = (await session.scalars(its.where(AdapterVersion.id == deployment.adapter_version_id))).one()
    person = publish.in_name_of(deployment.created_by)
    try:
        endpoints = await endpoints_of(session, all_of_it)
        price = next((one.publish["price"] for one in all_of_it if one.publish.get("price") is not None), None)
        if price is None and await publish.price_of(session, deployment.served_name) is None:
            price = await _price_of_base(session, all_of_it)
        await publish.put_version_route(session, person, adapter, deployment.served_name, endpoints, price)
        share = max((float(one.publish.get("share", 0.0)) for one in all_of_it), default=0.0)
        if share > 0 and not await _held(session, adapter, deployment, all_of_it, share):
            await publish.publish(session, person, adapter, deployment.served_name, endpoints, share)
        for one in all_of_it:
            one.publish = {}
    except Problem as exc:
        log.error("%s is live, but not published: %s", deployment.served_name, exc.detail)
        deployment.message = f"not published: {exc.detail}"[:2000]


async def _held(
    session: AsyncSession, adapter: Adapter, deployment: Deployment, all_of_it: Sequence[Deployment], share: float
) -> bool:
    """Whether the share waits for a gate."""
    said = next((one.publish["gate"] for one in all_of_it if one.publish.get("gate") is not None), None)
    if said is None and adapter.gate is None:
        return False
    version = await session.get_one(AdapterVersion, deployment.adapter_version_id)
    person = await person_of(session, deployment.created_by, "training:own")
    asked = Gate.model_validate(said) if said is not None else None
    return await gates.hold(session, person, adapter, version, asked, {"share": share, "price": None}) is not None


async def _places(session: AsyncSession, deployments: Sequence[Deployment]) -> list[tuple[str, str]]:
    """Endpoint of each engine that has these deployments, and what its base model is called there."""
    there = {(placed.worker, placed.engine.name): placed.engine for placed in await engines.known(session)}
    names = []
    for one in deployments:
        engine = there.get((one.worker, one.engine))
        if engine is not None:
            names.append((await engines.endpoint_of(session, publish.in_name_of(one.created_by), engine), engine.base))
    return sorted(set(names))


async def endpoints_of(session: AsyncSession, deployments: Sequence[Deployment]) -> list[str]:
    """Names of the endpoints of the engines that have these deployments."""
    return sorted({endpoint for endpoint, _ in await _places(session, deployments)})


async def _price_of_base(session: AsyncSession, deployments: Sequence[Deployment]) -> dict[str, Any] | None:
    places = await _places(session, deployments)
    return await pricing.of_base(session, [one for one, _ in places], [base for _, base in places])
