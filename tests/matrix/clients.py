"""The clients of the matrix: each dialect's official SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tests.matrix.chat_client import ChatClient
from tests.matrix.gemini_client import GeminiClient
from tests.matrix.messages_client import MessagesClient
from tests.matrix.responses_client import ResponsesClient
from tests.matrix.told import Ask, Heard


class Client(Protocol):
    """One dialect's SDK."""

    name: str

    def ask(self, ask: Ask) -> Heard:
        """Send it, and what the SDK made of the answer."""
        ...

    def close(self) -> None:
        """End its connections."""
        ...


CLIENTS: dict[str, Callable[[str, str], Client]] = {
    "chat": ChatClient,
    "responses": ResponsesClient,
    "messages": MessagesClient,
    "gemini": GeminiClient,
}
"""Dialect -> makes a client of the gateway's URL and a key."""
