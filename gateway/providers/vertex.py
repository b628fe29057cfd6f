"""Gemini on Vertex AI: the same dialect as AI Studio's, below a project, with tokens of a service account; and Claude.

https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference and
…/partner-models/claude/use-claude (read 2026-11)
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.errors import Header
from gateway.protocols.anthropic import Anthropic as Messages
from gateway.protocols.anthropic.wire import AnthropicWire
from gateway.protocols.base import Outbound
from gateway.protocols.canonical import Document, Request, Usage
from gateway.protocols.tasks.base import TaskOut
from gateway.protocols.tasks.google import ToVertex
from gateway.providers.auth import Auth, Bearer, ServiceAccount, credential_object
from gateway.providers.base import Provider, Wire
from gateway.providers.gemini import Gemini


class Vertex(Gemini):
    """The credential is the JSON of a service account's key, or a key of Vertex's express mode."""

    kind = "vertex"
    operations: tuple[str, ...] = ("gemini", "gemini_count", "predict")
    tasks: Mapping[str, TaskOut] = MappingProxyType({"embeddings": ToVertex()})

    def at(self, base_url: str, options: dict[str, Any]) -> Provider:
        """Google's models, or Anthropic's."""
        return Claude() if options.get("publisher") == "anthropic" else self

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below …/v1/projects/PROJECT/locations/REGION."""
        return b"/publishers/google" + super().path(operation, stream)

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """Tokens come by `auth`."""
        return () if api_key and api_key.startswith("{") else super().headers(api_key)

    def auth(self, api_key: str | None, host: str, options: dict[str, Any]) -> Auth | None:
        """The account's key signs for tokens."""
        account = credential_object(api_key or "", "client_email", "private_key", "token_uri")
        if account is None:
            return None
        try:
            return Bearer(ServiceAccount(account))
        except (ValueError, TypeError) as exc:
            raise ValueError("the private key of the service account cannot be read") from exc


VERSION = "vertex-2023-10-16"
"""Of the Messages API at Vertex; it stands in the body, the model in the URL."""


class ClaudeWire(AnthropicWire):
    """See `gateway.providers.base.Wire`."""

    instead_of_model: bytes | None = b'"anthropic_version":"%b"' % VERSION.encode()


class ClaudeMessages(Messages):
    """See `gateway.protocols.base.Outbound`."""

    def write_request(self, request: Request, model: str) -> Document:
        """The body for an upstream."""
        body = super().write_request(request, model)
        del body["model"]
        return {"anthropic_version": VERSION, **body}


_CLAUDE = ClaudeWire()


class Claude(Vertex):
    """Anthropic's models: their own dialect behind Google's credentials."""

    operations: tuple[str, ...] = ("messages",)
    dialect: Outbound = ClaudeMessages()
    tasks: Mapping[str, TaskOut] = MappingProxyType({})
    forward_headers = frozenset({b"anthropic-beta"})

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below …/v1/projects/PROJECT/locations/REGION."""
        return b"/publishers/anthropic/models/{model}:" + (b"streamRawPredict" if stream else b"rawPredict")

    def wire(self, operation: str) -> Wire:
        """Anthropic's."""
        return _CLAUDE

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Anthropic's."""
        return _CLAUDE.usage(raw, before)
