"""An adapter gets a gate from its page, and what becomes of a publication is seen there."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console import comparisons
from tests.console.browsing import Console
from tests.console.layout import faults
from tests.control.api.conftest import Running
from tests.control.api.training import Worker, dataset, trained


def test_an_adapter_gets_a_gate_from_its_page(console: Console, page: Page, control: Running) -> None:
    dataset(control.admin)
    trained(control, control.admin, Worker(control))
    console.open("/adapters/support-bot")
    console.sign_in("admin")
    page.locator("[data-test=edit-gate]").click()
    expect(page.get_by_role("dialog").get_by_text("You have no suite with a version yet")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    comparisons.suite(control, "questions", cases=20)
    page.locator("[data-test=edit-gate]").click()
    page.locator("[data-test=gate-suite]").click()
    page.get_by_role("option", name="questions").click()
    page.locator("[data-test=add-threshold]").click()
    page.locator("[data-test=gate-than]").click()
    page.get_by_role("option", name="support-bot: what is published").click()
    assert not [one for one in faults(page) if not one.startswith("lie over")], "but for the dialog over its page"
    page.locator("[data-test=save-gate]").click()
    expect(page.get_by_text("says it: at least 90")).to_be_visible()
    gate = control.admin.get("/api/v1/adapters/support-bot").json()["gate"]
    assert gate["thresholds"] == [{"scorer": "says it", "at_least": 0.9}]
    assert gate["not_worse_than"] == "support-bot"
    page.locator("[data-test=edit-gate]").click()
    page.get_by_role("button", name="Remove the gate").click()
    expect(page.get_by_text("Versions are published without being asked anything.")).to_be_visible()
    assert control.admin.get("/api/v1/adapters/support-bot").json()["gate"] is None
