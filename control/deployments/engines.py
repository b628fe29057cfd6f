"""Engines as workers tell of them: which can have an adapter version, and through which endpoint gateways reach one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.kit.permissions import Person
from control.models import AdapterVersion, Endpoint, TrainerRow
from control.models.base import now
from control.providers import service as endpoints
from control.providers.schemas import EndpointCreate
from trainer.contract.worker import EngineStatus

HEARD = timedelta(seconds=60)
"""A worker that has been silent for longer has no engines."""


class Placed(NamedTuple):
    """An engine, and whose it is."""

    worker: str
    engine: EngineStatus


async def known(session: AsyncSession) -> list[Placed]:
    """Engines of all workers that are heard of."""
    query = select(TrainerRow).where(TrainerRow.seen_at > now() - HEARD).order_by(TrainerRow.name)
    workers = await session.scalars(query)
    return [Placed(row.name, EngineStatus.model_validate(one)) for row in workers for one in row.engines]


def refusal(version: AdapterVersion, engine: EngineStatus) -> str:
    """Why an engine cannot have an adapter version; empty: it can."""
    if version.problems:
        return str(version.problems[0])
    if version.rank > engine.max_lora_rank:
        return f"its rank is {version.rank}, and the engine {engine.name!r} takes {engine.max_lora_rank} at most"
    if engine.max_loras < 1:
        return f"the engine {engine.name!r} takes no adapters (max_loras)"
    if version.base_sha256 and engine.base_sha256:
        same = version.base_sha256 == engine.base_sha256
    else:
        same = version.base["id"].rstrip("/") == engine.model.rstrip("/")
    return "" if same else f"it was trained on {version.base['id']}, and {engine.name!r} serves {engine.model}"


def fitting(version: AdapterVersion, engines: Sequence[Placed]) -> list[Placed]:
    """Engines that can have an adapter version."""
    return [placed for placed in engines if not refusal(version, placed.engine)]


async def endpoint_of(session: AsyncSession, person: Person, engine: EngineStatus) -> str:
    """Name of the endpoint that leads to an engine, made if there is none."""
    base_url = f"{engine.url.rstrip('/').removesuffix('/v1')}/v1"
    for endpoint in await session.scalars(select(Endpoint).order_by(Endpoint.name)):
        if str(endpoint.spec.get("base_url", "")).rstrip("/") == base_url and endpoint.enabled:
            return endpoint.name
    body = EndpointCreate.model_validate(
        {"name": f"engine-{engine.name}"[:64], "provider": "vllm", "spec": {"base_url": base_url}}
    )
    return (await endpoints.create(session, person, body)).name
