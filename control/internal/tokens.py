"""Service tokens: what a gateway shows on the internal API. Shown once, stored as a digest."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import duplicate, not_found
from control.kit.audit import Actor, note
from control.models import ServiceToken
from control.models.base import new_id, now
from control.security import new_token, sha256


async def new_service_token(session: AsyncSession, actor: Actor, name: str) -> str:
    """Make a token and return its secret."""
    if await session.scalar(select(ServiceToken.id).where(ServiceToken.name == name)):
        raise duplicate("service token", name)
    secret = new_token("st-tg-")
    session.add(
        ServiceToken(
            id=new_id(), name=name, digest=sha256(secret), prefix=secret[:12], created_at=now(), created_by=actor.name
        )
    )
    note(session, actor, "create", "service_token", name, after={"name": name})
    return secret


async def revoke_service_token(session: AsyncSession, actor: Actor, name: str) -> None:
    """From now on the token is answered 401."""
    row = await session.scalar(select(ServiceToken).where(ServiceToken.name == name))
    if row is None:
        raise not_found("service token", name)
    if row.revoked_at is None:
        row.revoked_at = now()
        note(session, actor, "revoke", "service_token", name)
