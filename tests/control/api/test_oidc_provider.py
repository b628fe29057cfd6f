"""What a provider may say that is wrong, forged or late: nobody is signed in by it, and the reason is told."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest

from control.kit import oidc
from tests.control.api.browser import PUBLIC, Browser, failed
from tests.control.api.conftest import Running, Start
from tests.fakes.oidc import IdentityProvider, SigningKey


@pytest.fixture
def control(start_control: Start, idp: IdentityProvider) -> Running:
    return start_control(oidc=idp.settings(), public_url=PUBLIC)


@pytest.fixture
def browser(control: Running) -> Browser:
    return Browser(control)


# ---- the ID token ----

ALTERED: dict[str, tuple[str, Any]] = {
    "another audience": ("sso_token_invalid", lambda c: c.update(aud="someone-else")),
    "no audience": ("sso_token_invalid", lambda c: c.pop("aud")),
    "several audiences and no azp": ("sso_token_invalid", lambda c: c.update(aud=["tunegate", "x"])),
    "another azp": ("sso_token_invalid", lambda c: c.update(azp="x")),
    "another issuer": ("sso_token_invalid", lambda c: c.update(iss="https://evil.example")),
    "another nonce": ("sso_token_invalid", lambda c: c.update(nonce="x")),
    "no nonce": ("sso_token_invalid", lambda c: c.pop("nonce")),
    "an odd nonce": ("sso_token_invalid", lambda c: c.update(nonce=["é"])),
    "no subject": ("sso_token_invalid", lambda c: c.pop("sub")),
    "an empty subject": ("sso_token_invalid", lambda c: c.update(sub="")),
    "a number as subject": ("sso_token_invalid", lambda c: c.update(sub=7)),
    "a long subject": ("sso_token_invalid", lambda c: c.update(sub="x" * 256)),
    "a subject with a blank behind": ("sso_token_invalid", lambda c: c.update(sub="u-1 ")),
    "a subject with a NUL": ("sso_token_invalid", lambda c: c.update(sub="u\0-1")),
    "no expiry": ("sso_token_invalid", lambda c: c.pop("exp")),
    "no time of issue": ("sso_token_invalid", lambda c: c.pop("iat")),
    "expired": ("sso_token_expired", lambda c: c.update(exp=time.time() - 90, iat=time.time() - 400)),
    "from the future": ("sso_token_expired", lambda c: c.update(iat=time.time() + 90)),
    "not yet valid": ("sso_token_expired", lambda c: c.update(nbf=time.time() + 90)),
}


@pytest.mark.parametrize(("code", "alter"), ALTERED.values(), ids=ALTERED.keys())
def test_an_id_token_that_is_not_for_this_sign_in(
    control: Running, idp: IdentityProvider, browser: Browser, code: str, alter: Any
) -> None:
    idp.alter = alter
    browser.sign_in()
    failed(control, browser, code)
    assert control.admin.get("/api/v1/users/alice").status_code == 404


@pytest.mark.parametrize(
    "alter",
    [
        lambda c: c.update(aud=["tunegate", "x"], azp="tunegate"),
        lambda c: c.update(aud=["tunegate"]),
        lambda c: c.update(exp=time.time() - 30),
        lambda c: c.update(iat=time.time() + 30, nbf=time.time() + 30),
    ],
)
def test_an_id_token_that_is_good_if_clocks_differ_a_little(
    idp: IdentityProvider, browser: Browser, alter: Any
) -> None:
    idp.alter = alter
    assert browser.sign_in() == "/"


def unsigned(claims: dict[str, Any]) -> str:
    parts = ({"alg": "none", "kid": None}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


@pytest.mark.parametrize(
    "how", ["none", "client secret", "public key", "another key", "unknown kid", "garbage", "huge"]
)
def test_an_id_token_that_the_provider_did_not_sign(
    control: Running, idp: IdentityProvider, browser: Browser, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers, stranger = {"kid": idp.key.kid}, SigningKey(number=1, kid=idp.key.kid)
    signers = {
        "none": unsigned,
        "client secret": lambda claims: jwt.encode(claims, idp.secret.ljust(32), "HS256", headers=headers),
        "public key": lambda claims: jwt.encode(claims, idp.jwks[0]["n"], "HS256", headers=headers),
        "another key": stranger.sign,
        "unknown kid": SigningKey(number=1).sign,
        "garbage": lambda _: "a.b.c",
        "huge": lambda _: "A" * 900_000,
    }
    idp.sign = signers[how]
    browser.sign_in()
    failed(control, browser, "sso_token_invalid")


def test_keys_are_kept_and_fetched_again_for_one_that_is_new_but_not_for_ever(
    idp: IdentityProvider, browser: Browser
) -> None:
    for _ in range(2):
        assert browser.sign_in() == "/"
    assert (idp.asked.count("jwks"), idp.asked.count("openid-configuration")) == (1, 1)
    idp.rotate()
    assert browser.sign_in() == "/"
    assert idp.asked.count("jwks") == 2
    idp.sign = SigningKey().sign  # never published
    for _ in range(3):
        assert browser.sign_in() == "/login?sso_error=sso_token_invalid"
    assert idp.asked.count("jwks") == 2, "within 30 s of the last search"


@pytest.mark.parametrize(
    "jwks",
    [
        [],
        [7, None, {"kty": "RSA"}, {"kty": "oct", "k": "AAAA"}],
        [{"kty": "RSA", "kid": "the-key", "n": "!", "e": "AQAB"}],
        [{"kty": "RSA", "kid": "the-key", "n": 7, "e": []}],
        [{"kty": "RSA", "kid": "the-key", "n": "AQAB", "e": "AQAB"}],
        [{"kty": "RSA", "kid": "the-key", "use": "enc"}],
    ],
)
def test_keys_that_are_none(control: Running, idp: IdentityProvider, browser: Browser, jwks: list[Any]) -> None:
    idp.key.kid, idp.jwks = "the-key", jwks
    browser.sign_in()
    failed(control, browser, "sso_token_invalid")


# ---- the provider is away, or not itself ----


@pytest.mark.parametrize("place", ["token", "jwks"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("down", "sso_provider_down"),
        ("slow", "sso_provider_down"),
        ("garbage", "sso_provider_bad_reply"),
        ("html", "sso_provider_bad_reply"),
        ("huge", "sso_provider_bad_reply"),
        ("redirect", "sso_provider_bad_reply"),
        ("empty", "sso_provider_bad_reply"),
        ("list", "sso_provider_bad_reply"),
    ],
)
def test_a_provider_that_fails_half_way(
    control: Running, idp: IdentityProvider, browser: Browser, place: str, fault: str, code: str
) -> None:
    assert control.parts.oidc is not None
    control.parts.oidc.outbound.seconds = 0.5
    idp.faults[place] = fault
    browser.sign_in()
    failed(control, browser, code)
    idp.faults.clear()


def test_a_provider_that_is_down_is_asked_seldom_and_found_again(
    control: Running, idp: IdentityProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    idp.faults["openid-configuration"] = "down"
    for _ in range(5):
        assert browser.sign_in() == "/login?sso_error=sso_provider_down"
    assert idp.asked == ["openid-configuration"]
    idp.faults.clear()
    monkeypatch.setattr(oidc, "REST", 0.0)
    assert browser.sign_in() == "/"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": None},
        {"token_endpoint": "file:///etc/passwd"},
        {"jwks_uri": "/jwks"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://[::1"},
    ],
)
def test_a_discovery_document_that_says_something_else(
    idp: IdentityProvider, browser: Browser, document: dict[str, Any]
) -> None:
    idp.document = document
    assert browser.sign_in() == "/login?sso_error=sso_provider_bad_reply"


def test_a_document_cannot_lead_to_a_metadata_service(
    control: Running, idp: IdentityProvider, browser: Browser
) -> None:
    idp.document = {"token_endpoint": "http://169.254.169.254/latest"}
    browser.sign_in()
    assert "metadata" in failed(control, browser, "sso_provider_down")


def test_a_wrong_client_secret_is_named_in_the_audit_log(
    control: Running, idp: IdentityProvider, browser: Browser
) -> None:
    idp.secret = "another"
    browser.sign_in()
    assert "invalid_client" in failed(control, browser, "sso_provider_refused")


def test_a_provider_at_a_private_address_needs_the_operators_word(start_control: Start, idp: IdentityProvider) -> None:
    control = start_control(oidc=idp.settings(allow_private=False), public_url=PUBLIC)
    assert Browser(control).sign_in() == "/login?sso_error=sso_provider_down"
    assert idp.asked == []
