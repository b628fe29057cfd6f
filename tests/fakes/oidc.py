"""An OpenID Connect provider on loopback: discovery, keys that rotate, an authorization page that says yes, a token
endpoint that checks client, code and PKCE, UserInfo, and tokens that tell of a logout. It misbehaves as a test says.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Claims = dict[str, Any]
_RSA = [rsa.generate_private_key(65537, 2048) for _ in range(2)]


class SigningKey:
    """A private key with its id."""

    def __init__(self, algorithm: str = "RS256", number: int = 0, kid: str | None = None) -> None:
        self.algorithm, self.kid = algorithm, kid or f"key-{secrets.token_hex(3)}"
        self.private: Any = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else _RSA[number]

    def sign(self, claims: Claims) -> str:
        """A JWT of these claims."""
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.kid})

    def public(self) -> dict[str, Any]:
        """As a JWKS tells it."""
        kind = jwt.algorithms.ECAlgorithm if self.algorithm == "ES256" else jwt.algorithms.RSAAlgorithm
        return {**kind.to_jwk(self.private.public_key(), as_dict=True), "kid": self.kid, "use": "sig"}


class IdentityProvider:
    """The server. `person` is who signs in next."""

    def __init__(self) -> None:
        self.client_id, self.secret = "tunegate", "s3cret/+ with: odd&characters"
        self.methods: list[str] | None = ["client_secret_basic", "client_secret_post"]
        self.redirect_uri = "http://console.test/api/v1/auth/oidc/callback"
        self.person: Claims = {"sub": "u-1", "preferred_username": "alice", "email": "alice@example.com"}
        self.consents = True
        self.key = SigningKey()
        self.jwks: list[Any] = [self.key.public()]
        self.sign: Callable[[Claims], str] | None = None
        """Signs ID tokens instead of `key`."""
        self.alter: Callable[[Claims], object] = lambda _: None
        """Changes the claims of an ID token before it is signed."""
        self.userinfo: Claims | None = None
        """What UserInfo says besides what the ID token does; None: there is none."""
        self.document: Claims = {}
        """Overrides members of the discovery document."""
        self.faults: dict[str, str] = {}
        """Path's last part -> down, slow, garbage, html, huge, redirect, empty or list."""
        self.asked: list[str] = []
        self.forms: list[dict[str, str]] = []
        self._access: dict[str, Claims] = {}
        """Access token -> whose it is."""
        self._codes: dict[str, dict[str, str]] = {}
        self._over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._handle(self, "")

            def do_POST(self) -> None:
                server._handle(self, self.rfile.read(int(self.headers["content-length"])).decode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.issuer = f"http://127.0.0.1:{self.port}/realm"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def settings(self, **more: Any) -> dict[str, Any]:
        """`[oidc]` of a control plane that trusts this provider; the secret is in IDP_SECRET."""
        return {
            "issuer": self.issuer, "client_id": self.client_id, "client_secret": "env:IDP_SECRET",
            "allow_private": True, "default_role": "member",
        } | more  # fmt: skip

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one is not published any more."""
        self.key = SigningKey(number=1)
        self.jwks = [self.key.public()]

    def close(self) -> None:
        """End the server."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # ---- what a client sees ----

    def _handle(self, handler: BaseHTTPRequestHandler, body: str) -> None:
        url = urlsplit(handler.path)
        place = url.path.rpartition("/")[2]
        self.asked.append(place)
        with contextlib.suppress(OSError):
            fault = self.faults.get(place)
            if fault is not None:
                self._misbehave(handler, fault)
            elif place == "openid-configuration":
                self._send(handler, 200, self._discovery())
            elif place == "jwks":
                self._send(handler, 200, {"keys": self.jwks})
            elif place == "authorize":
                self._authorize(handler, _one(url.query))
            elif place == "token":
                self._send(handler, *self._token(_one(body), handler.headers.get("authorization", "")))
            elif place == "userinfo":
                self._send(handler, *self._userinfo(handler.headers.get("authorization", "")))
            else:
                self._send(handler, 404, {})

    def _discovery(self) -> Claims:
        document: Claims = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
        }
        if self.methods is not None:
            document["token_endpoint_auth_methods_supported"] = self.methods
        if self.userinfo is not None:
            document["userinfo_endpoint"] = f"{self.issuer}/userinfo"
        return document | self.document

    def logout_token(self, alter: Callable[[Claims], object] = lambda _: None, **claims: Any) -> str:
        """A logout token that tells of `sub`, `sid` or both."""
        moment = int(time.time())
        told: Claims = {
            "iss": self.issuer, "aud": self.client_id, "iat": moment, "exp": moment + 120,
            "jti": secrets.token_hex(8), "events": {"http://schemas.openid.net/event/backchannel-logout": {}}, **claims,
        }  # fmt: skip
        alter(told)
        return (self.sign or self.key.sign)(told)

    def _userinfo(self, authorization: str) -> tuple[int, Claims]:
        person = self._access.get(authorization.removeprefix("Bearer "))
        if person is None or not authorization.startswith("Bearer "):
            return 401, {"error": "invalid_token"}
        return 200, {"sub": person["sub"], **(self.userinfo or {})}

    def _authorize(self, handler: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        good = (
            query.get("response_type") == "code"
            and query.get("client_id") == self.client_id
            and query.get("redirect_uri") == self.redirect_uri
            and "openid" in query.get("scope", "").split()
            and query.get("code_challenge_method") == "S256"
            and len(query.get("code_challenge", "")) == 43
        )
        if not good:
            return self._send(handler, 400, {"error": "invalid_request"})
        answer = {"state": query["state"]}
        if self.consents:
            answer["code"] = secrets.token_urlsafe(16)
            self._codes[answer["code"]] = query
        else:
            answer |= {"error": "access_denied", "error_description": "<script>no</script>"}
        handler.send_response(302)
        handler.send_header("location", f"{self.redirect_uri}?{urlencode(answer)}")
        handler.send_header("content-length", "0")
        return handler.end_headers()

    def _token(self, form: dict[str, str], authorization: str) -> tuple[int, Claims]:
        self.forms.append(form)
        if not self._is_client(form, authorization):
            return 401, {"error": "invalid_client"}
        began = self._codes.pop(form.get("code", ""), None)  # good once
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            form.get("grant_type") != "authorization_code"
            or began is None
            or began["redirect_uri"] != form.get("redirect_uri")
            or began["code_challenge"] != base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        ):
            return 400, {"error": "invalid_grant"}
        moment = int(time.time())
        claims = {
            "iss": self.issuer, "aud": self.client_id, "iat": moment, "exp": moment + 300,
            "nonce": began["nonce"], "email_verified": True, **self.person,
        }  # fmt: skip
        self.alter(claims)
        access = secrets.token_urlsafe(16)
        self._access[access] = self.person
        return 200, {"access_token": access, "token_type": "Bearer", "id_token": (self.sign or self.key.sign)(claims)}

    def _is_client(self, form: dict[str, str], authorization: str) -> bool:
        if authorization:
            pair = base64.b64decode(authorization.removeprefix("Basic ")).decode()
            name, _, secret = pair.partition(":")
            shown = ("client_secret_basic", unquote_plus(name), unquote_plus(secret))
        elif "client_secret" in form:
            shown = ("client_secret_post", form.get("client_id", ""), form["client_secret"])
        else:
            shown = ("none", form.get("client_id", ""), "")
        return shown[0] in (self.methods or ["client_secret_basic"]) and shown[1:] == (self.client_id, self.secret)

    def _misbehave(self, handler: BaseHTTPRequestHandler, fault: str) -> None:
        if fault == "slow":
            self._over.wait(20)
        elif fault == "garbage":
            handler.wfile.write(b"this is not HTTP\r\n\r\n")
            return
        status = {"down": 503, "redirect": 302}.get(fault, 200)
        body = {"html": b"<html>", "huge": b" " * 3_000_000, "list": b"[1]"}.get(fault, b"")
        handler.send_response(status)
        if fault == "redirect":
            handler.send_header("location", f"{self.issuer}/elsewhere")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, document: Claims) -> None:
        body = json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def _one(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}
