"""A suite gets a schedule from its page, and what has become worse is seen and accepted there."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console import comparisons
from tests.console.browsing import Console
from tests.control.api.conftest import Running


def test_a_schedule_is_made_and_what_is_worse_accepted(console: Console, page: Page, control: Running) -> None:
    assert control.admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).is_success
    body = {"name": "chat-large", "spec": {"target": [{"endpoint": "e", "model": "m"}]}, "grants": []}
    assert control.admin.post("/api/v1/routes", json=body).is_success
    comparisons.suite(control, "support-questions")
    console.open("/suites/support-questions")
    console.sign_in("admin")
    page.locator("[data-test=edit-schedule]").click()
    page.locator("[data-test=schedule-routes]").click()
    page.get_by_role("option", name="chat-large").click()
    page.locator("[data-test=schedule-at] input, input[data-test=schedule-at]").fill("23:61")
    page.locator("[data-test=save-schedule]").click()
    expect(page.locator(".el-form-item__error")).to_be_visible()
    page.locator("[data-test=schedule-at] input, input[data-test=schedule-at]").fill("23:59")
    page.locator("[data-test=save-schedule]").click()
    expect(page.locator("[data-test=schedule]")).to_contain_text("Daily at 23:59")
    made = control.admin.get("/api/v1/suites/support-questions").json()["schedule"]
    assert (made["at"], made["run"]["candidates"][0]["route"]) == ("23:59", "chat-large")
    comparisons.run(control, "support-questions", comparisons.RUN, "done", {"chat-large": 0.5})
    comparisons.schedule(control)
    console.open("/suites")
    expect(page.get_by_text("Worse", exact=True)).to_be_visible()
    console.open("/suites/support-questions")
    expect(page.locator("[data-test=regression]")).to_contain_text("chat-large, says it: -21")
    page.locator("[data-test=accept-regression]").click()
    expect(page.locator("[data-test=regression]")).to_have_count(0)
    page.get_by_role("button", name="Remove", exact=True).click()
    page.locator(".el-message-box").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("It is asked by hand only.")).to_be_visible()
    assert control.admin.get("/api/v1/suites/support-questions").json()["schedule"] is None
