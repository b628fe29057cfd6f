"""Credentials that are more than a constant header: tokens that expire, and signatures of each request.

Nothing here does I/O. What must be fetched is described by `Renewal`; `gateway.upstream.renewals` fetches it, off the
path of requests.
"""

from __future__ import annotations

import base64
import re
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlencode, urlsplit

import orjson

Lines = bytes
"""Header lines, each ending in CRLF."""


def proxy_lines(proxy: str | None) -> Lines:
    """What an outbound proxy wants to see: the user and password of its URL, if it has them."""
    url = urlsplit(proxy or "")
    if url.username is None:
        return b""
    login = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return b"proxy-authorization: Basic %b\r\n" % base64.b64encode(login.encode())


class Ask(NamedTuple):
    """A POST that brings a fresh credential."""

    url: str
    headers: dict[str, str]
    body: bytes


class Renewal(Protocol):
    """A credential that is fetched, and fetched again before it expires."""

    identity: str
    """The same for two snapshots exactly if what was fetched for one serves the other."""
    expires_at: float
    """Unix time at which it is no good any more."""

    @property
    def fetched(self) -> object | None:
        """What there is; None: nothing yet."""
        ...

    def adopt(self, other: Any) -> None:
        """Take over what was fetched for another one of the same identity."""
        ...

    def ask(self, now: float) -> Ask:
        """How to get one. `now` is Unix time."""
        ...

    def take(self, body: bytes, now: float) -> None:
        """Read the answer. ValueError says what is wrong with it, and quotes nothing of it."""
        ...


class Auth(Protocol):
    """Proves each request of an endpoint."""

    @property
    def renewal(self) -> Renewal | None:
        """What must be fetched before it can; None: nothing."""
        ...

    def lines(self, path: bytes, body: bytes, now: float) -> Lines:
        """For one POST, whose path may have a query. NotReady: nothing was fetched yet."""
        ...


class NotReady(Exception):
    """The credential that the endpoint needs has not been fetched, or has expired and could not be renewed."""


class TokenRenewal(ABC):
    """An OAuth 2 access token: of Microsoft Entra by a client secret, or of Google by a service account's key."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.fetched: str | None = None
        self.expires_at = 0.0

    @abstractmethod
    def ask(self, now: float) -> Ask:
        """See `Renewal`."""

    def adopt(self, other: TokenRenewal) -> None:
        """See `Renewal`."""
        self.fetched, self.expires_at = other.fetched, other.expires_at

    def take(self, body: bytes, now: float) -> None:
        """RFC 6749, section 5.1."""
        try:
            document = orjson.loads(body)
            token, seconds = document["access_token"], float(document.get("expires_in", 3600))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ValueError("the answer is no access token") from exc
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise ValueError("the access token is not text")
        self.fetched, self.expires_at = token, now + seconds


class Bearer:
    """`authorization: Bearer` with a token that is renewed."""

    def __init__(self, renewal: TokenRenewal) -> None:
        self.renewal: TokenRenewal = renewal

    def lines(self, path: bytes, body: bytes, now: float) -> Lines:
        """See `Auth`."""
        token = self.renewal.fetched
        if token is None or now >= self.renewal.expires_at:
            raise NotReady
        return b"authorization: Bearer %b\r\n" % token.encode()


class Entra(TokenRenewal):
    """https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow (read 2026-11)"""

    def __init__(self, tenant: str, client_id: str, secret: str, scope: str, authority: str) -> None:
        super().__init__(f"entra {authority} {tenant} {client_id} {hash(secret)} {scope}")
        self._url = f"{authority}/{tenant}/oauth2/v2.0/token"
        self._form = {
            "grant_type": "client_credentials", "client_id": client_id, "client_secret": secret, "scope": scope,
        }  # fmt: skip

    def ask(self, now: float) -> Ask:
        """The client's id and secret for a token."""
        return Ask(self._url, {"content-type": "application/x-www-form-urlencoded"}, urlencode(self._form).encode())


class ServiceAccount(TokenRenewal):
    """https://developers.google.com/identity/protocols/oauth2/service-account (read 2026-11)"""

    def __init__(self, account: dict[str, str]) -> None:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 (loaded if used)

        super().__init__(f"google {account['client_email']} {account.get('private_key_id')}")
        self._email, self._url = account["client_email"], account["token_uri"]
        self._key = load_pem_private_key(account["private_key"].encode(), None)

    def ask(self, now: float) -> Ask:
        """A signed claim for a token."""
        claim = {
            "iss": self._email, "scope": "https://www.googleapis.com/auth/cloud-platform", "aud": self._url,
            "iat": int(now), "exp": int(now) + 3600,
        }  # fmt: skip
        signed = _url64(orjson.dumps({"alg": "RS256", "typ": "JWT"})) + b"." + _url64(orjson.dumps(claim))
        assertion = signed + b"." + _url64(self._sign(signed))
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion.decode()}
        return Ask(self._url, {"content-type": "application/x-www-form-urlencoded"}, urlencode(form).encode())

    def _sign(self, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

        assert isinstance(self._key, RSAPrivateKey)
        return self._key.sign(data, PKCS1v15(), SHA256())


def _url64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def secret_parts(credential: str) -> list[str]:
    """The credential, and each part of it that is a secret by itself."""
    try:
        document = credential_object(credential)
    except ValueError:
        document = None
    if document is not None:
        return [credential, *(value for name, value in document.items() if _SECRET(name))]
    return [credential, *credential.split(":")[1:2]]


_SECRET = re.compile(r"secret|private_key$|token$").search


def credential_object(credential: str, *needed: str) -> dict[str, str] | None:
    """A credential that is a JSON object of texts; None if it is something else. ValueError names what it lacks."""
    if not credential.startswith("{"):
        return None
    try:
        document = orjson.loads(credential)
    except orjson.JSONDecodeError as exc:
        raise ValueError("the credential begins like a JSON object and is none") from exc
    for name in needed:
        if not isinstance(document.get(name), str) or not document[name]:
            raise ValueError(f"the credential is a JSON object without {name!r}")
    return {name: value for name, value in document.items() if isinstance(value, str)}
