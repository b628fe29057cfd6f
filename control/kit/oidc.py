"""OpenID Connect as the relying party sees it: authorization code with PKCE, UserInfo, back-channel logout.

It knows nothing of our users.

Discovery document and keys are fetched when first needed and kept for an hour; a token signed by a key that is not
among them has them fetched again, at most every `LEAST_BETWEEN` seconds. What the provider answers is not believed
until it is checked: addresses, signature, issuer, audience, nonce, times.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import jwt

from control.kit.outbound import Outbound, OutboundError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric ones only: with HS256 our own client secret, or a public key taken for one, could sign."""
KEEP = 3600.0
"""Seconds that a discovery document and its keys are good for."""
LEAST_BETWEEN = 30.0
"""Seconds between two fetches of keys because of an unknown one."""
REST = 3.0
"""Seconds after a failed fetch in which the next one fails at once: everybody's tries do not make an outage worse."""
CLOCK_SKEW = 60
"""Seconds that the provider's clock may differ from ours."""
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_WORD = re.compile(r"^[a-z_]{1,40}$")
_BEARER = re.compile(r"[!-~]{1,16384}")


class SsoError(Exception):
    """Why a single sign-on failed: `code` from a closed vocabulary (docs/operations.md), `detail` for log and audit."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


@dataclass(frozen=True, slots=True)
class Client:
    """What the provider knows of us."""

    issuer: str
    client_id: str
    secret: str
    """Empty: a public client."""
    scopes: str
    redirect_uri: str
    wanted: tuple[str, ...] = ()
    """Claims that UserInfo is asked for if the ID token lacks any of them."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One sign-in under way, as the browser keeps it in a signed cookie."""

    state: str
    nonce: str
    verifier: str
    return_to: str

    @classmethod
    def begin(cls, return_to: str) -> Flow:
        """A new one, of random values."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32), return_to)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says it is."""

    issuer: str
    subject: str
    claims: Mapping[str, Any]
    """Of the ID token, verified; what it lacks of the claims that are wanted is from UserInfo."""
    session: str = ""
    """What the provider calls this login (`sid`); empty: nothing."""


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """Whose login has ended at the provider: that of a session, or, without one, every login of the subject."""

    subject: str
    session: str
    token: str
    """What the provider calls the token (`jti`)."""
    expires_at: datetime
    """From then on the token is refused, clock skew included."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a discovery document says that we use, checked."""

    authorize: str
    token: str
    jwks: str
    userinfo: str
    """Empty: there is none."""
    basic: bool
    """Whether the client secret goes into the Authorization header; else into the form."""
    fetched_at: float


class Provider:
    """The identity provider."""

    def __init__(self, client: Client, outbound: Outbound) -> None:
        self.client = client
        self.outbound = outbound
        self._discovered: Discovered | None = None
        self._keys: list[dict[str, Any]] = []
        self._keys_at = -math.inf
        self._searched_at = -math.inf
        """When keys were fetched because of an unknown one."""
        self._failed: tuple[float, str, str] | None = None
        """When a fetch failed last, with which code and detail; None: the last one worked."""
        self._alone = asyncio.Lock()

    async def authorize_url(self, flow: Flow) -> str:
        """Where the browser goes to sign in.

        Raises:
            SsoError: the provider does not say where.
        """
        found = await self._discover()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(flow.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": self.client.client_id, "redirect_uri": self.client.redirect_uri,
            "scope": self.client.scopes, "state": flow.state, "nonce": flow.nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{found.authorize}{'&' if '?' in found.authorize else '?'}{urlencode(query)}"

    async def identify(self, flow: Flow, code: str) -> Identity:
        """Trade the code that the browser brought for an ID token, and verify that.

        Raises:
            SsoError: the provider is away or refuses, or the token is not for this sign-in.
        """
        found = await self._discover()
        token, access = await self._exchange(found, flow, code)
        claims = await self._verified(token, "ID token", "sub")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), flow.nonce.encode()):
            raise SsoError("sso_token_invalid", "the ID token is for another sign-in: its nonce differs")
        audience, party = claims["aud"], claims.get("azp")
        several = isinstance(audience, list) and len(audience) > 1
        if (party is not None or several) and party != self.client.client_id:
            raise SsoError("sso_token_invalid", "the ID token was issued to another client (azp)")
        subject = claims["sub"]
        if not 0 < len(subject) <= 255 or subject != subject.strip() or not subject.isprintable():
            text = "the ID token's subject is empty, longer than 255 characters, or has blanks around or controls in it"
            raise SsoError("sso_token_invalid", text)  # MariaDB takes `u` and `u ` for one
        if found.userinfo and access and not all(claims.get(name) for name in self.client.wanted):
            claims = self._completed(claims, await self._userinfo(found.userinfo, access))
        return Identity(self.client.issuer, subject, claims, _session(claims))

    async def logged_out(self, token: str) -> LoggedOut:
        """What a logout token (OpenID Connect Back-Channel Logout 1.0) says.

        Raises:
            SsoError: the token is not one of this provider's for us, or its keys cannot be fetched.
        """
        claims = await self._verified(token, "logout token", "jti")
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
            raise SsoError("sso_token_invalid", "the token says nothing of a logout: it has no such event")
        if "nonce" in claims:
            raise SsoError("sso_token_invalid", "the logout token has a nonce: it is an ID token, or made of one")
        subject, session = claims.get("sub", ""), _session(claims)
        if not isinstance(subject, str) or not (subject or session):
            raise SsoError("sso_token_invalid", "the logout token names neither a subject nor a session")
        expires_at = datetime.fromtimestamp(float(claims["exp"]) + CLOCK_SKEW, UTC)
        return LoggedOut(subject, session, str(claims["jti"]), expires_at)

    async def _discover(self) -> Discovered:
        async with self._alone:
            if self._discovered is not None and time.monotonic() - self._discovered.fetched_at < KEEP:
                return self._discovered
            url = self.client.issuer.rstrip("/") + "/.well-known/openid-configuration"
            self._discovered = self._checked(await self._fetch(url))
            return self._discovered

    def _checked(self, document: dict[str, Any]) -> Discovered:
        if document.get("issuer") != self.client.issuer:
            text = "the discovery document is of another issuer: [oidc] issuer must be what it says, to the last slash"
            raise SsoError("sso_provider_bad_reply", text)
        authorize, token, jwks = (
            self._place(document, name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
        )
        userinfo = self._place(document, "userinfo_endpoint") if document.get("userinfo_endpoint") else ""
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = not isinstance(methods, list) or "client_secret_basic" in methods
        return Discovered(authorize, token, jwks, userinfo, basic, time.monotonic())

    def _place(self, document: dict[str, Any], name: str) -> str:
        place = document.get(name)
        secure = self.client.issuer.startswith("http:") or str(place).startswith("https:")
        if not isinstance(place, str) or not _is_url(place) or not secure:
            raise SsoError("sso_provider_bad_reply", f"the discovery document has no good {name}")
        return place

    async def _exchange(self, found: Discovered, flow: Flow, code: str) -> tuple[str, str]:
        """(ID token, access token; empty without a usable one)."""
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.client.redirect_uri,
            "code_verifier": flow.verifier,
        }  # fmt: skip
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if self.client.secret and found.basic:
            pair = f"{quote_plus(self.client.client_id)}:{quote_plus(self.client.secret)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self.client.client_id
            if self.client.secret:
                form["client_secret"] = self.client.secret
        reply = await self._call("POST", found.token, headers, urlencode(form).encode())
        token = reply.get("id_token")
        if not isinstance(token, str):
            raise SsoError("sso_provider_bad_reply", "the token endpoint's answer has no id_token")
        access = reply.get("access_token")
        return token, access if isinstance(access, str) and _BEARER.fullmatch(access) else ""

    async def _userinfo(self, url: str, access: str) -> dict[str, Any]:
        return await self._call("GET", url, {"accept": "application/json", "authorization": f"Bearer {access}"})

    def _completed(self, claims: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        """The ID token's claims, and those that are wanted and it lacks."""
        if said.get("sub") != claims["sub"]:
            raise SsoError("sso_token_invalid", "UserInfo is of another subject than the ID token")
        missing = {name: said[name] for name in self.client.wanted if not claims.get(name) and name in said}
        if "email" in missing:  # the two belong together
            missing["email_verified"] = said.get("email_verified")
        return claims | missing

    async def _verified(self, token: str, what: str, needed: str) -> dict[str, Any]:
        """Claims of a token that the provider signed for us; `needed`: one that it must have besides the usual ones."""
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in ALGORITHMS:
                raise SsoError("sso_token_invalid", f"the {what} is not signed with an asymmetric algorithm")
            key = await self._key(header.get("kid"), algorithm)
            claims: dict[str, Any] = jwt.decode(
                token, key, [algorithm], audience=self.client.client_id, issuer=self.client.issuer, leeway=CLOCK_SKEW,
                options={"require": ["iss", needed, "aud", "exp", "iat"], "enforce_minimum_key_length": True},
            )  # fmt: skip
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError) as exc:
            text = f"the {what} is out of date, or from the future: compare the clocks of both machines"
            raise SsoError("sso_token_expired", text) from exc
        except (jwt.PyJWTError, ValueError, TypeError) as exc:  # a hostile token may hold anything
            raise SsoError("sso_token_invalid", f"the {what} is not valid: {type(exc).__name__}") from exc
        return claims

    async def _key(self, kid: object, algorithm: str) -> jwt.PyJWK:
        found = await self._discover()
        async with self._alone:
            moment = time.monotonic()
            old = moment - self._keys_at >= KEEP
            if not old and self._fitting(kid, algorithm) is None and moment - self._searched_at >= LEAST_BETWEEN:
                old, self._searched_at = True, moment
            if old:
                keys = (await self._fetch(found.jwks)).get("keys")
                if not isinstance(keys, list):
                    raise SsoError("sso_provider_bad_reply", "the provider's keys are not a JWKS")
                self._keys = [key for key in keys[:100] if isinstance(key, dict)]
                self._keys_at = moment
            key = self._fitting(kid, algorithm)
        if key is None:
            raise SsoError("sso_token_invalid", "the token is signed with a key that the provider does not publish")
        return jwt.PyJWK(key, algorithm)

    def _fitting(self, kid: object, algorithm: str) -> dict[str, Any] | None:
        kinds = {"R": "RSA", "P": "RSA", "E": "OKP" if algorithm == "EdDSA" else "EC"}
        fitting = [
            key
            for key in self._keys
            if key.get("kty") == kinds[algorithm[0]]
            and key.get("use", "sig") == "sig"
            and key.get("alg", algorithm) == algorithm
            and (kid is None or key.get("kid") == kid)
        ]
        return fitting[0] if len(fitting) == 1 or (fitting and kid is not None) else None

    async def _fetch(self, url: str) -> dict[str, Any]:
        """GET a document of the provider's own; after a failure the next tries fail at once for a moment."""
        if self._failed is not None and time.monotonic() - self._failed[0] < REST:
            raise SsoError(*self._failed[1:])
        try:
            document = await self._call("GET", url, {"accept": "application/json"})
        except SsoError as exc:
            self._failed = (time.monotonic(), exc.code, exc.detail)
            raise
        self._failed = None
        return document

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> dict[str, Any]:
        try:
            answer = await self.outbound.call(method, url, headers, body)
        except OutboundError as exc:
            code = "sso_provider_bad_reply" if exc.code in ("bad_reply", "too_large") else "sso_provider_down"
            hint = ": see [oidc] allow_private" if exc.code == "refused_address" else ""
            raise SsoError(code, f"{urlsplit(url).path}: {exc.detail}{hint}") from exc
        if answer.status >= 500 or answer.status == 429:
            raise SsoError("sso_provider_down", f"{urlsplit(url).path}: the provider answers {answer.status}")
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            document = None
        if answer.status >= 400:
            said = document.get("error") if isinstance(document, dict) else None
            word = said if isinstance(said, str) and _WORD.fullmatch(said) else f"status {answer.status}"
            raise SsoError("sso_provider_refused", f"{urlsplit(url).path}: the provider refuses: {word}")
        if answer.status != 200 or not isinstance(document, dict):
            raise SsoError("sso_provider_bad_reply", f"{urlsplit(url).path}: the answer is no JSON object")
        return document


def _session(claims: Mapping[str, Any]) -> str:
    said = claims.get("sid")
    return said if isinstance(said, str) and len(said) <= 255 and said.isprintable() else ""


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and len(text) <= 2000 and not parts.fragment
    except ValueError:
        return False
