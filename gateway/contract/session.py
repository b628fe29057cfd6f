"""Session tokens: a short-lived bearer that control signs for one API key, so that a browser never holds the key.

Form: `tgs-` + urlsafe base64 of the key's SHA-256 digest (32 bytes), the expiry in Unix seconds (8, big-endian) and
an Ed25519 signature of both (64). Gateways hold only the public key, from `SnapshotHead.session_key`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX = "tgs-"
_DIGEST, _SIGNED, _WHOLE = 32, 40, 104
_LENGTH = len(PREFIX) + 140


@dataclass(frozen=True, slots=True)
class Claim:
    """What a token says. Nothing of it is true before `proven` has said so."""

    digest: bytes
    """SHA-256 of the API key that it stands for."""
    expires_at: int
    """Unix seconds."""
    signed: bytes
    signature: bytes


def sign(key: Ed25519PrivateKey, digest: bytes, expires_at: int) -> str:
    """A token for the key with this SHA-256 digest (32 bytes), good until `expires_at` (Unix seconds)."""
    if len(digest) != _DIGEST:
        raise ValueError("a SHA-256 digest has 32 bytes")
    signed = digest + expires_at.to_bytes(8)
    return PREFIX + base64.urlsafe_b64encode(signed + key.sign(signed)).decode("ascii")


def claimed(token: bytes) -> Claim | None:
    """What a token says, or None if it is not formed like one."""
    if len(token) != _LENGTH:
        return None
    try:
        raw = base64.b64decode(token[len(PREFIX) :], altchars=b"-_", validate=True)
    except ValueError:
        return None
    if len(raw) != _WHOLE:
        return None
    return Claim(raw[:_DIGEST], int.from_bytes(raw[_DIGEST:_SIGNED]), raw[:_SIGNED], raw[_SIGNED:])


def proven(key: Ed25519PublicKey, claim: Claim) -> bool:
    """Whether the holder of the private key has signed it."""
    try:
        key.verify(claim.signature, claim.signed)
    except InvalidSignature:
        return False
    return True


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half as `SnapshotHead.session_key` has it: base64 of 32 bytes."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def public_key(text: str) -> Ed25519PublicKey:
    """The key behind `public_text`. ValueError if it is none."""
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
