"""Budgets of keys and teams as bars, a key's last days, and what one does with a key from its drawer."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.control.api.conftest import Running
from tests.control.api.test_usage import send
from tests.control.test_ledger import event

BUDGETS = [{"amount": "4", "window": "month", "timezone": "Asia/Shanghai"}, {"amount": "10", "window": "total"}]


def spent(control: Running) -> None:
    """A team whose key has spent 3 of 4 this month, in two requests."""
    control.admin.post("/api/v1/teams", json={"name": "lab", "budgets": BUDGETS})
    control.admin.post("/api/v1/keys", json={"name": "bot", "team": "lab", "budgets": BUDGETS})
    send(control, *(event(key="bot@lab", team="lab", cost_nano=1_500_000_000) for _ in range(2)))


def test_a_key_shows_what_it_has_spent_and_done(console: Console, page: Page, control: Running) -> None:
    spent(control)
    console.open("/keys")
    console.sign_in("admin")
    row = page.locator(".el-table__row", has_text="bot")
    expect(row.locator("[data-test=budget]").first).to_contain_text("3.00 of 4.00")
    expect(row.get_by_role("img")).to_have_attribute("aria-label", "30 days: 2 requests, cost 3.00")
    row.get_by_role("button", name="bot", exact=True).click()
    expect(page).to_have_url(f"{console.url}/keys?key=bot@lab")
    budgets = page.locator("[data-test=key-drawer] [data-test=budget]")
    expect(budgets).to_have_count(2)
    expect(budgets.first).to_contain_text("75%")
    expect(budgets.first).to_contain_text("12:00:00 AM (Asia/Shanghai)")
    expect(budgets.last).to_contain_text("Never begins again")
    page.get_by_role("link", name="Its requests").click()
    expect(page.locator(".el-table__row code")).to_have_count(2)


def test_a_key_is_disabled_rotated_and_revoked_from_its_drawer(console: Console, page: Page, control: Running) -> None:
    spent(control)
    console.open("/keys?state=all&key=bot@lab")
    console.sign_in("admin")
    drawer = page.locator("[data-test=key-drawer]")
    drawer.get_by_role("button", name="Disable").click()
    expect(drawer.get_by_role("button", name="Enable")).to_be_visible()
    assert control.admin.get("/api/v1/keys/bot@lab").json()["enabled"] is False
    drawer.get_by_role("button", name="New secret").click()
    page.locator(".el-dialog__footer .el-button--primary").click()
    expect(page.locator("[data-test=secret]")).to_contain_text("sk-tg-")
    page.get_by_role("button", name="Done").click()
    drawer.get_by_role("button", name="Revoke").click()
    page.locator(".el-message-box__btns .el-button--primary").click()
    expect(drawer).to_contain_text("Revoked")
    expect(drawer.get_by_role("button", name="Edit")).to_have_count(0)


def test_a_team_shows_what_its_keys_have_spent_together(console: Console, page: Page, control: Running) -> None:
    spent(control)
    console.open("/teams/lab")
    console.sign_in("admin")
    expect(page.locator("[data-test=budget]").first).to_contain_text("3.00 of 4.00")


def test_keys_that_expire_soon_are_found_by_the_address(console: Console, page: Page, control: Running) -> None:
    spent(control)
    control.admin.post("/api/v1/keys", json={"name": "old", "expires_at": "2999-01-01T00:00:00Z"})
    console.open("/keys?expires=7")
    console.sign_in("admin")
    expect(page.locator("[data-test=state-empty]")).to_contain_text("Nothing matches")
