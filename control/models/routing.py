"""What gateways serve: keys, endpoints with their credentials, routes with their versions, grants, prices."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import NAME, Base, BigId, LongText, Published, Versioned


class ApiKey(Published, Base):
    """An API key: digest and prefix only. Its public name, `name@owner`, never changes and is never reused."""

    __tablename__ = "api_key"
    __table_args__ = (Index("ix_api_key_owner", "owner_kind", "owner"),)

    seq: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    """Decides for good on which page of the snapshot the key is."""
    id: Mapped[str] = mapped_column(String(36), unique=True)
    public_name: Mapped[str] = mapped_column(String(250), unique=True)
    name: Mapped[str] = mapped_column(String(NAME))
    owner_kind: Mapped[str] = mapped_column(String(8))
    """user or team."""
    owner: Mapped[str] = mapped_column(String(NAME))
    """Username or name of the team."""
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    prefix: Mapped[str] = mapped_column(String(16))
    old_digest: Mapped[str | None] = mapped_column(String(64))
    """Of the secret before the last rotation, good until `old_until`."""
    old_until: Mapped[datetime | None]
    enabled: Mapped[bool] = mapped_column(default=True)
    revoked_at: Mapped[datetime | None] = mapped_column(index=True)
    expires_at: Mapped[datetime | None]
    models: Mapped[list[Any]] = mapped_column(default=lambda: ["*"])
    cidrs: Mapped[list[Any]] = mapped_column(default=list)
    limits: Mapped[dict[str, Any]] = mapped_column(default=dict)
    budgets: Mapped[list[Any]] = mapped_column(default=list)
    log_bodies: Mapped[bool] = mapped_column(default=True)
    note: Mapped[str] = mapped_column(String(1000), default="")
    row_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))
    updated_at: Mapped[datetime]


class KeyUse(Base):
    """When a key was last used. Apart from `api_key`, so that use is not a change of configuration."""

    __tablename__ = "key_use"

    public_name: Mapped[str] = mapped_column(String(250), primary_key=True)
    last_used_at: Mapped[datetime]


class Endpoint(Published, Versioned, Base):
    """One configured account or URL of a provider."""

    __tablename__ = "endpoint"

    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    provider: Mapped[str] = mapped_column(String(40))
    spec: Mapped[dict[str, Any]]
    """`gateway.contract.snapshot.Endpoint` without name, provider and api_key."""
    enabled: Mapped[bool] = mapped_column(default=True)


class Credential(Published, Base):
    """A secret of an endpoint, sealed: its data key is wrapped by the key-encryption key. Never shown again."""

    __tablename__ = "credential"
    __table_args__ = (UniqueConstraint("endpoint_id", "name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoint.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(NAME))
    sealed: Mapped[str] = mapped_column(LongText)
    wrapped_key: Mapped[str] = mapped_column(String(255))
    kek_id: Mapped[str] = mapped_column(String(16), index=True)
    """Fingerprint of the key-encryption key: tells which one unwraps."""
    masked: Mapped[str] = mapped_column(String(32))
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))


class Route(Published, Versioned, Base):
    """A public model name. `spec` is the version that is live; its history is in `route_version`."""

    __tablename__ = "route"

    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    version: Mapped[int]
    spec: Mapped[dict[str, Any]]
    """`gateway.contract.snapshot.Route` without name and draft."""
    enabled: Mapped[bool] = mapped_column(default=True)
    draft: Mapped[bool] = mapped_column(default=False)
    """Not live yet: only comparisons of those who are granted it may call it."""


class RouteVersion(Base):
    """What a route was: immutable."""

    __tablename__ = "route_version"
    __table_args__ = (UniqueConstraint("route_id", "number"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    route_id: Mapped[str] = mapped_column(ForeignKey("route.id", ondelete="CASCADE"))
    number: Mapped[int]
    spec: Mapped[dict[str, Any]]
    note: Mapped[str] = mapped_column(String(1000), default="")
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))


class PriceVersion(Published, Base):
    """One version of a price in the book: written once, in effect from a moment until a later version is."""

    __tablename__ = "price"
    __table_args__ = (Index("ix_price_what", "kind", "name", "model", "effective_from"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(8))
    """endpoint or provider."""
    name: Mapped[str] = mapped_column(String(NAME))
    model: Mapped[str] = mapped_column(String(160))
    """The upstream's name of the model."""
    effective_from: Mapped[datetime] = mapped_column(index=True)
    price: Mapped[dict[str, Any]]
    """`gateway.contract.snapshot.Price`."""
    currency: Mapped[str] = mapped_column(String(16))
    """A note: nothing is converted."""
    source: Mapped[str] = mapped_column(String(1000))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))


class Grant(Published, Base):
    """Who may use a resource."""

    __tablename__ = "access_grant"
    __table_args__ = (UniqueConstraint("resource_kind", "resource", "principal_kind", "principal"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    resource_kind: Mapped[str] = mapped_column(String(16))
    resource: Mapped[str] = mapped_column(String(NAME))
    principal_kind: Mapped[str] = mapped_column(String(16))
    """everyone, user, team or key."""
    principal: Mapped[str] = mapped_column(String(250), default="")
    permission: Mapped[str] = mapped_column(String(8), default="use")
