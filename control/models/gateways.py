"""What the gateways told of themselves: their last report, and when their breakers were not closed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import Base, BigId


class GatewayRow(Base):
    """The last report of one gateway worker. A cache: when it is lost, the next report brings it back."""

    __tablename__ = "gateway_status"

    gateway: Mapped[str] = mapped_column(String(200), primary_key=True)
    version: Mapped[str] = mapped_column(String(64))
    snapshot: Mapped[str | None] = mapped_column(String(200))
    started_at: Mapped[datetime]
    reported_at: Mapped[datetime]
    """By control's clock."""
    targets: Mapped[list[Any]]
    """`gateway.contract.internal.TargetStatus`, each."""


class BreakerSpan(Base):
    """A stretch of time in which one gateway sent a target nothing (`open`), or one request to probe it (`half_open`).

    Of a time that no row of a gateway tells of, its breakers were closed, or it was gone.
    """

    __tablename__ = "breaker_span"
    __table_args__ = (
        Index("ix_breaker_span_endpoint", "endpoint", "began_at"),
        Index("ix_breaker_span_ended_at", "ended_at", "gateway"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    gateway: Mapped[str] = mapped_column(String(200))
    endpoint: Mapped[str] = mapped_column(String(200))
    target: Mapped[str] = mapped_column(String(500))
    credential: Mapped[str] = mapped_column(String(200))
    """Its number at the gateway; empty: the first one. Each has a breaker of its own."""
    state: Mapped[str] = mapped_column(String(16))
    error: Mapped[str] = mapped_column(String(40))
    """What the target failed with last."""
    began_at: Mapped[datetime]
    """By control's clock, as is the end."""
    ended_at: Mapped[datetime | None]
    """null: not yet, as far as the gateway's last report tells."""
    ended: Mapped[str] = mapped_column(String(16))
    """The state that came then, or `gone`: the gateway did not report any more, or not of this target; empty: none."""
