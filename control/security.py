"""Passwords, tokens and sealed secrets: everything cryptographic of the control plane, with its parameters."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from control import kms
from control.errors import ConfigError
from control.settings import SecretsTable, Settings, reference
from gateway.contract import session

BCRYPT_COST = 12
_NONCE = 12
_ALGORITHM = "HS256"
_ISSUER = "tunegate"


def sha256(text: str) -> str:
    """Hex digest: how high-entropy tokens are stored and looked up."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_token(kind: str) -> str:
    """`sk-tg-…`, `st-tg-…`: 256 random bits after a prefix that says what it is."""
    return kind + secrets.token_urlsafe(32)


async def hash_password(password: str) -> str:
    """Bcrypt of the password, in a thread: it takes a quarter of a second on purpose."""
    return await asyncio.to_thread(lambda: bcrypt.hashpw(_short(password), bcrypt.gensalt(BCRYPT_COST)).decode())


async def password_matches(password: str, stored: str | None) -> bool:
    """Whether it is the password. Takes as long for an account that has none, so time tells nothing."""
    known = stored or "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZkYwqKs7yA0aQ4Jd2l3wXbq2p9Z1aW"
    matches = await asyncio.to_thread(bcrypt.checkpw, _short(password), known.encode())
    return matches and stored is not None


def _short(password: str) -> bytes:
    # bcrypt reads 72 bytes and refuses more: a digest lets long passphrases count as a whole
    return base64.b64encode(hashlib.sha256(password.encode()).digest())


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret at rest: ciphertext under its own data key, and that key wrapped by the key-encryption key."""

    sealed: str
    wrapped_key: str
    kek_id: str


class Vault:
    """Envelope encryption with AES-256-GCM. `owner` (an id) is authenticated: a row copied elsewhere does not open.

    It seals under `kek`; what was sealed under one of `previous` still opens.
    """

    def __init__(self, kek: bytes, *previous: bytes) -> None:
        if any(len(key) != 32 for key in (kek, *previous)):
            raise ConfigError("[secrets] key must be 32 bytes in urlsafe base64 (44 characters)")
        self._keks = {kek_id(key): AESGCM(key) for key in (kek, *previous)}
        self.kek_id = kek_id(kek)
        self._jwt_key = _derived(kek, b"tunegate access tokens v1")
        self._session_key = Ed25519PrivateKey.from_private_bytes(_derived(kek, b"tunegate session tokens v1"))
        self.session_key = session.public_text(self._session_key)
        """With which gateways prove session tokens: `SnapshotHead.session_key`."""

    def seal(self, secret: str, owner: str) -> Sealed:
        """Seal a secret for the row `owner`."""
        data_key = AESGCM.generate_key(256)
        return Sealed(_encrypt(AESGCM(data_key), secret.encode(), owner), self._wrap(data_key, owner), self.kek_id)

    def seal_beside(self, sealed: Sealed, secret: str, owner: str) -> str:
        """The ciphertext of another secret of the same row, under the data key of its first one."""
        return _encrypt(AESGCM(self._unwrap(sealed, owner)), secret.encode(), owner)

    def open(self, sealed: Sealed, owner: str) -> str:
        """Open a sealed secret. ValueError when no key-encryption key here, or not this owner, sealed it."""
        return _decrypt(AESGCM(self._unwrap(sealed, owner)), sealed.sealed, owner).decode()

    def rewrap(self, sealed: Sealed, owner: str) -> Sealed:
        """The same secret under the present key-encryption key; the ciphertext itself stays. ValueError as `open`."""
        return Sealed(sealed.sealed, self._wrap(self._unwrap(sealed, owner), owner), self.kek_id)

    def access_token(self, user_id: str, token_version: int, seconds: int) -> str:
        """A signed JWT that says who, until when."""
        return self.sign("control", seconds, {"sub": user_id, "ver": token_version})

    def read_access_token(self, token: str) -> tuple[str, int] | None:
        """User id and token version of a valid access token, else None."""
        claims = self.read("control", token)
        return (str(claims["sub"]), int(claims["ver"])) if claims is not None else None

    def session_token(self, key_digest: str, expires_at: int) -> str:
        """A bearer for gateways that stands for the API key of this hex digest, until a Unix time in seconds."""
        return session.sign(self._session_key, bytes.fromhex(key_digest), expires_at)

    def sign(self, audience: str, seconds: int, claims: Mapping[str, Any]) -> str:
        """A JWT of these claims for one use, `audience`, good for some seconds."""
        moment = datetime.now(UTC)
        standard = {"iss": _ISSUER, "aud": audience, "iat": moment, "exp": moment + timedelta(seconds=seconds)}
        return jwt.encode({**claims, **standard}, self._jwt_key, _ALGORITHM)

    def read(self, audience: str, token: str) -> dict[str, Any] | None:
        """The claims of a JWT that was signed here for this use and is still good, else None."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._jwt_key, [_ALGORITHM], audience=audience, issuer=_ISSUER, options={"require": ["exp"]}
            )
        except jwt.InvalidTokenError:
            return None
        return claims

    def _unwrap(self, sealed: Sealed, owner: str) -> bytes:
        kek = self._keks.get(sealed.kek_id)
        if kek is None:
            raise ValueError(f"sealed under the key-encryption key {sealed.kek_id}, this one is {self.kek_id}")
        return _decrypt(kek, sealed.wrapped_key, owner)

    def _wrap(self, data_key: bytes, owner: str) -> str:
        return _encrypt(self._keks[self.kek_id], data_key, owner)


def _derived(kek: bytes, use: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=use).derive(kek)


def kek_id(kek: bytes) -> str:
    """What tells one key-encryption key from another, and nothing more about it."""
    return hashlib.sha256(b"tunegate kek id" + kek).hexdigest()[:16]


def _encrypt(cipher: AESGCM, plain: bytes, owner: str) -> str:
    nonce = os.urandom(_NONCE)
    return base64.urlsafe_b64encode(nonce + cipher.encrypt(nonce, plain, owner.encode())).decode()


def _decrypt(cipher: AESGCM, text: str, owner: str) -> bytes:
    raw = base64.urlsafe_b64decode(text)
    try:
        return cipher.decrypt(raw[:_NONCE], raw[_NONCE:], owner.encode())
    except InvalidTag as exc:
        raise ValueError("a sealed secret was changed, or belongs to another row") from exc


def open_vault(settings: Settings) -> Vault:
    """The vault of these settings; on a loopback listener a key is made on first use.

    Raises:
        ConfigError: no key is set although others can reach the listener, it is malformed, or cannot be unwrapped.
    """
    table = settings.secrets
    previous = [_kek("previous_key", table.previous_key, table)] if table.previous_key else []
    if table.key:
        return Vault(_kek("key", table.key, table), *previous)
    if table.unwrap_url:
        raise ConfigError("[secrets] unwrap_url needs key: the wrapped key that it is to unwrap")
    if not settings.console.is_loopback:
        raise ConfigError(
            f"[console] listen = {settings.console.listen!r} is reachable from elsewhere: set [secrets] key to "
            "env:NAME or file:PATH of a key made by `tunegate secrets new`"
        )
    return Vault(parse_kek(_own_key(settings.console.data_dir / "secret.key")), *previous)


def _kek(name: str, value: str, table: SecretsTable) -> bytes:
    if not value.startswith(("env:", "file:")):
        raise ConfigError(f"[secrets] {name} must be env:NAME or file:PATH: a key in the configuration is no secret")
    text = reference(value)
    if text.startswith(kms.WRAPPED):
        return kms.unwrap(table, text)
    if table.unwrap_url and name == "key":  # a previous key may be from the time before Vault
        raise ConfigError(f"[secrets] key is not wrapped ({kms.WRAPPED}…) although unwrap_url is set")
    return parse_kek(text)


def parse_kek(text: str) -> bytes:
    """The 32 bytes behind a key's text form."""
    try:
        return base64.urlsafe_b64decode(text)
    except ValueError as exc:
        raise ConfigError("[secrets] key is not urlsafe base64") from exc


def new_kek() -> str:
    """A new key-encryption key in its text form."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def _own_key(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_kek() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        pass  # made by an earlier start
    return path.read_text().strip()
