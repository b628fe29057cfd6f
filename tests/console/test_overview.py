"""The overview: its numbers are those of the API in the time that is chosen; of people who may not see all, theirs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.sync_api import Page, expect

from tests.console.browsing import STILL, Console
from tests.console.test_endpoint_health import report
from tests.control.api.conftest import Running
from tests.control.api.test_usage import send
from tests.control.test_ledger import event

DAY = 86_400


def used(control: Running) -> None:
    """Requests of two people: some today, some five days and some twelve days ago."""
    for who in ("member", "engineer"):
        control.as_(who).post("/api/v1/keys", json={"name": "k"})
    now = time.time()
    send(
        control,
        *(event(key="k@member", ts=now - 60, cost_nano=250_000_000) for _ in range(3)),
        *(event(key="k@engineer", ts=now - 5 * DAY, end="upstream_error", status=502) for _ in range(4)),
        *(event(key="k@engineer", ts=now - 12 * DAY) for _ in range(14)),
    )


def tile(page: Page, name: str) -> Any:
    return page.locator(f"[data-test=tile-{name}] .value")


def test_the_numbers_are_those_of_the_api_and_follow_the_time(console: Console, page: Page, control: Running) -> None:
    used(control)
    console.open("/overview")
    console.sign_in("admin")
    expect(tile(page, "requests")).to_have_text("7")
    expect(tile(page, "errorRate")).to_have_text("57.1%")
    expect(page.locator("[data-test=tile-requests]")).to_contain_text("-50%")
    page.get_by_text("24 hours", exact=True).click()
    expect(page).to_have_url(f"{console.url}/overview?range=24h")
    expect(tile(page, "requests")).to_have_text("3")
    expect(tile(page, "cost")).to_have_text("0.75")
    page.reload()
    expect(tile(page, "requests")).to_have_text("3")
    page.get_by_text("30 days", exact=True).click()
    expect(tile(page, "requests")).to_have_text("21")
    since = (datetime.now(UTC) - timedelta(days=40)).isoformat()
    total = control.admin.get("/api/v1/usage", params={"since": since}).json()["total"]
    assert total["requests"] == 21
    expect(tile(page, "tokens")).to_have_text(str(total["total_tokens"]))


def test_a_chart_is_a_table_too(console: Console, page: Page, control: Running) -> None:
    used(control)
    console.open("/overview?range=7d")
    console.sign_in("admin")
    chart = page.locator("[data-test=chart-requests]")
    expect(chart.locator("[role=img]")).to_have_attribute("aria-label", "Requests")
    chart.get_by_role("button", name="Requests: show as a table").click()
    rows = chart.locator("tbody tr")
    expect(rows).to_have_count(7)
    expect(rows.last.locator("td")).to_have_text([rows.last.locator("td").first.inner_text(), "3", "0"])


def test_a_member_sees_what_their_own_keys_did(console: Console, page: Page, control: Running) -> None:
    used(control)
    console.open("/overview?range=30d")
    console.sign_in("member")
    expect(tile(page, "requests")).to_have_text("3")
    expect(page.locator("#main")).not_to_contain_text("engineer")


def test_what_wants_attention_is_told_to_whom_it_concerns(console: Console, page: Page, control: Running) -> None:
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    budget = {"amount": "0.00001", "window": "month"}
    control.as_("member").post("/api/v1/keys", json={"name": "tight", "budgets": [budget], "expires_at": soon})
    control.admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}})
    route = {"name": "free", "spec": {"target": [{"endpoint": "e", "model": "m"}]}, "grants": []}
    assert control.admin.post("/api/v1/routes", json=route).status_code == 201
    send(control, event(key="tight@member", cost_nano=9_500))
    console.open("/overview")
    console.sign_in("member")
    expect(page.locator("[data-test=warning-expiring]")).to_contain_text("tight@member")
    expect(page.locator("[data-test=warning-budgets]")).to_contain_text("95%")
    expect(page.locator("[data-test=warning-unpriced]")).to_have_count(0)
    page.locator("[data-test=warning-budgets] a").click()
    expect(page.locator("[data-test=key-drawer] [data-test=budget]")).to_contain_text("of")
    context = page.context.browser.new_context(reduced_motion=STILL)  # type: ignore[union-attr]
    other = Console(context.new_page(), control.url)
    other.look(locale="en", theme="light")
    other.open("/overview")
    other.sign_in("admin")
    expect(other.page.locator("[data-test=warning-unpriced]")).to_contain_text("free → e/m")
    other.page.locator("[data-test=warning-unpriced] a").click()
    expect(other.page.locator("[data-test=unpriced]")).to_contain_text("free")
    context.close()


def test_nothing_yet_leads_to_the_first_steps(console: Console, page: Page) -> None:
    console.open("/overview")
    console.sign_in("admin")
    expect(page.locator("[data-test=warning-noRoute] a")).to_have_attribute("href", "/routes")
    expect(page.locator("[data-test=state-empty]")).to_contain_text("No requests")


def test_a_gateway_without_contact_is_told_and_what_to_do(console: Console, page: Page, control: Running) -> None:
    console.open("/overview")
    console.sign_in("admin")
    link = page.locator("[data-test=warning-noGateway] a")
    expect(link).to_have_text("Make a service token")
    expect(page.locator("[data-test=warning-silent]")).to_have_count(0)
    for gateway in ("gw-1/w0", "gw-2/w0"):
        report(control, gateway)
    control.sql("UPDATE gateway_status SET reported_at = datetime('now', '-2 hours') || '.000000'")
    report(control, "gw-1/w0")
    page.reload()
    silent = page.locator("[data-test=warning-silent]")
    expect(silent).to_contain_text("Gateways without contact: 1")
    expect(silent).to_contain_text("gw-2/w0 (last heard 2 hours ago). See whether they run")
    expect(silent).not_to_contain_text("gw-1")
    expect(page.locator("[data-test=warning-noGateway]")).to_have_count(0)
    control.sql("UPDATE gateway_status SET reported_at = datetime('now', '-2 hours') || '.000000'")
    page.reload()
    expect(silent).to_contain_text("No other gateway is in contact")


def test_members_are_not_told_of_gateways(console: Console, page: Page) -> None:
    console.open("/overview")
    console.sign_in("member")
    expect(page.locator("[data-test^=tile-]").first).to_be_visible()
    expect(page.locator("[data-test=warning-noGateway]")).to_have_count(0)
