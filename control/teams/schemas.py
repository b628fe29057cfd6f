"""Bodies of team administration."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from control.kit.schemas import Body, Budgets, Flag, Note, RowVersion, Slug
from gateway.contract.snapshot import Budget, Limits


class TeamCreate(Body):
    """A new team."""

    name: Slug
    """Never changes and is never reused."""
    description: Note = ""
    """What it is for."""
    limits: Limits = Limits()
    """Of all its keys together."""
    budgets: Budgets = ()
    """Money for all its keys together."""


class TeamUpdate(Body):
    """Changes of a team; what is absent stays."""

    row_version: RowVersion
    """From the last read."""
    description: Note | None = None
    """What it is for."""
    limits: Limits | None = None
    """Replaces the limits as a whole."""
    budgets: Budgets | None = None
    """Replaces the budgets as a whole."""
    enabled: Flag | None = None
    """Keys of a disabled team are answered 401."""


class Member(Body):
    """A person in a team."""

    username: Slug
    """Who."""
    manager: Flag = False
    """May make and revoke the team's keys."""


class Team(BaseModel):
    """A team."""

    name: str
    description: str
    limits: Limits
    budgets: list[Budget]
    enabled: bool
    created_at: datetime
    row_version: int


class TeamDetail(Team):
    """A team and who is in it."""

    members: list[Member]
