"""Bodies of API keys."""

from __future__ import annotations

from datetime import datetime
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from control.kit.schemas import A_MOMENT, Body, Budgets, Flag, Moment, Note, RowVersion, Slug, example
from control.usage.budgets import Spending
from gateway.contract.snapshot import Budget, Limits


def _network(text: str) -> str:
    ip_network(text, strict=False)
    return text


Model = Annotated[str, StringConstraints(min_length=1, max_length=120)]
Models = Annotated[tuple[Model, ...], Field(max_length=200)]
Cidr = Annotated[str, StringConstraints(max_length=64), AfterValidator(_network)]
Cidrs = Annotated[tuple[Cidr, ...], Field(max_length=100)]


class ApiKeyCreate(Body):
    """A new API key."""

    model_config = example(
        name="chatbot", team="support", models=["gpt-*"], limits={"rpm": 60},
        budgets=[{"amount": "50", "window": "month"}],
    )  # fmt: skip

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


class ApiKeyUpdate(Body):
    """Changes of a key; what is absent stays."""

    model_config = example(row_version=1, limits={"rpm": 120}, note="the busy season")

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


class ApiKeyRotate(Body):
    """A new secret for a key."""

    model_config = example(grace_seconds=3600)

    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=2_592_000)] = 0
    """How long the old secret goes on to work."""


class ApiKeysRevoke(Body):
    """Several keys at once."""

    model_config = example(names=["chatbot@support"])

    names: Annotated[tuple[Annotated[str, StringConstraints(max_length=250)], ...], Field(min_length=1, max_length=500)]
    """Public names, `name@owner`. One that is unknown or not yours stops the whole request."""


class ApiKey(BaseModel):
    """An API key, without its secret."""

    model_config = example(
        public_name="chatbot@support", name="chatbot", owner_kind="team", owner="support", prefix="sk-tg-1a2b3c",
        models=["gpt-*"], cidrs=[], limits={"rpm": 60},
        budgets=[{"amount": "50", "window": "month", "timezone": "UTC"}], enabled=True, expires_at=None,
        revoked_at=None, old_until=None, last_used_at=A_MOMENT, note="", log_bodies=True,
        created_at=A_MOMENT, created_by="alice",
        row_version=1,
        spending=[{
            "window": "month", "timezone": "UTC", "amount_nano": 50_000_000_000, "spent_nano": 12_345_678_900,
            "since": "2026-11-01T00:00:00Z", "resets_at": "2026-12-01T00:00:00Z",
        }],
    )  # fmt: skip

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
    spending: list[Spending]
    """The budgets, with what has been spent of each in its running window."""


class ApiKeyWithSecret(ApiKey):
    """A key and its secret, shown this once."""

    model_config = example(ApiKey, secret="sk-tg-0123456789abcdefghij")

    secret: str
