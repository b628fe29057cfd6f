"""API keys: minted once, kept as digest and prefix, changed, rotated, revoked. A revoked key keeps its row and name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import lock
from control.errors import Problem, duplicate, not_found, stale
from control.keys.schemas import ApiKeyCreate, ApiKeyRotate, ApiKeyUpdate
from control.kit.access import COMPARISONS, for_comparisons
from control.kit.audit import note
from control.kit.changes import stored
from control.kit.membership import teams_of
from control.kit.permissions import Person
from control.models import ApiKey, Team, User
from control.models.base import new_id, now
from control.security import new_token, sha256
from control.usage import spend

PREFIX = "sk-tg-"
SHOWN = 12
"""Characters of a key that stay readable."""


async def create(
    session: AsyncSession, person: Person, body: ApiKeyCreate, secret: str | None = None, *, for_runs: bool = False
) -> tuple[ApiKey, str]:
    """Mint a key, or take over one whose secret clients have already; returns its secret, which nothing keeps.

    Raises:
        Problem: 409 `service_key` for the name of the key that runs of suites make for themselves (`for_runs`).
    """
    kind, owner = await _owner(session, person, body)
    if kind == "user" and body.name == COMPARISONS and not for_runs:
        raise _made_for_runs()
    public_name = f"{body.name}@{owner}"
    if await session.scalar(select(ApiKey.seq).where(ApiKey.public_name == public_name)):
        raise duplicate("key", public_name)
    secret = secret or new_token(PREFIX)
    moment = now()
    key = ApiKey(
        id=new_id(), public_name=public_name, name=body.name, owner_kind=kind, owner=owner, digest=sha256(secret),
        prefix=secret[:SHOWN], created_at=moment, updated_at=moment, created_by=person.username,
        **({"models": list(body.models)} | stored(body)),
    )  # fmt: skip
    session.add(key)
    await session.flush()
    await _begin_spend(session, key)
    note(session, person.actor, "create", "key", public_name, after=facts(key))
    return key, secret


def visible_to(person: Person, teams: Sequence[str]) -> ColumnElement[bool]:
    """Which keys a person sees: all with `keys:read`, else their own and those of their teams."""
    if person.may("keys:read"):
        return true()
    own = and_(ApiKey.owner_kind == "user", ApiKey.owner == person.username)
    return or_(own, and_(ApiKey.owner_kind == "team", ApiKey.owner.in_(teams)))


async def find(session: AsyncSession, person: Person, public_name: str) -> ApiKey:
    """A key that the person may see."""
    visible = visible_to(person, await teams_of(session, person.id))
    key = await session.scalar(select(ApiKey).where(ApiKey.public_name == public_name, visible))
    if key is None:
        raise not_found("key", public_name)
    return key


async def update(session: AsyncSession, person: Person, public_name: str, body: ApiKeyUpdate) -> ApiKey:
    """Change a key."""
    key = await find_to_change(session, person, public_name)
    if key.row_version != body.row_version:
        raise stale("key")
    before = facts(key)
    for field, value in stored(body).items():
        setattr(key, field, value)
    if facts(key) == before:
        return key
    _touched(key)
    await _begin_spend(session, key)
    note(session, person.actor, "update", "key", public_name, before, facts(key))
    return key


async def rotate(session: AsyncSession, person: Person, public_name: str, body: ApiKeyRotate) -> tuple[ApiKey, str]:
    """Give a key a new secret; the old one works for the grace period."""
    key = await find_to_change(session, person, public_name)
    if for_comparisons(key):
        raise _made_for_runs()
    secret = new_token(PREFIX)
    key.old_digest, key.old_until = (
        (key.digest, now() + timedelta(seconds=body.grace_seconds)) if body.grace_seconds else (None, None)
    )
    key.digest, key.prefix = sha256(secret), secret[:SHOWN]
    _touched(key)
    note(session, person.actor, "rotate", "key", public_name, after={"grace_seconds": body.grace_seconds})
    return key, secret


async def revoke(session: AsyncSession, person: Person, public_names: Sequence[str]) -> int:
    """End keys for good: all of them or none. Returns how many were not revoked before."""
    count = 0
    for public_name in sorted(set(public_names)):
        key = await find_to_change(session, person, public_name, revoked_too=True)
        if key.revoked_at is None:
            key.revoked_at, key.old_digest, key.old_until = now(), None, None
            _touched(key)
            note(session, person.actor, "revoke", "key", public_name, before=facts(key))
            count += 1
    return count


def facts(key: ApiKey) -> dict[str, Any]:
    """What the audit log tells of a key."""
    return {
        "models": key.models, "cidrs": key.cidrs or [], "limits": key.limits or {}, "budgets": key.budgets or [],
        "enabled": key.enabled is not False, "expires_at": key.expires_at and key.expires_at.isoformat(),
        "log_bodies": key.log_bodies is not False, "note": key.note or "", "prefix": key.prefix,
    }  # fmt: skip


def _made_for_runs() -> Problem:
    said = f"a person's key {COMPARISONS!r} is made for their runs of suites, and nobody has its secret"
    return Problem(409, "service_key", said)


async def _owner(session: AsyncSession, person: Person, body: ApiKeyCreate) -> tuple[str, str]:
    if body.team is not None and body.user is not None:
        raise Problem(422, "two_owners", "a key belongs to a team or to a user, not to both")
    if body.team is not None:
        if await session.scalar(select(Team.id).where(Team.name == body.team)) is None:
            raise Problem(422, "unknown_team", f"there is no team {body.team!r}")
        if not person.may("keys:write") and body.team not in await teams_of(session, person.id, managed=True):
            raise Problem(403, "forbidden", f"you do not manage the team {body.team!r}")
        return "team", body.team
    user = body.user or person.username
    if user != person.username:
        if not person.may("keys:write"):
            raise Problem(403, "forbidden", "you may make keys for yourself only")
        if await session.scalar(select(User.id).where(User.username == user)) is None:
            raise Problem(422, "unknown_user", f"there is no user {user!r}")
    return "user", user


async def find_to_change(
    session: AsyncSession, person: Person, public_name: str, *, revoked_too: bool = False
) -> ApiKey:
    """The key, locked until the transaction ends, if the person may change it: they could have its secret by that."""
    seen = await find(session, person, public_name)
    if not person.may("keys:write"):
        owners = [person.username] if seen.owner_kind == "user" else await teams_of(session, person.id, managed=True)
        if seen.owner not in owners:
            raise Problem(403, "forbidden", f"you may see the key {public_name!r}, but not change it")
    query = select(ApiKey).where(ApiKey.seq == seen.seq).with_for_update().execution_options(populate_existing=True)
    key = (await session.scalars(query)).one()
    if key.revoked_at is not None and not revoked_too:
        raise Problem(409, "revoked", f"the key {public_name!r} was revoked: make a new one")
    return key


def _touched(key: ApiKey) -> None:
    key.row_version += 1
    key.updated_at = now()


async def _begin_spend(session: AsyncSession, key: ApiKey) -> None:
    if key.budgets:
        counter = await lock(session, "usage")
        counter.value += 1
        await session.flush()
        await spend.begin(session, ("key", key.public_name), key.budgets, counter.value)
