"""Who works in the background: what somebody has asked for goes on in their name, as long as they may."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import Problem
from control.kit.permissions import Person, known_role
from control.models import User


async def person_of(session: AsyncSession, username: str, permission: str) -> Person:
    """Somebody with the rights that they have now, and no address.

    Raises:
        Problem: 409 `no_longer_allowed`: there is no such account any more, it is disabled, or lacks the permission.
    """
    user = await session.scalar(select(User).where(User.username == username))
    person = None if user is None or not user.enabled else Person(user.id, user.username, known_role(user.role), "")
    if person is None or not person.may(permission):
        raise Problem(409, "no_longer_allowed", f"{username!r}, in whose name this goes on, may not do it any more")
    return person
