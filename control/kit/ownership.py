"""Datasets, jobs, adapters, knowledge bases and suites belong to a person or a team: who sees and may change them.

With `training:read` (`training:write`) a person sees (changes) all; with `training:own`, their own and their teams'.
For knowledge bases it is `knowledge:…`, for suites `comparisons:…`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import Problem, not_found, stale
from control.kit.membership import teams_of
from control.kit.permissions import Person
from control.models import Adapter, Dataset, KnowledgeBase, Suite, Team, TrainingJob
from control.models.training import Owned

T = TypeVar("T", Dataset, TrainingJob, Adapter, KnowledgeBase, Suite)
KINDS: dict[Any, str] = {
    Dataset: "dataset", TrainingJob: "job", Adapter: "adapter", KnowledgeBase: "knowledge base", Suite: "suite",
}  # fmt: skip
AREAS: dict[Any, str] = {KnowledgeBase: "knowledge", Suite: "comparisons"}


def area(table: Any) -> str:
    """First half of the permissions that decide over a table."""
    return AREAS.get(table, "training")


def visible_to(table: type[T], person: Person, teams: Sequence[str]) -> ColumnElement[bool]:
    """Which rows a person sees."""
    if person.may(f"{area(table)}:read"):
        return true()
    own = and_(table.owner_kind == "user", table.owner == person.username)
    return or_(own, and_(table.owner_kind == "team", table.owner.in_(teams)))


async def find(
    session: AsyncSession, person: Person, table: type[T], name: str, *, row_version: int | None = None
) -> T:
    """The thing of this name that the person may see; 409 if it has changed since `row_version`."""
    teams = await teams_of(session, person.id)
    row: T | None = await session.scalar(select(table).where(table.name == name, visible_to(table, person, teams)))
    if row is None:
        raise not_found(KINDS[table], name)
    if row_version is not None and row.row_version != row_version:
        raise stale(KINDS[table])
    return row


async def find_to_change(
    session: AsyncSession, person: Person, table: type[T], name: str, *, row_version: int | None = None
) -> T:
    """The same, locked until the transaction ends, if the person may change it."""
    seen = await find(session, person, table, name)
    if not await is_theirs(session, person, seen):
        raise Problem(403, "forbidden", f"you may see the {KINDS[table]} {name!r}, but not change it")
    query = select(table).where(table.id == seen.id).with_for_update().execution_options(populate_existing=True)
    row: T | None = await session.scalar(query)
    if row is None:
        raise not_found(KINDS[table], name)
    if row_version is not None and row.row_version != row_version:
        raise stale(KINDS[table])
    return row


async def is_theirs(session: AsyncSession, person: Person, row: Owned) -> bool:
    """Whether the person may change it."""
    if person.may(f"{area(type(row))}:write"):
        return True
    if row.owner_kind == "user":
        return row.owner == person.username
    return row.owner in await teams_of(session, person.id)


async def owner_of(
    session: AsyncSession, person: Person, team: str | None, table: type[Owned] = Dataset
) -> tuple[str, str]:
    """(kind, owner) of something new: the person, or a team that they are in."""
    if team is None:
        return "user", person.username
    if await session.scalar(select(Team.id).where(Team.name == team)) is None:
        raise Problem(422, "unknown_team", f"there is no team {team!r}")
    if not person.may(f"{area(table)}:write") and team not in await teams_of(session, person.id):
        raise Problem(403, "forbidden", f"you are not in the team {team!r}")
    return "team", team
