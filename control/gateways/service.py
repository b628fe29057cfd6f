"""The gateways' reports: the last one of each is kept, those of gateways that are gone are swept after a day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.gateways import breakers
from control.gateways.breakers import LIVE
from control.gateways.schemas import TargetHealth
from control.kit.periodic import every
from control.kit.upsert import upsert
from control.models import GatewayRow
from control.models.base import now
from control.snapshots.render import NUMBERED
from gateway.contract.internal import GatewayStatus, TargetStatus

KEPT = timedelta(days=1)
"""How long a gateway that is gone stays in the list."""
SWEEP = 3600.0
"""Seconds between looks for what is over."""


async def store(session: AsyncSession, status: GatewayStatus) -> None:
    """Keep the report in place of the gateway's last one, and what it says of breakers."""
    moment = now()
    query = select(GatewayRow.reported_at).where(GatewayRow.gateway == status.gateway).with_for_update()
    await breakers.follow(session, status, await session.scalar(query), moment)
    row = {
        "gateway": status.gateway, "version": status.version, "snapshot": status.snapshot,
        "started_at": datetime.fromtimestamp(status.started, UTC), "reported_at": moment,
        "targets": [target.model_dump(mode="json") for target in status.targets],
    }  # fmt: skip
    table = GatewayRow.__table__
    assert isinstance(table, Table)
    changed = [name for name in row if name != "gateway"]
    await upsert(session, table, ["gateway"], [row], lambda new: {name: new[name] for name in changed})


async def live(session: AsyncSession) -> Sequence[GatewayRow]:
    """Reports of the gateways that run now."""
    query = select(GatewayRow).where(GatewayRow.reported_at > now() - LIVE).order_by(GatewayRow.gateway)
    return (await session.scalars(query)).all()


def merged(rows: Iterable[GatewayRow]) -> list[TargetHealth]:
    """Health of each target over all gateways, and over all credentials of its endpoint, by id."""
    found: dict[str, list[TargetStatus]] = {}
    for row in rows:
        for raw in row.targets:
            target = TargetStatus.model_validate(raw)
            endpoint = target.endpoint.partition(NUMBERED)[0]
            found.setdefault(endpoint + target.id[len(target.endpoint) :], []).append(target)
    return [_sum(target_id, parts) for target_id, parts in sorted(found.items())]


def _sum(target_id: str, parts: Sequence[TargetStatus]) -> TargetHealth:
    times = [part.first_content_ms for part in parts if part.first_content_ms is not None]
    return TargetHealth(
        id=target_id,
        endpoint=parts[0].endpoint.partition(NUMBERED)[0],
        model=parts[0].model,
        closed=sum(part.breaker == "closed" for part in parts),
        half_open=sum(part.breaker == "half_open" for part in parts),
        open=sum(part.breaker == "open" for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        first_content_ms=sum(times) / len(times) if times else None,
        successes=sum(part.successes for part in parts),
        failures=sum(part.failures for part in parts),
    )


async def sweep(db: Database, moment: datetime) -> None:
    """Forget gateways that have been gone for a day."""
    async with db.write() as session:
        old = GatewayRow.reported_at < moment - KEPT
        query = select(GatewayRow.gateway, GatewayRow.reported_at).where(old)
        for name, reported in (await session.execute(query)).all():
            await breakers.end(session, name, reported)
        await session.execute(delete(GatewayRow).where(old))


async def keep_sweeping(db: Database) -> None:
    """Sweep every hour until cancelled."""
    await every(SWEEP, lambda: sweep(db, now()), "old reports of gateways cannot be deleted now")
