"""A person's first minutes: sign in to the console, choose a password, and talk to the real local model."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.chatting import run_copied
from tests.e2e.conftest import START_SECONDS, Stack
from tests.processes import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(START_SECONDS + 60)]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_local_model_answers_in_the_browser(stack: Stack, page: Page, name: str) -> None:
    console = Console(page, stack.console_url.replace("127.0.0.1", name))
    console.open("/chat")
    stack.sign_in(page)
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


def test_the_guide_ends_with_a_streamed_answer_and_code_that_runs(stack: Stack, page: Page) -> None:
    console = Console(page, stack.console_url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    console.open("/welcome")
    stack.sign_in(page)
    console.settled()
    page.locator("[data-test=model]").click()
    page.get_by_role("option", name="beta", exact=True).click()
    page.fill("[data-test=key-name]", "guided")
    page.click("[data-test=make-key]")
    page.click("[data-test=try]")
    expect(page.locator("[data-test=outcome]")).to_contain_text(stack.expect["beta"])
    page.locator("[data-test=step-4]").get_by_role("button", name="Copy").click()
    assert run_copied(page.evaluate("navigator.clipboard.readText()")) == stack.expect["beta"]

    def used() -> list[tuple[str, bool, str]]:
        rows = stack.admin.get("/api/v1/usage/requests", params={"key": "guided@admin"}).json()["items"]
        return [(row["route"], row["stream"], row["end"]) for row in rows]

    eventually(lambda: used() == [("beta", False, "success"), ("beta", True, "success")])
