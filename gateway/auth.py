"""Who is asking: bearer token → SHA-256 digest → key record. One dictionary look-up, and nothing that can be slow.

The token is hashed before anything else is done with it, so no part of a hostile value reaches a log or a query. Only
what is no key may be a session token, which stands for a key and is held to all of that key's rules.
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address

from gateway.contract import session
from gateway.errors import GatewayError
from gateway.runtime import KeyRecord, Runtime
from gateway.same_head import Credential

_CHALLENGE = ((b"www-authenticate", b"Bearer"),)
_SESSION = session.PREFIX.encode()


def credential(authorization: bytes | None) -> Credential:
    """What an `Authorization: Bearer …` header holds. Raises GatewayError(policy_key) with 401."""
    if authorization is None:
        raise _refused("No API key was sent. Put it in the header: Authorization: Bearer YOUR_KEY.")
    if authorization[:7].lower() != b"bearer ":
        raise _refused("The Authorization header must read: Bearer YOUR_KEY.")
    token = authorization[7:].strip()
    return Credential(token, sha256(token).digest())


def authenticate(runtime: Runtime, told: Credential, peer: str, now: float) -> KeyRecord:
    """The record of the key that a caller proves itself by.

    `peer` is the caller's address, `now` Unix time in seconds. Raises GatewayError(policy_key) with 401, or
    GatewayError(policy_access) with 403 when the key is good but the caller's address is not.
    """
    token, digest = told
    key = runtime.keys.get(digest)
    if key is None and token.startswith(_SESSION):
        key = _of_session(runtime, token, now)
    if key is None:
        raise _refused("Incorrect API key provided. Ask your administrator for a key of this gateway.")
    if key.unconditional:
        return key
    if not key.enabled:
        raise _refused(f"The API key {key.name!r} is disabled. Ask your administrator to enable it.")
    if key.expires_at is not None and now >= key.expires_at:
        raise _refused(f"The API key {key.name!r} has expired. Ask your administrator for a new one.")
    if key.networks and not _allowed(key, peer):
        raise GatewayError("policy_access", f"The API key {key.name!r} may not be used from the address {peer}.")
    return key


def _of_session(runtime: Runtime, token: bytes, now: float) -> KeyRecord | None:
    """The record of the key that a session token stands for. The signature, which takes 0.1 ms to check, comes last:
    whoever does not know the digest of a key cannot make us check one.
    """
    claim = session.claimed(token)
    if claim is None or runtime.session_key is None:
        return None
    if now >= claim.expires_at:
        raise _refused("This session token has expired. Ask control for a new one.")
    key = runtime.keys.get(claim.digest)
    return key if key is not None and session.proven(runtime.session_key, claim) else None


def _refused(message: str) -> GatewayError:
    return GatewayError("policy_key", message, headers=_CHALLENGE)


def _allowed(key: KeyRecord, peer: str) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in key.networks)
