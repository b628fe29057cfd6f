"""Back-channel logout: who signs out at the provider is signed out here, and nobody else; forged tokens do nothing."""

from __future__ import annotations

import time
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.browser import PUBLIC, Browser, audited
from tests.control.api.conftest import PASSWORD, Running, Start
from tests.fakes.oidc import IdentityProvider, SigningKey

PATH = "/api/v1/auth/oidc/backchannel-logout"


@pytest.fixture
def control(start_control: Start, idp: IdentityProvider) -> Running:
    return start_control(oidc=idp.settings(), public_url=PUBLIC)


def tell(control: Running, token: str) -> httpx.Response:
    return control.anonymous().post(PATH, data={"logout_token": token})


def signed_in(control: Running, idp: IdentityProvider, subject: str = "u-1", sid: str | None = None) -> Browser:
    idp.person = {"sub": subject, "preferred_username": f"name-{subject}", **({"sid": sid} if sid else {})}
    browser = Browser(control)
    assert browser.sign_in() == "/"
    return browser


def is_in(browser: Browser) -> bool:
    return isinstance(browser.me(), dict)


def test_a_subject_is_signed_out_everywhere_and_others_are_not(control: Running, idp: IdentityProvider) -> None:
    first, second = signed_in(control, idp), signed_in(control, idp)
    other = signed_in(control, idp, "u-2")
    access = first.client.post(f"{control.url}/api/v1/auth/refresh").json()["access_token"]
    answer = tell(control, idp.logout_token(sub="u-1"))
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (200, b"", "no-store")
    assert not is_in(first)
    assert not is_in(second)
    assert is_in(other)
    me = control.anonymous().get("/api/v1/auth/me", headers={"authorization": f"Bearer {access}"})
    assert me.status_code == 401, "its access token ends at once"
    assert audited(control, "logout") == [f'single sign-on name-u-1 {{"issuer":"{idp.issuer}"}}']
    assert signed_in(control, idp).me()["username"] == "name-u-1", "and may sign in again"


@pytest.mark.parametrize("more", [{}, {"sub": "u-1"}])
def test_a_session_is_signed_out_alone(control: Running, idp: IdentityProvider, more: dict[str, str]) -> None:
    first, second = signed_in(control, idp, sid="s-1"), signed_in(control, idp, sid="s-2")
    assert is_in(first), "its refresh tokens rotate, and still belong to the session"
    assert tell(control, idp.logout_token(sid="s-1", **more)).status_code == 200
    assert not is_in(first)
    assert is_in(second), "its access token is refreshed"


def test_a_login_without_a_session_ends_with_any_of_its_subject(control: Running, idp: IdentityProvider) -> None:
    nameless, other = signed_in(control, idp), signed_in(control, idp, "u-2")
    assert tell(control, idp.logout_token(sid="unknown")).status_code == 200
    assert is_in(nameless)
    assert tell(control, idp.logout_token(sid="unknown", sub="u-1")).status_code == 200
    assert not is_in(nameless)
    assert is_in(other)


def test_twice_or_of_nobody_changes_nothing(control: Running, idp: IdentityProvider) -> None:
    signed_in(control, idp)
    token = idp.logout_token(sub="u-1")
    for _ in range(2):
        assert tell(control, token).status_code == 200
    assert tell(control, idp.logout_token(sub="nobody")).status_code == 200
    assert control.as_("member", PASSWORD).get("/api/v1/auth/me").status_code == 200


def test_a_token_that_is_told_again_does_not_end_what_began_since(control: Running, idp: IdentityProvider) -> None:
    token = idp.logout_token(sub="u-1")
    signed_in(control, idp)
    assert tell(control, token).status_code == 200
    again, other = signed_in(control, idp), idp.logout_token(sub="u-1")
    assert tell(control, token).status_code == 200
    assert is_in(again)
    assert tell(control, other).status_code == 200
    assert not is_in(again)
    control.sql("UPDATE spent_token SET expires_at = '2020-01-01 00:00:00'")
    assert tell(control, idp.logout_token(sub="nobody")).status_code == 200
    assert control.sql("SELECT count(*) FROM spent_token") == [(1,)], "what has expired is forgotten"


FORGED: dict[str, Any] = {
    "no event": lambda c: c.pop("events"),
    "another event": lambda c: c.update(events={"http://schemas.openid.net/event/other": {}}),
    "an event that is no object": lambda c: c.update(events={next(iter(c["events"])): True}),
    "events that are no object": lambda c: c.update(events=["http://schemas.openid.net/event/backchannel-logout"]),
    "a nonce": lambda c: c.update(nonce="x"),
    "neither subject nor session": lambda c: c.pop("sub"),
    "a number as subject": lambda c: c.update(sub=7),
    "no id": lambda c: c.pop("jti"),
    "no expiry": lambda c: c.pop("exp"),
    "expired": lambda c: c.update(exp=time.time() - 90),
    "from the future": lambda c: c.update(iat=time.time() + 90),
    "another audience": lambda c: c.update(aud="else"),
    "another issuer": lambda c: c.update(iss="https://evil.example"),
}


@pytest.mark.parametrize("alter", FORGED.values(), ids=FORGED.keys())
def test_a_token_that_is_no_logout_token_is_refused(control: Running, idp: IdentityProvider, alter: Any) -> None:
    browser = signed_in(control, idp)
    answer = tell(control, idp.logout_token(alter, sub="u-1"))
    assert (answer.status_code, answer.json()["code"]) == (400, "logout_token_invalid")
    assert is_in(browser)


def test_a_token_that_the_provider_did_not_sign_is_refused(control: Running, idp: IdentityProvider) -> None:
    browser = signed_in(control, idp)
    idp.sign = SigningKey(number=1, kid=idp.key.kid).sign
    assert tell(control, idp.logout_token(sub="u-1")).json()["code"] == "logout_token_invalid"
    assert is_in(browser)


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        (b"", 422, "logout_token_missing"),
        (b"logout_token=", 422, "logout_token_missing"),
        (b"logout_token=a&logout_token=b", 422, "logout_token_missing"),
        (b"\xff=\xff", 422, "logout_token_missing"),
        (b"logout_token=" + b"x" * 70_000, 413, "too_large"),
        (b"logout_token=" + b"x" * 7000, 400, "logout_token_invalid"),
    ],
)
def test_what_is_no_form_with_one_token_is_refused(control: Running, form: bytes, status: int, code: str) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = control.anonymous().post(PATH, content=form, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_guessing_is_throttled_and_good_tokens_are_not(control: Running, idp: IdentityProvider) -> None:
    for _ in range(40):
        assert tell(control, idp.logout_token(sub="u-1")).status_code == 200
    statuses = [tell(control, "x.y.z").status_code for _ in range(40)]
    assert (statuses[0], statuses[-1]) == (400, 429)


def test_a_provider_whose_keys_are_away_is_asked_to_tell_again(control: Running, idp: IdentityProvider) -> None:
    idp.faults["openid-configuration"] = "down"
    answer = tell(control, idp.logout_token(sub="u-1"))
    assert (answer.status_code, answer.json()["code"]) == (503, "sso_provider_down")


def test_without_single_sign_on_there_is_none(start_control: Start) -> None:
    answer = start_control().anonymous().post(PATH, data={"logout_token": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "sso_off")
