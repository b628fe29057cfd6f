"""Google's Gemini on Vertex AI: the same dialect as AI Studio's, below a project, with tokens of a service account.

https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference (read 2026-11)
"""

from __future__ import annotations

from typing import Any

from gateway.errors import Header
from gateway.providers.auth import Auth, Bearer, ServiceAccount, credential_object
from gateway.providers.gemini import Gemini


class Vertex(Gemini):
    """The credential is the JSON of a service account's key, or a key of Vertex's express mode."""

    kind = "vertex"

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
