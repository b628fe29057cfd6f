"""What happened: the ledger, spend, quarantine, and the audit chain.

These rows carry names instead of foreign keys: they outlive what they describe.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import NAME, Base, BigId, LongText


class Counter(Base):
    """A number that a writer locks and counts up: `config`, `usage`, `audit`, `retention`, `prices`, `training`."""

    __tablename__ = "counter"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger, default=0)
    text: Mapped[str] = mapped_column(String(64), default="")
    """For `audit`: the hash of the last row. For `retention`: the hour of the last sweep."""


class UsageRow(Base):
    """The ledger: one row per admitted request, and per copy for a shadow target, written once."""

    __tablename__ = "usage_event"
    __table_args__ = (
        Index("ix_usage_event_key", "key", "ts", "seq"),
        Index("ix_usage_event_owner", "owner", "ts", "seq"),
        Index("ix_usage_event_team", "team", "ts", "seq"),
        Index("ix_usage_event_ts", "ts", "seq"),
    )

    seq: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    ts: Mapped[datetime]
    received_at: Mapped[datetime]
    gateway: Mapped[str] = mapped_column(String(200))
    request_id: Mapped[str] = mapped_column(String(255), index=True)
    key: Mapped[str] = mapped_column(String(250))
    team: Mapped[str] = mapped_column(String(NAME), default="")
    owner: Mapped[str] = mapped_column(String(NAME), default="")
    operation: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(String(255))
    route: Mapped[str] = mapped_column(String(255))
    endpoint: Mapped[str] = mapped_column(String(200), default="")
    upstream_model: Mapped[str] = mapped_column(String(255), default="")
    snapshot: Mapped[str] = mapped_column(String(200))
    stream: Mapped[bool]
    end: Mapped[str] = mapped_column("ended", String(32))
    status: Mapped[int]
    error: Mapped[str] = mapped_column(String(64), default="")
    usage_source: Mapped[str] = mapped_column(String(16))
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_nano: Mapped[int] = mapped_column(BigInteger)
    ttft_ms: Mapped[float | None]
    duration_ms: Mapped[float]
    attempts: Mapped[list[Any]]
    retrieval: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """`gateway.contract.usage.RetrievalOutcome`; null where the route has no knowledge bases."""
    cache: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """`gateway.contract.usage.CacheOutcome`; null where the route has no response cache."""
    shadow_of: Mapped[str | None] = mapped_column(String(36))
    """Of a copy for a shadow target: the `id` of the request. Such a row is in no sum but `shadow_hour`."""


class SpendRow(Base):
    """Money that a scope has spent in one window of a budget: kept with the ledger, read by the gateways."""

    __tablename__ = "spend"
    __table_args__ = (UniqueConstraint("scope", "name", "span", "timezone", "start", name="uq_spend"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    scope: Mapped[str] = mapped_column(String(8))
    name: Mapped[str] = mapped_column(String(250))
    span: Mapped[str] = mapped_column(String(8))
    """day, week, month or total."""
    timezone: Mapped[str] = mapped_column(String(64))
    start: Mapped[int] = mapped_column(BigInteger)
    """Unix time at which the window began; 0 for total."""
    end: Mapped[int] = mapped_column("finish", BigInteger)
    """Unix time at which it ends; far in the future for total."""
    nano: Mapped[int] = mapped_column(BigInteger)
    cursor: Mapped[int] = mapped_column("changed", BigInteger, index=True)


class Quarantine(Base):
    """A usage event that could not be understood: kept for a human, never dropped."""

    __tablename__ = "usage_quarantine"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    received_at: Mapped[datetime]
    gateway: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(String(1000))
    event: Mapped[str] = mapped_column(LongText)


class AuditRow(Base):
    """Who changed what. Each row's hash covers the one before: a changed or missing row shows."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_resource", "resource_kind", "resource"),)

    seq: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    ts: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(NAME), index=True)
    action: Mapped[str] = mapped_column(String(40), index=True)
    resource_kind: Mapped[str] = mapped_column(String(32))
    resource: Mapped[str] = mapped_column(String(250))
    before: Mapped[str] = mapped_column("state_before", LongText)
    after: Mapped[str] = mapped_column("state_after", LongText)
    """Canonical JSON, secrets masked; empty where there was nothing."""
    address: Mapped[str] = mapped_column(String(64), default="")
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
