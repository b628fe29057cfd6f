"""A person's first minutes: sign in to the console, choose a password, and talk to the real local model."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.console.browsing import ARGUMENTS, Console
from tests.console.conftest import BUILT, CHROMIUM
from tests.e2e.conftest import PASSWORD, START_SECONDS, Stack

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(START_SECONDS + 60)]


@pytest.fixture
def page() -> Iterator[Page]:
    """A tab of a browser with a profile of its own."""
    if CHROMIUM is None or not BUILT.exists():
        missing = "no chromium on this machine, or console/dist is not built"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(locale="en-US", viewport={"width": 1280, "height": 800})
        page.set_default_timeout(15_000)
        yield page
        browser.close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_local_model_answers_in_the_browser(stack: Stack, page: Page, name: str) -> None:
    console = Console(page, stack.console_url.replace("127.0.0.1", name))
    console.open("/chat")
    page.fill("#username", "admin")
    page.fill("#password", stack.password)
    page.locator("button[type=submit]").click()
    page.wait_for_url(lambda url: "/login" not in url)
    if not stack.password_changed:
        page.fill("#current", stack.password)
        page.fill("#next", PASSWORD)
        page.fill("#again", PASSWORD)
        with page.expect_response("**/api/v1/auth/password") as changed:
            page.locator("[data-test=change-password]").click()
        assert changed.value.ok
        stack.password_changed = True
    console.settled()
    console.open("/chat")
    page.locator("[data-test=chat-model]").click()
    page.get_by_role("option", name="alpha", exact=True).click()
    page.locator("[data-test=chat-input]").fill("Good day! What are you?")
    page.locator("[data-test=chat-input]").press("Enter")
    answer = page.locator("[data-test=chat-assistant]")
    expect(answer.locator(".markdown")).to_have_text(stack.expect["alpha"])
    expect(answer.locator("h2")).to_have_text("alpha")
    request_id = answer.locator("[data-test=chat-request-id]").text_content()
    assert request_id
    row = stack.ledger_row(request_id)
    assert (row.key, row.route, row.stream, row.end) == ("console@admin", "alpha", True, "success")
    expect(page.locator("[data-test=chat-saving]")).to_have_attribute("data-state", "saved")
    page.reload()
    expect(answer.locator(".markdown")).to_have_text(stack.expect["alpha"])
