"""Ollama, by its OpenAI-compatible interface."""

from __future__ import annotations

from gateway.protocols.base import Outbound
from gateway.protocols.chat import Chat
from gateway.providers.openai import OpenAI
from gateway.providers.operations import TEXT
from gateway.providers.styles import Common


class Ollama(OpenAI):
    """Reasoning comes as `reasoning`; there is no key."""

    kind = "ollama"
    operations: tuple[str, ...] = TEXT
    dialect: Outbound = Chat(Common())
    forward_headers = frozenset[bytes]()
