"""Teams: who shares keys, limits and budgets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import lock, publish
from control.errors import Problem, duplicate, not_found, stale
from control.kit.audit import note
from control.kit.changes import stored
from control.kit.permissions import Person
from control.models import Membership, Team, User
from control.teams.schemas import TeamCreate, TeamMember, TeamUpdate
from control.usage import spend


async def create(session: AsyncSession, person: Person, body: TeamCreate) -> Team:
    """Add a team; its name must not be a person's either, since `key@owner` names both."""
    taken = await session.scalar(select(Team.id).where(Team.name == body.name))
    if taken or await session.scalar(select(User.id).where(User.username == body.name)):
        raise duplicate("user or team", body.name)
    team = Team(**{"name": body.name, "description": body.description} | stored(body))
    session.add(team)
    await session.flush()
    await _begin_spend(session, team)
    note(session, person.actor, "create", "team", team.name, after=facts(team))
    return team


async def find(session: AsyncSession, name: str, *, to_change: bool = False) -> Team:
    """The team of this name, locked if it is going to be changed."""
    query = select(Team).where(Team.name == name)
    team = await session.scalar(query.with_for_update() if to_change else query)
    if team is None:
        raise not_found("team", name)
    return team


async def update(session: AsyncSession, person: Person, name: str, body: TeamUpdate) -> Team:
    """Change a team."""
    team = await find(session, name, to_change=True)
    if team.row_version != body.row_version:
        raise stale("team")
    before = facts(team)
    for field, value in stored(body).items():
        setattr(team, field, value)
    if facts(team) == before:
        return team
    team.row_version += 1
    await _begin_spend(session, team)
    note(session, person.actor, "update", "team", name, before, facts(team))
    return team


async def put_member(session: AsyncSession, person: Person, name: str, body: TeamMember) -> None:
    """Put a person into a team, or change whether they manage it."""
    team = await find(session, name, to_change=True)
    user_id = await session.scalar(select(User.id).where(User.username == body.username))
    if user_id is None:
        raise Problem(422, "unknown_user", f"there is no user {body.username!r}")
    row = await session.scalar(select(Membership).where(Membership.team_id == team.id, Membership.user_id == user_id))
    if row is None:
        row = Membership(team_id=team.id, user_id=user_id)
        session.add(row)
    row.manager = body.manager
    note(session, person.actor, "put_member", "team", name, after=body.model_dump())


async def remove_member(session: AsyncSession, person: Person, name: str, username: str) -> None:
    """Take a person out of a team."""
    team = await find(session, name, to_change=True)
    user_id = await session.scalar(select(User.id).where(User.username == username))
    row = await session.scalar(select(Membership).where(Membership.team_id == team.id, Membership.user_id == user_id))
    if row is None:
        raise not_found("member", username)
    await session.execute(delete(Membership).where(Membership.id == row.id))
    publish(session)
    note(session, person.actor, "remove_member", "team", name, before={"username": username, "manager": row.manager})


async def members(session: AsyncSession, team: Team) -> list[TeamMember]:
    """Who is in a team."""
    query = select(User.username, Membership.manager).join(Membership, Membership.user_id == User.id)
    rows = await session.execute(query.where(Membership.team_id == team.id).order_by(User.username))
    return [TeamMember(username=username, manager=manager) for username, manager in rows]


def facts(team: Team) -> dict[str, Any]:
    """What the audit log tells of a team."""
    return {
        "description": team.description, "limits": team.limits or {}, "budgets": team.budgets or [],
        "enabled": team.enabled is not False,
    }  # fmt: skip


async def _begin_spend(session: AsyncSession, team: Team) -> None:
    if team.budgets:
        counter = await lock(session, "usage")
        counter.value += 1
        await session.flush()
        await spend.begin(session, ("team", team.name), team.budgets, counter.value)
