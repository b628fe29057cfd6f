"""Signing in: throttled passwords, short access tokens, refresh tokens that rotate and notice reuse."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control.deps import Control
from control.errors import Problem, duplicate
from control.kit.audit import Actor, note
from control.kit.permissions import Role
from control.models import RefreshSession, Team, User
from control.models.base import new_id, now
from control.security import hash_password, new_token, password_matches, sha256

FREE_TRIES = 5
"""Wrong passwords in a row before the account pauses."""
LONGEST_PAUSE = 900
"""Seconds; the pause doubles with each further failure up to this."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a sign-in gives: both tokens, in clear."""

    access: str
    refresh: str


def generated_password() -> str:
    """A random password of 120 bits."""
    return secrets.token_urlsafe(15)


async def login(control: Control, username: str, password: str, address: str) -> SignedIn:
    """Check a password. Wrong name and wrong password read the same; too many failures pause account or network.

    A network's pause does not stop those who have come from the same address before: one attacker behind a company's
    NAT would lock out everyone. The slow hash runs
    outside of the transaction: a write lock held for a quarter of a second would be one too many.
    """
    oidc = control.settings.oidc
    if not oidc.password_sign_in and username != oidc.break_glass:
        raise Problem(403, "password_sign_in_off", f"passwords are switched off here: use {oidc.name!r}")
    async with control.db.read() as session:
        user = await session.scalar(select(User).where(User.username == username))
        known = user is not None and await _came_before(session, user, address)
    if user is not None and user.locked_until is not None and user.locked_until > now():
        wait = int((user.locked_until - now()).total_seconds()) + 1
        raise Problem(429, "login_paused", f"too many wrong passwords: try again in {wait} s", retry_after=wait)
    if not known and (wait := control.throttle.take("password", address)):
        text = f"too many failed sign-ins from your network: try again in {wait} s"
        raise Problem(429, "login_paused", text, retry_after=wait)
    right = await password_matches(password, user.password_hash if user is not None else None)
    async with control.db.write() as session:
        user = await session.scalar(select(User).where(User.username == username).with_for_update())
        if user is not None and right and user.enabled:
            user.failed_logins, user.locked_until, user.last_login_at = 0, None, now()
            note(session, Actor(username, address), "login", "user", username)
            if not known:
                control.throttle.give_back("password", address)
            return await new_login(session, control, user, address)
        if user is not None:
            user.failed_logins += 1
            if user.failed_logins >= FREE_TRIES:
                pause = min(2 ** (user.failed_logins - FREE_TRIES) * 5, LONGEST_PAUSE)
                user.locked_until = now() + timedelta(seconds=pause)
            note(session, Actor(username, address), "login_failed", "user", username)
    raise Problem(401, "bad_login", "the user name or the password is wrong")


async def refresh(session: AsyncSession, control: Control, token: str, address: str) -> SignedIn | None:
    """Trade a refresh token for new tokens. None when it is not valid; one used twice ends its whole family.

    Ending the family must be committed, so it is a result here and not an exception.
    """
    row = await session.scalar(select(RefreshSession).where(RefreshSession.digest == sha256(token)).with_for_update())
    if row is None or row.revoked_at is not None or row.expires_at <= now():
        return None
    user = await session.get(User, row.user_id)
    if row.used_at is not None:
        await _end_family(session, row.family)
        if user is not None:
            note(session, Actor(user.username, address), "refresh_reused", "user", user.username)
        return None
    if user is None or not user.enabled:
        return None
    row.used_at = now()
    return await _tokens(session, control, user, row.family, address, row.ends_at, row.sso_session)


async def logout(session: AsyncSession, token: str) -> None:
    """End the family of a refresh token; an unknown token is no error."""
    family = await session.scalar(select(RefreshSession.family).where(RefreshSession.digest == sha256(token)))
    if family is not None:
        await _end_family(session, family)


async def change_password(session: AsyncSession, user_id: str, current: str, new: str, address: str) -> User:
    """Set a new password; every token of the user ends."""
    user = await session.get_one(User, user_id)
    if not await password_matches(current, user.password_hash):
        raise Problem(403, "bad_password", "the current password is wrong")
    if current == new:
        raise Problem(422, "same_password", "the new password is the old one")
    user.password_hash, user.must_change_password = await hash_password(new), False
    await end_sessions(session, user)
    note(session, Actor(user.username, address), "change_password", "user", user.username)
    return user


async def new_login(
    session: AsyncSession,
    control: Control,
    user: User,
    address: str,
    ends_at: datetime | None = None,
    sso_session: str = "",
) -> SignedIn:
    """Tokens for someone who has just proved who they are; after `ends_at` they have to do so again."""
    return await _tokens(session, control, user, new_id(), address, ends_at, sso_session)


async def end_sessions(session: AsyncSession, user: User, only: ColumnElement[bool] | None = None) -> None:
    """Every access token of the user ends now, and every refresh token, or `only` those."""
    user.token_version += 1
    query = update(RefreshSession).where(RefreshSession.user_id == user.id, RefreshSession.revoked_at.is_(None))
    await session.execute((query if only is None else query.where(only)).values(revoked_at=now()))


async def is_last_admin(session: AsyncSession, user_id: str) -> bool:
    """Whether there is no enabled admin but this person."""
    others = select(User.id).where(User.role == "admin", User.enabled, User.id != user_id)
    return await session.scalar(others.limit(1)) is None


async def create_user(
    session: AsyncSession,
    actor: Actor,
    username: str,
    role: Role,
    password_hash: str | None,
    *,
    display_name: str = "",
    email: str = "",
    must_change_password: bool = False,
) -> User:
    """Add a person. Names of people and teams are one namespace: both own keys, and `name@owner` must be clear."""
    taken = await session.scalar(select(User.id).where(User.username == username))
    if taken or await session.scalar(select(Team.id).where(Team.name == username)):
        raise duplicate("user or team", username)
    user = User(
        username=username, role=role, password_hash=password_hash, display_name=display_name, email=email,
        must_change_password=must_change_password,
    )  # fmt: skip
    session.add(user)
    await session.flush()
    note(session, actor, "create", "user", username, after={"username": username, "role": role, "email": email})
    return user


async def _tokens(
    session: AsyncSession,
    control: Control,
    user: User,
    family: str,
    address: str,
    ends_at: datetime | None,
    sso_session: str,
) -> SignedIn:
    console, moment, token = control.settings.console, now(), new_token("rt-tg-")
    expires_at = moment + timedelta(seconds=console.refresh_token_seconds)
    session.add(
        RefreshSession(
            digest=sha256(token), family=family, user_id=user.id, created_at=moment, address=address,
            expires_at=expires_at if ends_at is None else min(expires_at, ends_at), ends_at=ends_at,
            sso_session=sso_session,
        )
    )  # fmt: skip
    await session.flush()
    return SignedIn(control.vault.access_token(user.id, user.token_version, console.access_token_seconds), token)


async def _came_before(session: AsyncSession, user: User, address: str) -> bool:
    """Whether the person has a login of this address that has not run out."""
    logins = select(RefreshSession.digest).where(RefreshSession.user_id == user.id, RefreshSession.address == address)
    return await session.scalar(logins.where(RefreshSession.expires_at > now()).limit(1)) is not None


async def _end_family(session: AsyncSession, family: str) -> None:
    await session.execute(
        update(RefreshSession)
        .where(RefreshSession.family == family, RefreshSession.revoked_at.is_(None))
        .values(revoked_at=now())
    )
