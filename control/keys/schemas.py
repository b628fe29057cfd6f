"""Bodies of API keys."""

from __future__ import annotations

from datetime import datetime
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from control.kit.schemas import Body, Budgets, Flag, Moment, Note, RowVersion, Slug
from gateway.contract.snapshot import Budget, Limits


def _network(text: str) -> str:
    ip_network(text, strict=False)
    return text


Model = Annotated[str, StringConstraints(min_length=1, max_length=120)]
Models = Annotated[tuple[Model, ...], Field(max_length=200)]
Cidr = Annotated[str, StringConstraints(max_length=64), AfterValidator(_network)]
Cidrs = Annotated[tuple[Cidr, ...], Field(max_length=100)]


class KeyCreate(Body):
    """A new API key."""

    name: Slug
    """Never changes; usage and logs say `name@owner`."""
    team: Slug | None = None
    """Makes it a key of this team; absent: a personal key."""
    user: Slug | None = None
    """Makes it a personal key of somebody else (with `keys:write`)."""
    models: Models = ("*",)
    """Routes it may use, of those that its owner is granted; a trailing `*` matches a prefix."""
    cidrs: Cidrs = ()
    """Networks that callers must come from. Empty: any."""
    expires_at: Moment | None = None
    """From then on it is answered 401."""
    limits: Limits = Limits()
    """Requests and tokens per minute, concurrency."""
    budgets: Budgets = ()
    """Money it may spend."""
    log_bodies: Flag = True
    """Whether routes that keep the bodies of requests keep its."""
    note: Note = ""
    """What it is for."""


class KeyUpdate(Body):
    """Changes of a key; what is absent stays."""

    row_version: RowVersion
    """From the last read."""
    models: Models | None = None
    """Routes it may use."""
    cidrs: Cidrs | None = None
    """Networks that callers must come from."""
    expires_at: Moment | None = None
    """From then on it is answered 401; null: never."""
    limits: Limits | None = None
    """Replaces the limits as a whole."""
    budgets: Budgets | None = None
    """Replaces the budgets as a whole."""
    enabled: Flag | None = None
    """A disabled key is answered 401."""
    log_bodies: Flag | None = None
    """Whether routes that keep the bodies of requests keep its."""
    note: Note | None = None
    """What it is for."""


class KeyRotate(Body):
    """A new secret for a key."""

    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=2_592_000)] = 0
    """How long the old secret goes on to work."""


class BulkRevoke(Body):
    """Several keys at once."""

    names: Annotated[tuple[Annotated[str, StringConstraints(max_length=250)], ...], Field(min_length=1, max_length=500)]
    """Public names, `name@owner`. One that is unknown or not yours stops the whole request."""


class Key(BaseModel):
    """An API key, without its secret."""

    public_name: str
    name: str
    owner_kind: Literal["user", "team"]
    owner: str
    prefix: str
    models: list[str]
    cidrs: list[str]
    limits: Limits
    budgets: list[Budget]
    log_bodies: bool
    enabled: bool
    expires_at: datetime | None
    revoked_at: datetime | None
    old_until: datetime | None
    last_used_at: datetime | None
    note: str
    created_at: datetime
    created_by: str
    row_version: int


class KeyWithSecret(Key):
    """A key and its secret, shown this once."""

    secret: str
