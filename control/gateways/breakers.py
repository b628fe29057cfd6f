"""When targets were kept from requests: spans of time, followed from each report of a gateway to the next.

What begins and ends between two reports, 5 seconds apart, is not seen. A gateway that has said nothing for `LIVE` is
gone, and so are its breakers: what they did afterwards nobody knows.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control.gateways.schemas import BreakerSpan as Shown, EndpointHistory
from control.models import BreakerSpan, GatewayRow
from control.models.base import now
from control.snapshots.render import NUMBERED
from gateway.contract.internal import STATUS_INTERVAL, GatewayStatus, TargetStatus

LIVE = timedelta(seconds=3 * STATUS_INTERVAL)
"""A gateway that has not reported for longer counts as gone."""
MOST = 1000
"""Spans of one answer."""


async def follow(session: AsyncSession, status: GatewayStatus, last: datetime | None, moment: datetime) -> None:
    """End and begin spans by what this report says, after one at `last` (None: it is the gateway's first)."""
    if last is not None and last < moment - LIVE:
        await end(session, status.gateway, last)
    query = select(BreakerSpan).where(BreakerSpan.gateway == status.gateway, BreakerSpan.ended_at.is_(None))
    running = {(row.target, row.credential): row for row in await session.scalars(query)}
    told = {_breaker(target): target for target in status.targets}
    for breaker, row in running.items():
        state = told[breaker].breaker if breaker in told else "gone"
        if row.state != state:
            row.ended_at, row.ended = moment, state
    for (target, credential), one in told.items():
        before = running.get((target, credential))
        if one.breaker != "closed" and (before is None or before.state != one.breaker):
            session.add(
                BreakerSpan(
                    gateway=status.gateway, endpoint=one.endpoint.partition(NUMBERED)[0], target=target,
                    credential=credential, state=one.breaker, error=one.error, began_at=moment, ended_at=None, ended="",
                )
            )  # fmt: skip


async def end(session: AsyncSession, gateway: str, moment: datetime) -> None:
    """The gateway is gone: what its breakers did ends with its last report."""
    query = update(BreakerSpan).where(BreakerSpan.gateway == gateway, BreakerSpan.ended_at.is_(None))
    await session.execute(query.values(ended_at=moment, ended="gone"))


async def history(session: AsyncSession, endpoint: str, since: datetime, until: datetime) -> EndpointHistory:
    """Spans of the endpoint's targets that lie at least partly in a time, the newest first."""
    query = select(BreakerSpan, GatewayRow.reported_at).outerjoin(GatewayRow, GatewayRow.gateway == BreakerSpan.gateway)
    query = query.where(BreakerSpan.endpoint == endpoint, BreakerSpan.began_at < until)
    query = query.where(or_(BreakerSpan.ended_at.is_(None), BreakerSpan.ended_at > since))
    query = query.order_by(BreakerSpan.began_at.desc(), BreakerSpan.id.desc())
    rows = (await session.execute(query.limit(MOST + 1))).all()
    items = [_shown(row, reported) for row, reported in rows[:MOST]]
    inside = [one for one in items if one.ended_at is None or one.ended_at > since]
    return EndpointHistory(since=since, until=until, items=inside, more=len(rows) > MOST)


def _breaker(one: TargetStatus) -> tuple[str, str]:
    """(target without the number of a credential, that number; empty for the first)."""
    endpoint, _, credential = one.endpoint.partition(NUMBERED)
    return endpoint + one.id[len(one.endpoint) :], credential


def _shown(row: BreakerSpan, reported: datetime | None) -> Shown:
    """`reported`: when its gateway reported last; None: it is forgotten, and the span ended before."""
    told = {name: getattr(row, name) for name in ("gateway", "target", "state", "error", "began_at")}
    if row.ended_at is None and reported is not None and reported < now() - LIVE:
        return Shown.model_validate(told | {"ended_at": reported, "ended": "gone"})
    return Shown.model_validate(told | {"ended_at": row.ended_at, "ended": row.ended or None})
