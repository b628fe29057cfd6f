"""`/api/v1/teams`: teams and their members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control import models
from control.deps import Db, allow
from control.errors import not_found
from control.kit.membership import teams_of
from control.kit.pages import Page, Paging, Search, contains, paginate
from control.kit.permissions import Person
from control.teams import service
from control.teams.schemas import Team, TeamCreate, TeamDetail, TeamMember, TeamUpdate
from control.usage.budgets import spending

router = APIRouter(prefix="/teams", tags=["teams"])
Reader = Annotated[Person, Depends(allow("teams:own"))]
Writer = Annotated[Person, Depends(allow("teams:write"))]


@router.get("")
async def list_teams(session: Db, person: Reader, paging: Paging, search: Search = None) -> Page[Team]:
    """Teams by name: all with `teams:read`, one's own without."""
    query = select(models.Team).order_by(models.Team.name)
    if not person.may("teams:read"):
        query = query.where(models.Team.name.in_(await teams_of(session, person.id)))
    if search:
        query = query.where(contains(search, [models.Team.name, models.Team.description]))
    page = await paginate(session, query, paging, lambda row: row)
    items = await _shown(session, page.items)
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("", status_code=201)
async def create_team(body: TeamCreate, session: Db, person: Writer) -> Team:
    """Add a team."""
    return await _one(session, await service.create(session, person, body))


@router.get("/{name}")
async def get_team(name: str, session: Db, person: Reader) -> TeamDetail:
    """One team and its members."""
    if not person.may("teams:read") and name not in await teams_of(session, person.id):
        raise not_found("team", name)
    team = await service.find(session, name)
    return TeamDetail(**(await _one(session, team)).model_dump(), members=await service.members(session, team))


@router.patch("/{name}")
async def update_team(name: str, body: TeamUpdate, session: Db, person: Writer) -> Team:
    """Change a team."""
    return await _one(session, await service.update(session, person, name, body))


@router.put("/{name}/members", status_code=204)
async def put_team_member(name: str, body: TeamMember, session: Db, person: Writer) -> None:
    """Put a person into a team."""
    await service.put_member(session, person, name, body)


@router.delete("/{name}/members/{username}", status_code=204)
async def remove_team_member(name: str, username: str, session: Db, person: Writer) -> None:
    """Take a person out of a team."""
    await service.remove_member(session, person, name, username)


async def _one(session: AsyncSession, team: models.Team) -> Team:
    return (await _shown(session, [team]))[0]


async def _shown(session: AsyncSession, teams: Sequence[models.Team]) -> list[Team]:
    """Teams with what their budgets have been spent: one query, however many teams."""
    spent = await spending(session, "team", {team.name: team.budgets or () for team in teams})
    stored = [name for name in Team.model_fields if name != "spending"]
    return [
        Team.model_validate({name: getattr(team, name) for name in stored} | {"spending": spent[team.name]})
        for team in teams
    ]
