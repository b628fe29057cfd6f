"""Who may use which route: the one rule that snapshots (for keys) and the API (for people) both follow.

A caller is everyone, itself, and the teams it belongs to; it may use what any of these is granted. A route that is a
draft is for the keys of comparisons alone, of those whom it is granted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Select

from control.models import ApiKey, Grant, Membership, Route, Team, User

Principal = tuple[str, str]
"""(kind, name) of a grant."""
EVERYONE: Principal = ("everyone", "")
ROUTE = "route"
COMPARISONS = "comparisons"
"""Name of the key that pays a person's runs of suites: it is made for them, and nobody has its secret."""


def principals(owner: Principal, teams: Iterable[str], keys: Iterable[str] = ()) -> set[Principal]:
    """All that a caller is: `owner` is the person or team, `teams` are a person's, `keys` are named themselves."""
    found = {EVERYONE, owner, *(("key", key) for key in keys)}
    if owner[0] == "user":
        found |= {("team", team) for team in teams}
    return found


async def granted_to(session: AsyncSession, username: str, teams: Sequence[str]) -> Select[Any]:
    """Query of the names of routes that a person may use, with their own keys too."""
    own = (ApiKey.owner_kind == "user", ApiKey.owner == username, ApiKey.revoked_at.is_(None))
    keys = await session.scalars(select(ApiKey.public_name).where(*own))
    by_kind: dict[str, list[str]] = {}
    for kind, name in principals(("user", username), teams, keys):
        by_kind.setdefault(kind, []).append(name)
    matches = [and_(Grant.principal_kind == kind, Grant.principal.in_(names)) for kind, names in by_kind.items()]
    return select(Grant.resource).where(Grant.resource_kind == ROUTE, or_(*matches))


@dataclass(frozen=True, slots=True)
class Access:
    """All grants of routes, and which owners are disabled."""

    by_principal: Mapping[Principal, frozenset[str]]
    teams_of: Mapping[str, Sequence[str]]
    disabled: frozenset[Principal]
    drafts: frozenset[str]
    """Names of routes that are drafts, with their aliases."""

    @classmethod
    async def load(cls, session: AsyncSession, routes: Mapping[str, Route], teams: Iterable[Team]) -> Access:
        """Read grants, memberships and disabled owners."""
        by_principal: dict[Principal, set[str]] = {}
        drafts = {name for row in routes.values() if row.draft for name in (row.name, *row.spec.get("aliases", ()))}
        for grant in await session.scalars(select(Grant).where(Grant.resource_kind == ROUTE)):
            if grant.resource in routes:
                names = {grant.resource, *routes[grant.resource].spec.get("aliases", ())}
                by_principal.setdefault((grant.principal_kind, grant.principal), set()).update(names)
        teams_of: dict[str, list[str]] = {}
        members = select(User.username, Team.name).join(Membership, Membership.user_id == User.id)
        for username, team in await session.execute(members.join(Team, Team.id == Membership.team_id)):
            teams_of.setdefault(username, []).append(team)
        disabled = {("team", team.name) for team in teams if not team.enabled}
        disabled |= {("user", name) for name in await session.scalars(select(User.username).where(~User.enabled))}
        granted = {k: frozenset(v) for k, v in by_principal.items()}
        return cls(granted, teams_of, frozenset(disabled), frozenset(drafts))

    def models_of(self, key: ApiKey) -> tuple[str, ...]:
        """Routes (or prefixes) that a key may use: what it asks for, of what it is granted."""
        caller = principals((key.owner_kind, key.owner), self.teams_of.get(key.owner, ()), [key.public_name])
        granted = frozenset[str]().union(*(self.by_principal.get(one, frozenset()) for one in caller))
        granted = granted if for_comparisons(key) else granted - self.drafts
        return tuple(sorted({name for pattern in key.models for name in common(str(pattern), granted)}))


def for_comparisons(key: ApiKey) -> bool:
    """Whether runs of suites have made the key for themselves."""
    return key.name == COMPARISONS and key.owner_kind == "user"


def common(pattern: str, granted: Iterable[str]) -> Iterable[str]:
    """What a pattern of a key (a name, or a prefix with `*`) and names, which may be prefixes too, have in common."""
    for name in granted:
        if pattern == name or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            yield name
        elif name.endswith("*") and pattern.startswith(name[:-1]):
            yield pattern
