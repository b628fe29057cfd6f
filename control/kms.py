"""Unwraps the key-encryption key with HashiCorp Vault's transit engine: once, at start.

Vault decides who may, and keeps a record; on our disk lies only what transit wrapped. Nothing is asked later: while
Vault is away a running control goes on with the key in its memory, and only a start is refused.
"""

from __future__ import annotations

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor

from control.errors import ConfigError
from control.kit.outbound import Outbound, OutboundError
from control.settings import SecretsTable, reference

WRAPPED = "vault:v"
"""How transit's ciphertexts begin; the version of its key follows."""
SECONDS = 10.0
_SAID = {
    400: "it does not know this wrapped key: another transit key, or a version that was archived",
    403: "it refuses the token: expired, or without update on this path",
    404: "there is no transit key at this path",
    503: "it is sealed, or in maintenance",
}


def unwrap(table: SecretsTable, wrapped: str) -> bytes:
    """The key behind transit's ciphertext.

    Raises:
        ConfigError: Vault does not answer, or refuses; the message says which and holds nothing secret.
    """
    if not table.unwrap_url:
        raise ConfigError("the key is wrapped by Vault's transit engine: set [secrets] unwrap_url")
    try:
        outbound = Outbound(allow_private=True, seconds=SECONDS, ca_file=table.unwrap_ca_file)
    except OSError as exc:
        raise ConfigError(f"[secrets] unwrap_ca_file {table.unwrap_ca_file} is no usable PEM bundle: {exc}") from exc
    headers = {"x-vault-token": reference(table.unwrap_token), "x-vault-request": "true"}
    if table.unwrap_namespace:
        headers["x-vault-namespace"] = table.unwrap_namespace
    call = outbound.call("POST", table.unwrap_url, headers, json.dumps({"ciphertext": wrapped}).encode(), limit=65_536)
    try:
        with ThreadPoolExecutor(1) as thread:  # we may be called on an event loop already, before it serves anybody
            answer = thread.submit(asyncio.run, call).result()
    except OutboundError as exc:
        raise ConfigError(f"the key cannot be unwrapped: {table.unwrap_url}: {exc.detail}") from exc
    if answer.status != 200:
        said = _SAID.get(answer.status, f"it answers {answer.status}")
        raise ConfigError(f"the key cannot be unwrapped: {table.unwrap_url}: {said}")
    try:
        return base64.b64decode(json.loads(answer.body)["data"]["plaintext"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ConfigError(f"the key cannot be unwrapped: {table.unwrap_url}: the answer is not transit's") from exc
