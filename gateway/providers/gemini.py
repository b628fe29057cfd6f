"""Google's Gemini API (AI Studio): the model stands in the URL, and streams are asked for as events."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.errors import Header
from gateway.protocols.base import Outbound
from gateway.protocols.canonical import Usage
from gateway.protocols.gemini import Gemini as Dialect
from gateway.protocols.gemini.wire import GeminiWire
from gateway.protocols.tasks.base import TaskOut
from gateway.protocols.tasks.google import ToGemini
from gateway.providers.base import Provider, Wire

_WIRE = GeminiWire()
_METHODS = {"gemini_count": b"countTokens", "batch_embed": b"batchEmbedContents", "predict": b"predict"}


class Gemini(Provider):
    """See `gateway.providers.base.Provider`."""

    kind = "gemini"
    operations: tuple[str, ...] = ("gemini", "gemini_count", "batch_embed")
    dialect: Outbound = Dialect()
    tasks: Mapping[str, TaskOut] = MappingProxyType({"embeddings": ToGemini()})
    forward_headers = frozenset({b"x-goog-api-client"})

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below the base URL, which ends in /v1beta."""
        if operation in _METHODS:
            return b"/models/{model}:" + _METHODS[operation]
        return b"/models/{model}:streamGenerateContent?alt=sse" if stream else b"/models/{model}:generateContent"

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """The key in a header of its own."""
        return ((b"x-goog-api-key", api_key.encode()),) if api_key else ()

    def wire(self, operation: str) -> Wire | None:
        """Google's own; embeddings are always written anew, since each text in them names the model."""
        return _WIRE if operation in ("gemini", "gemini_count") else None

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """`usageMetadata`."""
        return _WIRE.usage(raw)
