"""UserInfo: asked for what the ID token lacks, believed about the same subject only, and never instead of the token."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control.api.browser import PUBLIC, Browser, failed
from tests.control.api.conftest import Running, Start
from tests.fakes.oidc import IdentityProvider


@pytest.fixture
def control(start_control: Start, idp: IdentityProvider) -> Running:
    more = {"group_roles": {"ops": "operator"}, "email_domains": ["example.com"]}
    return start_control(oidc=idp.settings(**more), public_url=PUBLIC)


@pytest.fixture
def browser(control: Running) -> Browser:
    return Browser(control)


SAID = {"preferred_username": "alice", "email": "alice@example.com", "email_verified": True, "groups": ["ops"]}


def test_what_the_id_token_lacks_comes_from_userinfo(control: Running, idp: IdentityProvider, browser: Browser) -> None:
    idp.person, idp.userinfo = {"sub": "u-1"}, SAID
    assert browser.sign_in() == "/"
    assert (browser.me()["username"], browser.me()["role"]) == ("alice", "operator")
    assert control.admin.get("/api/v1/users/alice").json()["email"] == "alice@example.com"
    assert idp.asked.count("userinfo") == 1


def test_it_is_not_asked_when_nothing_is_missing(idp: IdentityProvider, browser: Browser) -> None:
    idp.person = {"sub": "u-1", **SAID}
    idp.userinfo = {"groups": ["admins"], "email": "eve@evil.example"}
    assert browser.sign_in() == "/"
    assert "userinfo" not in idp.asked


def test_what_the_id_token_says_wins(control: Running, idp: IdentityProvider, browser: Browser) -> None:
    idp.person = {"sub": "u-1", "preferred_username": "alice", "groups": ["ops"]}
    idp.userinfo = SAID | {"preferred_username": "eve", "groups": [], "iss": "https://evil.example"}
    assert browser.sign_in() == "/"
    assert (browser.me()["username"], browser.me()["role"]) == ("alice", "operator")


@pytest.mark.parametrize("verified", [False, None])
def test_an_address_of_userinfo_is_verified_by_userinfo(
    control: Running, idp: IdentityProvider, browser: Browser, verified: Any
) -> None:
    idp.person = {"sub": "u-1", "email_verified": True}  # of no address
    idp.userinfo = SAID | {"email_verified": verified}
    browser.sign_in()
    failed(control, browser, "sso_domain")


@pytest.mark.parametrize("subject", ["u-2", None, "", "u-1 ", ["u-1"]])
def test_another_subject_is_refused(control: Running, idp: IdentityProvider, browser: Browser, subject: Any) -> None:
    idp.person, idp.userinfo = {"sub": "u-1"}, SAID | {"sub": subject}
    browser.sign_in()
    assert "another subject" in failed(control, browser, "sso_token_invalid")


@pytest.mark.parametrize(
    ("fault", "code"),
    [("down", "sso_provider_down"), ("html", "sso_provider_bad_reply"), ("huge", "sso_provider_bad_reply"),
     ("list", "sso_provider_bad_reply"), ("redirect", "sso_provider_bad_reply")],
)  # fmt: skip
def test_a_userinfo_that_fails_lets_nobody_in_with_less_than_they_have(
    control: Running, idp: IdentityProvider, browser: Browser, fault: str, code: str
) -> None:
    idp.person, idp.userinfo = {"sub": "u-1"}, SAID
    idp.faults["userinfo"] = fault
    browser.sign_in()
    failed(control, browser, code)


def test_a_place_that_is_none_is_refused(control: Running, idp: IdentityProvider, browser: Browser) -> None:
    idp.document["userinfo_endpoint"] = "javascript:alert(1)"
    browser.sign_in()
    assert browser.seen[-1] == "/login?sso_error=sso_provider_bad_reply"


def test_a_provider_without_userinfo_is_as_good_as_its_id_token(
    control: Running, idp: IdentityProvider, browser: Browser
) -> None:
    idp.person = {"sub": "u-1", "preferred_username": "alice"}
    browser.sign_in()
    failed(control, browser, "sso_domain")
