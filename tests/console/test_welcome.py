"""The first-run guide: from the first password to a call of the gateway; left, and taken up again."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, Route, expect

from tests.console.browsing import Console
from tests.console.layout import faults
from tests.control.api.conftest import PASSWORD, Running

NEW = "a password of my own"


@pytest.fixture
def control(control: Running) -> Running:
    control.sql("UPDATE user_account SET must_change_password = 1 WHERE username IN ('admin', 'member')")
    return control


def choose_password(page: Page) -> None:
    page.fill("#current", PASSWORD)
    page.fill("#next", NEW)
    page.fill("#again", NEW)
    page.click("[data-test=change-password]")


def test_from_the_first_password_to_a_call_of_the_gateway(console: Console, page: Page, control: Running) -> None:
    console.open("/login")
    console.sign_in("admin")
    expect(page).to_have_url(f"{console.url}/welcome")
    expect(page.locator("[data-test=step-2]")).to_have_count(0)
    choose_password(page)
    page.click("[data-test=add-provider]")
    page.locator(".el-dialog .el-select").first.click()
    page.locator(".el-select-dropdown__item:visible", has_text="Dummy").click()
    page.fill("[data-test=endpoint-name]", "trial")
    page.click("[data-test=endpoint-save]")
    tested = {"ok": True, "code": "", "detail": "", "status": 200, "latency_ms": 1.0, "models": ["tiny", "small"]}
    page.route("**/api/v1/endpoints/trial/test", lambda route: route.fulfill(json=tested))
    field = page.locator("[data-test=upstream-model]")
    field.focus()
    suggested = page.locator("[data-test=step-2] datalist option")
    expect(suggested).to_have_count(2)
    assert suggested.evaluate_all("found => found.map((one) => one.value)") == ["tiny", "small"]
    assert field.evaluate("field => field.list === document.querySelector('[data-test=step-2] datalist')")
    field.fill("tiny")
    page.click("[data-test=make-route]")
    expect(page.locator("[data-test=model]")).to_contain_text("tiny")
    page.click("[data-test=make-key]")
    secret = page.locator("[data-test=secret]").inner_text()
    snippet = page.locator("[data-test=snippet]")
    expect(snippet).to_contain_text(secret)
    expect(snippet).to_contain_text('model="tiny"')
    expect(snippet).to_contain_text(f"{control.settings.console.gateway_url}/v1")
    assert faults(page) == []
    asked: list[tuple[str | None, str]] = []

    def gateway(route: Route) -> None:
        asked.append((route.request.headers.get("authorization"), json.loads(route.request.post_data or "")["model"]))
        answer = {"choices": [{"message": {"content": "Hello there."}}]} if len(asked) > 1 else {"error": {}}
        route.fulfill(status=200 if len(asked) > 1 else 401, json=answer, headers={"access-control-allow-origin": "*"})

    page.route("**/v1/chat/completions", gateway)
    page.click("[data-test=try]")
    expect(page.locator("[data-test=outcome]")).to_contain_text("Hello there.")
    assert asked == [(f"Bearer {secret}", "tiny")] * 2, "a key that is not live yet is tried again"
    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", lambda route: route.abort())
    page.click("[data-test=try]")
    expect(page.locator("[data-test=outcome]")).to_contain_text("could not reach")


def test_it_can_be_skipped_and_is_taken_up_from_the_overview(console: Console, page: Page, control: Running) -> None:
    console.open("/login")
    console.sign_in("admin")
    choose_password(page)
    page.click("[data-test=skip]")
    page.locator("main a[href='/welcome']").click()
    expect(page.locator("[data-test=step-1]")).to_contain_text("your own")
    expect(page.locator("[data-test=step-4]")).to_be_visible()


def test_a_member_chooses_a_password_and_that_is_all(console: Console, page: Page, control: Running) -> None:
    console.open("/login")
    console.sign_in("member")
    expect(page.locator("[data-test=step-1]")).to_be_visible()
    choose_password(page)
    expect(page).to_have_url(f"{console.url}/overview")
    expect(page.locator("main a[href='/welcome']")).to_have_count(0)
    console.open("/welcome")
    expect(page.locator("[data-test=step-1]")).to_be_visible()
    expect(page.locator("[data-test=step-2]")).to_have_count(0)
