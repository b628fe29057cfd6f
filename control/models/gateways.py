"""What the gateways last told of themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import Base


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
