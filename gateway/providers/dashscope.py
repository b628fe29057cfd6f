"""Alibaba DashScope (Qwen) in its OpenAI-compatible mode."""

from __future__ import annotations

from typing import Any

from gateway.protocols.base import Outbound
from gateway.protocols.canonical import Usage
from gateway.protocols.chat import Chat
from gateway.providers.openai import OpenAI, count
from gateway.providers.operations import BATCHES, FILES, TEXT
from gateway.providers.styles import Qwen


class DashScope(OpenAI):
    """Explicit caching reports its writes as `cache_creation_input_tokens`, inside the prompt tokens."""

    kind = "dashscope"
    operations: tuple[str, ...] = (*TEXT, *FILES, *BATCHES)
    dialect: Outbound = Chat(Qwen())
    forward_headers = frozenset({b"x-dashscope-session-cache", b"x-dashscope-datainspection"})

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """OpenAI's buckets, with the cache writes taken out of the plain input."""
        usage = super().usage(raw)
        details = raw.get("prompt_tokens_details")
        written = count(details.get("cache_creation_input_tokens")) if isinstance(details, dict) else None
        if usage is None or not written:
            return usage
        written = min(written, usage.input)
        return Usage(usage.input - written, usage.cache_read, written, usage.output, usage.reasoning)
