"""Where secrets come from: references of a configuration file, and credentials that control has sealed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gateway.contract import snapshot as wire
from gateway.contract.seal import PREFIX, unseal

Credential = Callable[[wire.Endpoint], str | None]
"""The credential of an endpoint in clear; ValueError says what is wrong with it, and never quotes it."""


def secret(reference: str) -> str:
    """Resolve `env:NAME` or `file:PATH`; anything else is the secret itself. ValueError says what is missing."""
    scheme, _, rest = reference.partition(":")
    if scheme == "env":
        value = os.environ.get(rest, "")
        if not value:
            raise ValueError(f"the environment variable {rest} is not set; set it, or use file:PATH")
    elif scheme == "file":
        try:
            value = Path(rest).read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise ValueError(f"the secret file {rest} cannot be read ({exc.strerror})") from exc
        if not value:
            raise ValueError(f"the secret file {rest} is empty")
    else:
        value = reference
    return _printable(value)


def plain_credential(endpoint: wire.Endpoint) -> str | None:
    """What a configuration file says."""
    return secret(endpoint.api_key) if endpoint.api_key else None


def sealed_credential(token: str) -> Credential:
    """What control says: sealed for this service token, or a reference to what this machine holds."""

    def credential(endpoint: wire.Endpoint) -> str | None:
        value = endpoint.api_key
        if not value:
            return None
        if value.startswith(PREFIX):
            return _printable(unseal(value, token, endpoint.name, endpoint.base_url))
        if value.startswith(("env:", "file:")):
            return secret(value)
        raise ValueError(f"the credential of endpoint {endpoint.name!r} is not sealed")  # it would lie on disk in clear

    return credential


def _printable(value: str) -> str:
    if any(c < " " or c == "\x7f" for c in value):
        raise ValueError("the secret has a line break or another control character in it")
    return value
