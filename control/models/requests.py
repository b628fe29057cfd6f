"""What is kept beside the ledger: bodies of requests, and the sums of what shadow targets cost."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import Base, BigId, LongText


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


class ShadowHour(Base):
    """Sums of the copies that went to shadow targets, by hour. They are nobody's usage, so no other sum has them."""

    __tablename__ = "shadow_hour"
    __table_args__ = (
        UniqueConstraint(
            "hour", "route", "endpoint", "upstream_model", "operation", "failed", name="uq_shadow_hour"
        ),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    hour: Mapped[datetime]
    route: Mapped[str] = mapped_column(String(120))
    endpoint: Mapped[str] = mapped_column(String(120))
    upstream_model: Mapped[str] = mapped_column(String(160))
    operation: Mapped[str] = mapped_column(String(16))
    failed: Mapped[bool]
    requests: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_nano: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[float]
    ttft_ms: Mapped[float]
    ttft_count: Mapped[int] = mapped_column(BigInteger)
