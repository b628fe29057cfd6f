"""`/api/v1/gateways` and `/api/v1/health/targets`: what the gateways' last reports say."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select

from control import models
from control.deps import Db, allow
from control.gateways import service
from control.gateways.breakers import LIVE
from control.gateways.schemas import Gateway, TargetsHealth
from control.kit.pages import Page, Paging, paginate
from control.kit.permissions import Person
from control.models.base import now

router = APIRouter(tags=["gateways"])
Reader = Annotated[Person, Depends(allow("usage:read"))]


@router.get("/gateways")
async def list_gateways(session: Db, _: Reader, paging: Paging) -> Page[Gateway]:
    """Gateways that have reported within a day, by name."""
    version = await session.scalar(select(models.Counter.value).where(models.Counter.name == "config")) or 0
    moment = now()
    query = select(models.GatewayRow).order_by(models.GatewayRow.gateway)
    return await paginate(session, query, paging, lambda row: _shown(row, version, moment))


@router.get("/health/targets")
async def get_target_health(session: Db, _: Reader) -> TargetsHealth:
    """Breakers, load and latency of the targets, summed over the gateways that run now."""
    rows = await service.live(session)
    return TargetsHealth(gateways=len(rows), items=service.merged(rows))


def _shown(row: models.GatewayRow, version: int, moment: datetime) -> Gateway:
    number = (row.snapshot or "").removeprefix("c")
    return Gateway(
        gateway=row.gateway,
        version=row.version,
        snapshot=row.snapshot,
        started_at=row.started_at,
        reported_at=row.reported_at,
        age_seconds=max(0.0, (moment - row.reported_at).total_seconds()),
        live=moment - row.reported_at < LIVE,
        snapshots_behind=max(0, version - int(number)) if number.isascii() and number.isdigit() else None,
    )
