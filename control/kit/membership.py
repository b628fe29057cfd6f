"""Which teams a person is in: for what people see of their teams' keys and usage."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.models import Membership, Team


async def teams_of(session: AsyncSession, user_id: str, *, managed: bool = False) -> Sequence[str]:
    """Names of the teams that a person is in (or manages)."""
    query = select(Team.name).join(Membership, Membership.team_id == Team.id).where(Membership.user_id == user_id)
    if managed:
        query = query.where(Membership.manager)
    return (await session.scalars(query)).all()
