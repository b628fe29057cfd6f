"""People: created, changed, disabled; never deleted, since ledger and audit name them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.auth.service import create_user, end_sessions, generated_password, is_last_admin
from control.db import publish
from control.errors import Problem, not_found, stale
from control.kit.audit import note
from control.kit.permissions import Person
from control.models import User
from control.security import hash_password
from control.settings import OidcTable
from control.users.schemas import SsoLink, UserCreate, UserUpdate


async def create(session: AsyncSession, person: Person, body: UserCreate) -> tuple[User, str | None]:
    """Add a person; returns the password too if it was made here."""
    made = None if body.password is not None else generated_password()
    hashed = await hash_password(body.password or made or "")
    user = await create_user(
        session, person.actor, body.username, body.role, hashed, display_name=body.display_name, email=body.email,
        must_change_password=made is not None,
    )  # fmt: skip
    return user, made


async def find(session: AsyncSession, username: str, *, to_change: bool = False) -> User:
    """The person of this name, locked if it is going to be changed."""
    query = select(User).where(User.username == username)
    user = await session.scalar(query.with_for_update() if to_change else query)
    if user is None:
        raise not_found("user", username)
    return user


async def update(session: AsyncSession, person: Person, username: str, body: UserUpdate) -> User:
    """Change a person. The last enabled admin stays one: a system without would be locked for good."""
    user = await find(session, username, to_change=True)
    if user.row_version != body.row_version:
        raise stale("user")
    before = facts(user)
    for field, value in body.model_dump(exclude={"row_version"}, exclude_none=True).items():
        setattr(user, field, value)
    leaves = (before["role"], before["enabled"]) == ("admin", True) and (user.role != "admin" or not user.enabled)
    if leaves and await is_last_admin(session, user.id):
        raise Problem(409, "last_admin", "this is the last admin: make another one first")
    if facts(user) == before:
        return user
    user.row_version += 1
    if (user.role, user.enabled) != (before["role"], before["enabled"]):
        await end_sessions(session, user)
        publish(session)  # the person's own keys follow
    note(session, person.actor, "update", "user", username, before, facts(user))
    return user


async def reset_password(session: AsyncSession, person: Person, username: str) -> str:
    """Give a person a new password, to be changed at the next login; every login ends."""
    user = await find(session, username, to_change=True)
    if user.sso_subject is not None:
        raise Problem(409, "sso_account", "this person signs in at the identity provider: end that link first")
    password = generated_password()
    user.password_hash, user.must_change_password = await hash_password(password), True
    user.failed_logins, user.locked_until = 0, None
    await end_sessions(session, user)
    note(session, person.actor, "reset_password", "user", username)
    return password


async def link(session: AsyncSession, oidc: OidcTable, person: Person, username: str, body: SsoLink) -> User:
    """Say whom the identity provider means by a subject. The password goes: an account has one way in."""
    if not oidc.issuer:
        raise Problem(409, "sso_off", "single sign-on is not configured: see [oidc] in the settings")
    if username == oidc.break_glass:
        raise Problem(409, "break_glass", "this account keeps its password, for when the identity provider is down")
    user = await find(session, username, to_change=True)
    if user.row_version != body.row_version:
        raise stale("user")
    if (user.sso_issuer, user.sso_subject) == (oidc.issuer, body.subject):
        return user
    query = select(User.username).where(User.sso_issuer == oidc.issuer, User.sso_subject == body.subject)
    if (other := await session.scalar(query)) is not None:
        raise Problem(409, "sso_taken", f"this subject is linked to the user {other!r}")
    before = facts(user)
    user.sso_issuer, user.sso_subject = oidc.issuer, body.subject
    user.password_hash, user.must_change_password = None, False
    user.row_version += 1
    await end_sessions(session, user)
    note(session, person.actor, "link_sso", "user", username, before, facts(user))
    return user


async def unlink(session: AsyncSession, person: Person, username: str) -> None:
    """End a link. The person has no way in until a password is made (`reset-password`), or another link."""
    user = await find(session, username, to_change=True)
    if user.sso_subject is None:
        raise not_found("single sign-on link of", username)
    before = facts(user)
    user.sso_issuer = user.sso_subject = None
    user.row_version += 1
    await end_sessions(session, user)
    note(session, person.actor, "unlink_sso", "user", username, before, facts(user))


def facts(user: User) -> dict[str, Any]:
    """What the audit log tells of a person."""
    return {
        "role": user.role, "enabled": user.enabled, "display_name": user.display_name, "email": user.email,
        "sso_subject": user.sso_subject,
    }  # fmt: skip
