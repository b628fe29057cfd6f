"""What people keep of their chats in the console."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import Base, LongText, Versioned


class ChatSession(Versioned, Base):
    """One conversation. Its messages are one document, which the console writes as a whole."""

    __tablename__ = "chat_session"

    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    title: Mapped[str] = mapped_column(String(200))
    settings: Mapped[dict[str, Any]]
    messages: Mapped[list[Any]]
    """No list of sessions reads it."""
    turns: Mapped[int] = mapped_column(Integer)
    """How many messages there are."""
    words: Mapped[str] = mapped_column(LongText)
    """What was written in them, for searching."""
