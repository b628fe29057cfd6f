"""Who may sign in, and what they belong to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import NAME, Base, Published, Versioned


class User(Versioned, Base):
    """A person. The username never changes and is never reused: ledger and audit name people by it."""

    __tablename__ = "user_account"
    __table_args__ = (UniqueConstraint("sso_issuer", "sso_subject"),)

    username: Mapped[str] = mapped_column(String(NAME), unique=True)
    display_name: Mapped[str] = mapped_column(String(NAME), default="")
    email: Mapped[str] = mapped_column(String(254), default="")
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str | None] = mapped_column(String(100))
    enabled: Mapped[bool] = mapped_column(default=True)
    must_change_password: Mapped[bool] = mapped_column(default=False)
    token_version: Mapped[int] = mapped_column(default=0)
    """Counts up when all access tokens of the user must end: new password, new role, disabled."""
    failed_logins: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None]
    last_login_at: Mapped[datetime | None]
    sso_issuer: Mapped[str | None] = mapped_column(String(255))
    """Identity provider that knows the person as `sso_subject`; such an account has no password."""
    sso_subject: Mapped[str | None] = mapped_column(String(255))


class RefreshSession(Base):
    """One refresh token. Each use replaces it; a token that is used twice was stolen, and ends its whole family."""

    __tablename__ = "refresh_session"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    family: Mapped[str] = mapped_column(String(36), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ends_at: Mapped[datetime | None]
    """When the login is over however often it is refreshed; None: never."""
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    address: Mapped[str] = mapped_column(String(64), default="")
    sso_session: Mapped[str] = mapped_column(String(255), default="", index=True)
    """What the identity provider calls the login (`sid`); empty: nothing, or a password was given."""


class Team(Published, Versioned, Base):
    """People who share keys, limits and budgets."""

    __tablename__ = "team"

    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    description: Mapped[str] = mapped_column(String(1000), default="")
    limits: Mapped[dict[str, Any]] = mapped_column(default=dict)
    budgets: Mapped[list[Any]] = mapped_column(default=list)
    gpu_quota: Mapped[int | None]
    """Most devices that its training jobs hold at a time; None: no limit."""
    enabled: Mapped[bool] = mapped_column(default=True)
    """Keys of a disabled team are answered 401."""


class Membership(Published, Base):
    """A person in a team."""

    __tablename__ = "membership"
    __table_args__ = (UniqueConstraint("team_id", "user_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    manager: Mapped[bool] = mapped_column(default=False)
    """May make and revoke the team's keys."""


class SpentToken(Base):
    """A logout token of the identity provider that has done its work: told again, it does nothing."""

    __tablename__ = "spent_token"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of issuer and `jti`."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ServiceToken(Base):
    """What a gateway (or trainer) shows on the internal API."""

    __tablename__ = "service_token"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    prefix: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
