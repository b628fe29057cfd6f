"""Who may find what: the one rule for people and keys.

A caller is everyone, itself and the teams it belongs to (`kit.access.principals`). It reads a base that it owns or of
which it is a reader; of the base's documents, those that have no readers of their own or of which it is one. The owner
of a base reads all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from control.kit.access import EVERYONE, Principal, principals
from control.kit.membership import teams_of
from control.kit.permissions import Person
from control.knowledge.schemas import Retrieval
from control.models import ApiKey, KnowledgeBase, Membership, Team, User
from control.models.base import now
from gateway.contract import retrieval as wire


class Owned(NamedTuple):
    """What a base says of who may read it, without the rest of it."""

    owner_kind: str
    owner: str
    readers: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who looks for passages."""

    principals: frozenset[Principal]
    reads_all: bool = False
    """Of a person with `knowledge:read`."""

    def may_read(self, base: KnowledgeBase | Owned) -> bool:
        """Whether it may look into a base."""
        return self._owns(base) or self._is_among(base.readers)

    def may_read_document(self, base: KnowledgeBase | Owned, readers: Sequence[Any] | None) -> bool:
        """Whether it may see a document with these readers, of a base that it may look into."""
        return readers is None or self._owns(base) or self._is_among(readers)

    def _owns(self, base: KnowledgeBase | Owned) -> bool:
        return self.reads_all or (base.owner_kind, base.owner) in self.principals

    def _is_among(self, readers: Sequence[Any]) -> bool:
        return any((one["kind"], one["name"]) in self.principals for one in readers)


NOBODY = Caller(frozenset())


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, and for whom."""

    text: str
    caller: Caller
    limits: wire.RetrievalLimits
    facts: Mapping[str, str]
    """Metadata that a document must have."""
    how: Retrieval | None = None
    """In place of what the base says."""
    index: int | None = None
    """Number of the index to look into; None: the live one."""
    trial: bool = False
    """Look into the index that is held back, where one is complete."""
    fresh: bool = False
    """Whether it is searched anew even if an answer is kept."""


async def of_person(session: AsyncSession, person: Person) -> Caller:
    """The caller that a person is."""
    teams = await teams_of(session, person.id)
    return Caller(frozenset(principals(("user", person.username), teams)), person.may("knowledge:read"))


async def of_principal(session: AsyncSession, said: wire.Principal) -> Caller:
    """The caller that a gateway has authenticated. Of a key that is known here, only its record counts; one that is
    revoked, disabled or expired is nobody, and so is one whose owner is disabled.
    """
    known = await of_key(session, said.key)
    if known is not None:
        return known
    found = {EVERYONE, ("key", said.key)}
    found |= {("team", said.team)} if said.team else set()
    found |= {("user", said.owner)} if said.owner else set()
    return Caller(frozenset(found))


_owner = aliased(Team)
_KEYS = (
    select(ApiKey, User.enabled, _owner.enabled, Team.name)
    .outerjoin(User, (User.username == ApiKey.owner) & (ApiKey.owner_kind == "user"))
    .outerjoin(Membership, Membership.user_id == User.id)
    .outerjoin(Team, Team.id == Membership.team_id)
    .outerjoin(_owner, (_owner.name == ApiKey.owner) & (ApiKey.owner_kind == "team"))
)


async def of_key(session: AsyncSession, name: str) -> Caller | None:
    """The caller that an API key is; None for one that is not known here."""
    rows = (await session.execute(_KEYS.where(ApiKey.public_name == name))).all()
    if not rows:
        return None
    key, user, team, _ = rows[0]
    expired = key.expires_at is not None and key.expires_at <= now()
    if key.revoked_at is not None or not key.enabled or expired or not (user or team):
        return NOBODY
    teams = [row[3] for row in rows if row[3]]
    return Caller(frozenset(principals((key.owner_kind, key.owner), teams, [key.public_name])))
