"""What is kept beside the ledger: bodies of requests."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import Base, LongText


class RequestBody(Base):
    """Bodies of one request, sealed. A table of its own, so that no list of requests ever reads one."""

    __tablename__ = "request_body"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Of the usage event."""
    gateway: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    sealed: Mapped[str] = mapped_column(LongText)
    """`control.security.Sealed` of the JSON array [request, response]; empty when it was erased."""
    wrapped_key: Mapped[str] = mapped_column(String(255))
    kek_id: Mapped[str] = mapped_column(String(16), index=True)
    request_cut: Mapped[bool]
    response_cut: Mapped[bool]
    redacted: Mapped[dict[str, Any]]
    """What the gateway replaced, and how often."""
    erased_at: Mapped[datetime | None]
    """Then nothing is left but this row, so that a late or repeated delivery does not bring the bodies back."""
