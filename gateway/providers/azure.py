"""Azure OpenAI: OpenAI's dialect, with the deployment in the path, a version in the query, a key or an Entra token.

https://learn.microsoft.com/en-us/azure/ai-services/openai/reference (read 2026-11)
"""

from __future__ import annotations

from typing import Any

from gateway.errors import Header
from gateway.protocols.base import Outbound
from gateway.protocols.chat import Chat
from gateway.providers.auth import Auth, Bearer, Entra, credential_object
from gateway.providers.base import Provider
from gateway.providers.openai import OpenAI
from gateway.providers.operations import AUDIO, BATCHES, FILES, PATHS, TEXT

_SCOPE = "https://cognitiveservices.azure.com/.default"


class Azure(OpenAI):
    """Its models are names of deployments. Without a version it is asked by the `/openai/v1` form that has none."""

    kind = "azure"
    operations: tuple[str, ...] = (*TEXT, "images", "image_edits", *AUDIO, *FILES, *BATCHES)
    dialect: Outbound = Chat()

    def __init__(self, version: str = "") -> None:
        self._version = version

    def at(self, base_url: str, options: dict[str, Any]) -> Provider:
        """One for each version of the API."""
        return Azure(str(options.get("api_version") or ""))

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below https://NAME.openai.azure.com."""
        if not self._version:
            return b"/openai/v1" + PATHS[operation]
        place = b"/openai" if operation in (*FILES, *BATCHES) else b"/openai/deployments/{model}"
        return b"%b%b?api-version=%b" % (place, PATHS[operation], self._version.encode())

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """A key has a header of its own; tokens come by `auth`."""
        return ((b"api-key", api_key.encode()),) if api_key and not api_key.startswith("{") else ()

    def auth(self, api_key: str | None, host: str, options: dict[str, Any]) -> Auth | None:
        """An Entra application's id and secret are exchanged for tokens."""
        needed = ("tenant_id", "client_id", "client_secret")
        application = credential_object(api_key or "", *needed)
        if application is None:
            return None
        tenant, client, secret = (application[name] for name in needed)
        authority = application.get("authority", "https://login.microsoftonline.com")
        return Bearer(Entra(tenant, client, secret, application.get("scope", _SCOPE), authority))
