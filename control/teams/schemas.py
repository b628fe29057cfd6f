"""Bodies of team administration."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from control.kit.schemas import A_MOMENT, Body, Budgets, Flag, Note, RowVersion, Slug, example
from control.usage.budgets import Spending
from gateway.contract.snapshot import Budget, Limits

Quota = Annotated[int, Field(strict=True, ge=0, le=100_000)]


class TeamCreate(Body):
    """A new team."""

    model_config = example(name="support", description="the help desk", budgets=[{"amount": "500", "window": "month"}])

    name: Slug
    """Never changes and is never reused."""
    description: Note = ""
    """What it is for."""
    limits: Limits = Limits()
    """Of all its keys together."""
    budgets: Budgets = ()
    """Money for all its keys together."""
    gpu_quota: Quota | None = None
    """Most devices that its training jobs hold at a time; null: no limit."""


class TeamUpdate(Body):
    """Changes of a team; what is absent stays."""

    model_config = example(row_version=1, enabled=False)

    row_version: RowVersion
    """From the last read."""
    description: Note | None = None
    """What it is for."""
    limits: Limits | None = None
    """Replaces the limits as a whole."""
    budgets: Budgets | None = None
    """Replaces the budgets as a whole."""
    gpu_quota: Quota | None = None
    """Most devices that its training jobs hold at a time; null: no limit."""
    enabled: Flag | None = None
    """Keys of a disabled team are answered 401."""


class TeamMember(Body):
    """A person in a team."""

    model_config = example(username="alice", manager=True)

    username: Slug
    """Who."""
    manager: Flag = False
    """May make and revoke the team's keys."""


class Team(BaseModel):
    """A team."""

    model_config = example(
        name="support", description="the help desk", limits={},
        budgets=[{"amount": "500", "window": "month", "timezone": "UTC"}], gpu_quota=None, enabled=True,
        created_at=A_MOMENT, row_version=1,
        spending=[{
            "window": "month", "timezone": "UTC", "amount_nano": 500_000_000_000, "spent_nano": 12_345_678_900,
            "since": "2026-11-01T00:00:00Z", "resets_at": "2026-12-01T00:00:00Z",
        }],
    )  # fmt: skip

    name: str
    description: str
    limits: Limits
    budgets: list[Budget]
    gpu_quota: int | None
    enabled: bool
    created_at: datetime
    row_version: int
    spending: list[Spending]
    """The budgets, with what has been spent of each in its running window."""


class TeamDetail(Team):
    """A team and who is in it."""

    model_config = example(Team, members=[{"username": "alice", "manager": True}])

    members: list[TeamMember]
