"""Moonshot (Kimi): OpenAI's dialect; cached prompt tokens beside the total in older models."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.protocols.base import Outbound
from gateway.protocols.chat import Chat
from gateway.protocols.tasks.base import TaskOut
from gateway.providers.openai import OpenAI, count
from gateway.providers.operations import FILES
from gateway.providers.styles import Switched


class Moonshot(OpenAI):
    """`usage.cached_tokens`, where OpenAI's details are absent."""

    kind = "moonshot"
    operations: tuple[str, ...] = ("chat", "completions", *FILES)
    tasks: Mapping[str, TaskOut] = MappingProxyType({})
    dialect: Outbound = Chat(Switched())
    forward_headers = frozenset[bytes]()

    def cached(self, raw: dict[str, Any], details: dict[str, Any]) -> int:
        """OpenAI's field, or its own."""
        return super().cached(raw, details) or count(raw.get("cached_tokens")) or 0
