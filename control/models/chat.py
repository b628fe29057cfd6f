"""What people keep of their chats in the console."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import Base, LongText, Versioned, now


class ChatSession(Versioned, Base):
    """One conversation. Its messages are one document, which the console writes as a whole."""

    __tablename__ = "chat_session"

    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    sealed_title: Mapped[str] = mapped_column(String(1200))
    """Under the same data key as `sealed`; apart from it, so that lists need not open what was written."""
    turns: Mapped[int] = mapped_column(Integer)
    """How many messages there are."""
    sealed: Mapped[str] = mapped_column(LongText)
    """`control.security.Sealed` of the JSON array [settings, messages]. No list of sessions reads it."""
    wrapped_key: Mapped[str] = mapped_column(String(255))
    kek_id: Mapped[str] = mapped_column(String(16), index=True)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    """When the person changed it: a new key-encryption key is no change."""
