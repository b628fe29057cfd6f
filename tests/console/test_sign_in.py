"""Sign in, be sent back where one was, sign out; a role that may not; what happens when the login ends meanwhile."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.layout import faults
from tests.control.api.conftest import Running


def test_a_wrong_password_says_so_and_a_right_one_leads_back(console: Console, page: Page) -> None:
    console.open("/keys?state=all")
    expect(page).to_have_url(f"{console.url}/login?back=/keys?state=all")
    page.fill("#username", "member")
    page.fill("#password", "not the password")
    page.locator("button[type=submit]").click()
    expect(page.locator("[data-test=login-error]")).to_contain_text("wrong")
    console.sign_in("member")
    expect(page).to_have_url(f"{console.url}/keys?state=all")


@pytest.mark.parametrize("back", ["//evil.example/x", "https://evil.example/", "/\\evil.example"])
def test_login_leads_to_no_other_site(console: Console, page: Page, back: str) -> None:
    console.open(f"/login?back={back}")
    console.sign_in("member")
    assert page.url.startswith(console.url + "/")


def test_a_reload_keeps_the_login_and_signing_out_ends_it(console: Console, page: Page) -> None:
    console.open("/keys")
    console.sign_in("member")
    page.reload()
    expect(page.locator("h1")).to_have_text("API keys")
    page.locator("[data-test=account]").click()
    page.locator("[data-test=sign-out]").click()
    expect(page.locator("#username")).to_be_visible()
    console.open("/keys")
    expect(page.locator("#username")).to_be_visible()


def test_an_access_token_that_expires_is_renewed_unnoticed(console: Console, page: Page, control: Running) -> None:
    console.open("/keys")
    console.sign_in("member")
    control.parts.vault.read_access_token = _refused_once(control.parts.vault.read_access_token)  # type: ignore[method-assign]
    page.locator("[data-test=create-key]").click()
    page.fill("[data-test=key-name]", "notebook")
    page.locator("[data-test=key-save]").click()
    expect(page.locator("[data-test=secret]")).to_contain_text("sk-tg-")


def test_a_login_that_ended_returns_to_the_same_page(console: Console, page: Page, control: Running) -> None:
    console.open("/keys?state=all")
    console.sign_in("member")
    control.sql("UPDATE user_account SET token_version = token_version + 1 WHERE username = 'member'")
    control.sql("DELETE FROM refresh_session")
    page.fill("input[placeholder='Name of a key']", "x")
    page.keyboard.press("Enter")
    expect(page.locator("#username")).to_be_visible()
    console.sign_in("member")
    expect(page).to_have_url(f"{console.url}/keys?state=all&search=x")


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1920, 1280, 390])
def test_the_login_page_is_laid_out_well(console: Console, page: Page, locale: str, theme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    console.look(locale=locale, theme=theme)
    console.open("/login")
    assert faults(page) == []


def test_the_page_of_the_api_needs_no_other_server(console: Console, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    console.open("/docs")
    expect(page.locator("h1.title")).to_contain_text("Tunegate control API")
    assert asked
    assert [url for url in asked if not url.startswith((console.url, "data:"))] == []


def _refused_once(read):  # type: ignore[no-untyped-def]
    refused = False

    def once(token: str):  # type: ignore[no-untyped-def]
        nonlocal refused
        if not refused:
            refused = True
            return None
        return read(token)

    return once


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/endpoints/gpu-1.eu", 200), ("/keys", 200), ("/robots.txt", 404), ("/assets/none.js", 404),
        ("/api/v1/none", 404), ("/internal/none", 404),
    ],
)  # fmt: skip
def test_addresses_are_pages_and_files_are_files(control: Running, path: str, status: int) -> None:
    assert control.anonymous().get(path).status_code == status
