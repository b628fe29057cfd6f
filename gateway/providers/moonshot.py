"""Moonshot (Kimi): OpenAI's dialect; cached prompt tokens beside the total in older models."""

from __future__ import annotations

from typing import Any

from gateway.protocols.base import Outbound
from gateway.protocols.chat import Chat
from gateway.providers.openai import OpenAI, count
from gateway.providers.operations import FILES, TEXT
from gateway.providers.styles import Switched


class Moonshot(OpenAI):
    """`usage.cached_tokens`, where OpenAI's details are absent."""

    kind = "moonshot"
    operations: tuple[str, ...] = (*TEXT, *FILES)
    dialect: Outbound = Chat(Switched())
    forward_headers = frozenset[bytes]()

    def cached(self, raw: dict[str, Any], details: dict[str, Any]) -> int:
        """OpenAI's field, or its own."""
        return super().cached(raw, details) or count(raw.get("cached_tokens")) or 0
