"""A rollout by scores is begun from the console, and its evidence is shown; a route is a draft before it goes live."""

from __future__ import annotations

import json

from playwright.sync_api import Page, expect

from tests.console import comparisons
from tests.console.browsing import Console
from tests.console.layout import faults
from tests.console.training import evidence
from tests.control.api.conftest import Running
from tests.control.api.test_adapters import both_live
from tests.control.api.training import Worker

V1, V2 = "support-bot@v1", "support-bot@v2"


def test_a_rollout_by_scores_is_begun_and_its_evidence_is_shown(console: Console, page: Page, control: Running) -> None:
    both_live(control, control.admin, Worker(control))
    comparisons.suite(control, "questions", cases=20)
    console.open("/adapters/support-bot")
    console.sign_in("admin")
    page.get_by_role("button", name="Publish", exact=True).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("By rule: step by step").click()
    dialog.locator("[data-test=by-scores]").click()
    expect(dialog.locator("[data-test=publish]")).to_be_disabled()
    page.locator("[data-test=score-suite]").click()
    page.get_by_role("option", name="questions").click()
    page.locator("[data-test=score-scorer]").click()
    page.get_by_role("option", name="says it").click()
    console.settled()
    assert not [one for one in faults(page) if not one.startswith("lie over")], "but for the dialog over its page"
    dialog.locator("[data-test=publish]").click()
    expect(dialog.get_by_role("alert")).to_contain_text("keeps no bodies")
    dialog.get_by_text("Cases of the suite, drawn by chance").click()
    dialog.locator("[data-test=publish]").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("[data-test=score-state]")).to_have_text("Not known yet")
    rule = control.admin.get("/api/v1/adapters/support-bot").json()["rollout"]["rule"]["score"]
    assert (rule["suite"], rule["scorer"], rule["cases"], rule["margin"]) == ("questions", "says it", "suite", 0.05)
    control.sql("UPDATE rollout SET score = ?", json.dumps(evidence(V1)))
    console.open("/adapters/support-bot")
    expect(page.locator("[data-test=score-state]")).to_have_text("Not worse")
    shown = page.locator("[data-test=canary-scores]")
    expect(shown).to_contain_text(f"says it: {V2} less {V1}")
    expect(shown).to_contain_text("after 180 samples")
    expect(shown.get_by_role("img", name="Difference of the scores")).to_be_visible()
    assert not faults(page)
    shown.get_by_role("button", name="Difference of the scores").click()
    expect(shown.locator("tbody tr").last).to_contain_text("180")


def test_a_route_is_a_draft_until_it_goes_live(console: Console, page: Page, control: Running) -> None:
    assert control.admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).is_success
    spec = {"target": [{"endpoint": "e", "model": "m"}]}
    body = {"name": "next", "spec": spec, "grants": [{"principal_kind": "everyone"}], "draft": True}
    assert control.admin.post("/api/v1/routes", json=body).is_success
    console.open("/routes/new")
    console.sign_in("admin")
    expect(page.locator("[data-test=as-draft]")).to_be_visible()
    assert not faults(page)
    console.open("/routes")
    expect(page.get_by_role("row").filter(has_text="next")).to_contain_text("Draft")
    console.open("/routes/next/overview")
    expect(page.locator("[data-test=draft]")).to_contain_text("A draft is asked by comparisons only")
    assert not faults(page)
    page.locator("[data-test=go-live]").click()
    page.get_by_role("dialog").get_by_role("button", name="Make it live").click()
    expect(page.locator("[data-test=draft]")).to_have_count(0)
    assert control.admin.get("/api/v1/routes/next").json()["draft"] is False
