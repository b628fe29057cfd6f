"""Kept traffic of a route is replayed against another one, or compared with its shadow's answers, from its page."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.layout import faults
from tests.control.api.conftest import Running
from tests.control.api.test_recorded_runs import logged


def test_a_route_is_replayed_and_compared_with_its_shadow(console: Console, page: Page, control: Running) -> None:
    post = control.admin.post
    assert post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).is_success
    for name in ("chat", "other"):
        spec = {"target": [{"endpoint": "e", "model": "m"}], "shadow": {"endpoint": "e", "model": "s", "share": 0.1}}
        assert post("/api/v1/routes", json={"name": name, "spec": spec, "grants": []}).is_success
    for number in range(4):
        logged(control, number)
    console.open("/routes/chat/overview")
    console.sign_in("admin")
    page.locator("[data-test=replay]").click()
    page.locator("[data-test=replay-route]").click()
    page.get_by_role("option", name="other").click()
    console.settled()
    assert not [one for one in faults(page) if not one.startswith("lie over")], "but for the dialog over its page"
    page.locator("[data-test=replay-take]").click()
    expect(page.locator("[data-test=replay-estimate]")).to_contain_text("4 requests, 8 answers")
    page.locator("[data-test=replay-begin]").click()
    page.wait_for_url("**/runs/*")
    expect(page.get_by_text("chat replayed against other")).to_be_visible()
    run = control.admin.get("/api/v1/runs").json()["items"][0]
    assert ([one["route"] for one in run["candidates"]], run["total"]) == (["chat", "other"], 8)
    console.open("/routes/chat/overview")
    page.locator("[data-test=replay]").click()
    page.get_by_text("Compare with what the shadow has answered").click()
    page.locator("[data-test=replay-begin]").click()
    page.wait_for_url("**/runs/*")
    expect(page.get_by_text("chat (shadow)").first).to_be_visible()
    assert control.admin.get("/api/v1/runs").json()["items"][0]["state"] == "done"
    assert control.admin.get("/api/v1/suites").json()["total"] == 1
