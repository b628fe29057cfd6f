"""Secrets on their way from control to a gateway: AES-256-GCM under a key derived from the gateway's service token.

Only the holder of the token opens them, and only for the endpoint (name and URL) that they were sealed for, so a
cached snapshot or a swapped address gives nothing away. Form: `sealed:` + urlsafe base64 of nonce, ciphertext, tag.
"""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX = "sealed:"
_NONCE = 12


def _cipher(token: str) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=b"tunegate snapshot secrets v1").derive(token.encode()))


def _bound_to(endpoint: str, base_url: str) -> bytes:
    return f"{endpoint}\n{base_url}".encode()


def seal(secret: str, token: str, endpoint: str, base_url: str) -> str:
    """Seal the secret of an endpoint for the gateway that holds the service token."""
    nonce = os.urandom(_NONCE)
    return PREFIX + base64.urlsafe_b64encode(
        nonce + _cipher(token).encrypt(nonce, secret.encode(), _bound_to(endpoint, base_url))
    ).decode("ascii")


def unseal(sealed: str, token: str, endpoint: str, base_url: str) -> str:
    """Open what `seal` made.

    Raises:
        ValueError: not sealed with this token, or for another endpoint or URL. The message holds no secret.
    """
    try:
        raw = base64.urlsafe_b64decode(sealed.removeprefix(PREFIX))
        return _cipher(token).decrypt(raw[:_NONCE], raw[_NONCE:], _bound_to(endpoint, base_url)).decode()
    except (InvalidTag, ValueError) as exc:
        raise ValueError(
            f"the credential of endpoint {endpoint!r} was not sealed for this gateway's service token and this URL"
        ) from exc
