"""DeepSeek: OpenAI's dialect, with its own name for cached prompt tokens."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.protocols.base import Outbound
from gateway.protocols.chat import Chat
from gateway.protocols.tasks.base import TaskOut
from gateway.providers.openai import OpenAI, count
from gateway.providers.styles import Switched


class DeepSeek(OpenAI):
    """`prompt_cache_hit_tokens` and `prompt_cache_miss_tokens` sum to `prompt_tokens`."""

    kind = "deepseek"
    operations: tuple[str, ...] = ("chat", "completions")
    tasks: Mapping[str, TaskOut] = MappingProxyType({})
    dialect: Outbound = Chat(Switched())
    forward_headers = frozenset[bytes]()

    def cached(self, raw: dict[str, Any], details: dict[str, Any]) -> int:
        """The hit count, or OpenAI's field where it is absent."""
        hit = count(raw.get("prompt_cache_hit_tokens"))
        return super().cached(raw, details) if hit is None else hit
