"""The first-run guide: from the first password to a call of the gateway; left, and taken up again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.chatting import fill, gateway_at, held, run_copied
from tests.console.layout import faults
from tests.control.api.conftest import PASSWORD, Running, Start
from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway
from tests.fakes.upstream import Close, Upstream
from tests.processes import eventually, free_port

NEW = "a password of my own"


DUMMY = "This answer comes from the dummy provider"


@pytest.fixture
def control(start_control: Start) -> Running:
    running = start_control(gateway_url=f"http://127.0.0.1:{free_port()}", allow_private_upstreams=True)
    running.sql("UPDATE user_account SET must_change_password = 1 WHERE username IN ('admin', 'member')")
    return running


@pytest.fixture
def gateway(control: Running, tmp_path: Path) -> Iterator[Gateway]:
    """The gateway that runs from it, and lets its console's pages in."""
    address = control.settings.console.gateway_url
    with gateway_at(tmp_path / "gateway", address, control.url, control.service_token) as running:
        yield running


def choose_password(page: Page) -> None:
    page.fill("#current", PASSWORD)
    page.fill("#next", NEW)
    page.fill("#again", NEW)
    page.click("[data-test=change-password]")


def test_from_the_first_password_to_a_call_of_the_gateway(
    console: Console, page: Page, control: Running, gateway: Gateway
) -> None:
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
    page.click("[data-test=try]")
    expect(page.locator("[data-test=outcome]")).to_contain_text(DUMMY)
    page.locator("[data-test=step-4]").get_by_role("button", name="Copy").click()
    assert run_copied(page.evaluate("navigator.clipboard.readText()")).startswith(DUMMY)
    used = "SELECT key, route, stream FROM usage_event ORDER BY stream"
    expected = [("first-key@admin", "tiny", 0), ("first-key@admin", "tiny", 1)]
    eventually(lambda: control.sql(used) == expected)
    gateway.stop()
    page.click("[data-test=try]")
    expect(page.locator("[data-test=failure]")).to_contain_text("could not reach")
    expect(page.locator("[data-test=outcome]")).to_have_count(0)


def test_the_answer_is_shown_as_it_arrives_and_so_is_its_failure(
    console: Console, page: Page, control: Running, gateway: Gateway
) -> None:
    go = threading.Event()
    outcome, failure = page.locator("[data-test=outcome]"), page.locator("[data-test=failure]")
    with Upstream() as upstream:
        upstream.queue("gpt", held(go, "Half", " and half"))
        upstream.queue("gpt", lambda seen: [*scripts.stream([wire.word_event("begun")], end=False), Close()])
        upstream.on("gpt", scripts.error(400, "This prompt is not liked"))
        control.sql("UPDATE user_account SET must_change_password = 0")
        fill(lambda path, body: control.admin.post(f"/api/v1{path}", json=body).raise_for_status(), upstream)
        console.open("/welcome")
        console.sign_in("admin")
        page.click("[data-test=make-key]")
        page.click("[data-test=try]")
        expect(outcome).to_contain_text("Half")
        expect(page.locator("[data-test=step-4].done")).to_have_count(0)
        go.set()
        expect(outcome).to_contain_text("Half and half")
        expect(page.locator("[data-test=step-4].done")).to_have_count(1)
        page.click("[data-test=try]")
        expect(failure).to_contain_text("broke off")
        expect(outcome).to_contain_text("begun")
        page.click("[data-test=try]")
        expect(failure).to_contain_text("refused: This prompt is not liked")
        expect(outcome).to_have_count(0)


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
