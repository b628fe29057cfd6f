"""OpenRouter: OpenAI's dialect over many vendors, with an object for reasoning and its proofs."""

from __future__ import annotations

from gateway.protocols.base import Outbound
from gateway.protocols.chat import Chat
from gateway.providers.openai import OpenAI
from gateway.providers.operations import TEXT
from gateway.providers.styles import Router


class OpenRouter(OpenAI):
    """Its attribution headers are the client's to set."""

    kind = "openrouter"
    operations: tuple[str, ...] = TEXT
    dialect: Outbound = Chat(Router())
    forward_headers = frozenset({b"http-referer", b"x-title"})
