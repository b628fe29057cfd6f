"""Settings: language and theme, the price book, service tokens, and the configuration without its secrets."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.control.api.conftest import Running


def choose(page: Page, where: str, option: str) -> None:
    field = page.locator(f"[data-test={where}]")
    field.click()
    page.locator(".el-select-dropdown__item:visible", has_text=option).first.click()
    expect(field).to_contain_text(option)


def routed(control: Running) -> None:
    control.admin.post("/api/v1/endpoints", json={"name": "e1", "provider": "dummy", "spec": {}})
    spec = {"target": [{"endpoint": "e1", "model": "m1"}]}
    assert control.admin.post("/api/v1/routes", json={"name": "r1", "spec": spec, "grants": []}).status_code == 201


def test_language_and_theme_stay_in_this_browser(console: Console, page: Page) -> None:
    console.open("/settings")
    console.sign_in("member")
    expect(page.locator(".el-tabs__item")).to_have_text(["General"])
    page.locator("[data-test=theme-choice]").get_by_text("Dark").click()
    page.locator("[data-test=locale]").get_by_text("中文").click()
    expect(page.locator("h1")).to_have_text("设置")
    page.reload()
    expect(page.locator("h1")).to_have_text("设置")
    expect(page.locator("html")).to_have_class("dark")


def test_a_price_is_added_counts_at_once_and_is_calculated_with(console: Console, page: Page, control: Running) -> None:
    routed(control)
    console.open("/settings?tab=prices")
    console.sign_in("admin")
    expect(page.locator("[data-test=unpriced]")).to_contain_text("r1")
    page.locator("[data-test=add-price]").click()
    choose(page, "price-place", "e1")
    page.fill("[data-test=price-model]", "m1")
    page.fill("[data-test=price-input]", "x")
    page.locator("[data-test=price-save]").click()
    expect(page.locator(".el-form-item__error")).to_be_visible()
    page.fill("[data-test=price-input]", "2.50")
    page.fill("[data-test=price-output]", "10")
    page.locator("[data-test=price-save]").click()
    expect(page.locator(".el-table__row")).to_contain_text("m1")
    expect(page.locator("[data-test=unpriced]")).to_have_count(0)
    (version,) = control.admin.get("/api/v1/prices", params={"state": "current"}).json()["items"]
    assert (version["endpoint"], version["model"], float(version["price"]["input"])) == ("e1", "m1", 2.5)
    choose(page, "cost-route", "r1")
    page.locator("[data-test=calculate]").click()
    expect(page.locator("[data-test=costs] strong")).to_have_text("0.0075")  # 1000 × 2.5 + 500 × 10, per million


def test_a_service_token_is_shown_once_and_revoked(console: Console, page: Page, control: Running) -> None:
    console.open("/settings?tab=tokens")
    console.sign_in("admin")
    page.locator("[data-test=create-token]").click()
    page.fill("[data-test=token-name]", "gateway-9")
    page.locator("[data-test=token-save]").click()
    secret = page.locator("[data-test=secret]")
    expect(secret).to_contain_text("st-tg-")
    token = secret.inner_text().strip()
    assert control.anonymous().get("/internal/v1/spend", headers={"authorization": f"Bearer {token}"}).is_success
    page.get_by_role("button", name="Done").click()
    row = page.locator(".el-table__row", has_text="gateway-9")
    row.get_by_text("Revoke").click()
    # what is called by code has its style, too: it lies over the page, and not at its end
    expect(page.locator(".el-overlay.is-message-box")).to_have_css("position", "fixed")
    page.locator(".el-message-box__btns .el-button--primary").click()
    expect(row).to_contain_text("Revoked")
    answer = control.anonymous().get("/internal/v1/spend", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert token not in page.content()


def test_the_configuration_is_shown_with_where_to_change_it(console: Console, page: Page, control: Running) -> None:
    console.open("/settings?tab=installation")
    console.sign_in("admin")
    retention = page.locator("[data-test=table-retention]")
    expect(retention).to_contain_text("400")
    expect(retention).to_contain_text("TUNEGATE_RETENTION_LEDGER_DAYS")
    page.fill("[data-test=search-settings]", "client_secret")
    expect(page.locator("dl > div")).to_have_count(1)
    expect(page.locator("dl > div")).to_contain_text("Not set")


def test_tabs_are_for_those_who_may_see_them(console: Console, page: Page) -> None:
    console.open("/settings?tab=installation")
    console.sign_in("operator")
    expect(page.locator(".el-tabs__item")).to_have_text(["General", "Price book"])
    expect(page.locator("[data-test=theme-choice]")).to_be_visible()


def test_settings_are_explained_in_chinese_too(console: Console, page: Page) -> None:
    console.look(locale="zh-CN", theme="light")
    console.open("/settings?tab=installation")
    console.sign_in("admin")
    retention = page.locator("[data-test=table-retention]")
    expect(retention).to_contain_text("每条请求记录保留的天数")
    expect(retention).not_to_contain_text("Days for which")
    page.fill("[data-test=search-settings]", "审计日志和登录限速")
    expect(page.locator("dl > div")).to_have_count(1)
    expect(page.locator("dl > div code").first).to_have_text("trusted_proxies")
