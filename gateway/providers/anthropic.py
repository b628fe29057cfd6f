"""Anthropic: Claude by its own Messages API."""

from __future__ import annotations

from typing import Any

from gateway.errors import Header
from gateway.protocols.anthropic import Anthropic as Dialect
from gateway.protocols.anthropic.wire import AnthropicWire
from gateway.protocols.base import Outbound
from gateway.protocols.canonical import Usage
from gateway.providers.base import Provider, Wire

_PATHS = {"messages": b"/messages", "count_tokens": b"/messages/count_tokens"}
_WIRE = AnthropicWire()


class Anthropic(Provider):
    """See `gateway.providers.base.Provider`."""

    kind = "anthropic"
    operations: tuple[str, ...] = ("messages", "count_tokens")
    dialect: Outbound = Dialect()
    forward_headers = frozenset({b"anthropic-beta"})

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below the base URL, which ends in /v1."""
        return _PATHS[operation]

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """The key in a header of its own, and the one version of the API there is."""
        version = ((b"anthropic-version", b"2023-06-01"),)
        return version + (((b"x-api-key", api_key.encode()),) if api_key else ())

    def wire(self, operation: str) -> Wire:
        """The same for both."""
        return _WIRE

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Its buckets are disjoint as they are."""
        return _WIRE.usage(raw, before)
