"""Cohere by its own Chat API, version 2.

https://docs.cohere.com/reference/chat (read 2026-11)
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from gateway.errors import Header
from gateway.protocols.base import Outbound
from gateway.protocols.canonical import Usage
from gateway.protocols.cohere import Cohere as Dialect
from gateway.protocols.cohere.reply import read_usage
from gateway.protocols.counted import CountedWire
from gateway.protocols.tasks import embeddings, rerank
from gateway.providers.base import Provider, Wire

_RERANK = CountedWire(usage_key=b'"tokens"')


class Cohere(Provider):
    """See `gateway.providers.base.Provider`. Conversations are translated."""

    kind = "cohere"
    operations: tuple[str, ...] = ("cohere", "rerank_v2", "embed")
    dialect: Outbound = Dialect()
    tasks = MappingProxyType({"embeddings": embeddings.ToCohere(), "rerank": rerank.ToCohere()})
    forward_headers = frozenset({b"x-client-name"})

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below https://api.cohere.com/v2."""
        return {"cohere": b"/chat", "rerank_v2": b"/rerank", "embed": b"/embed"}[operation]

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """Bearer authentication."""
        return ((b"authorization", b"Bearer " + api_key.encode()),) if api_key else ()

    def wire(self, operation: str) -> Wire | None:
        """Conversations do not pass through."""
        return _RERANK if operation == "rerank_v2" else None

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Its `usage`."""
        return read_usage(raw)
