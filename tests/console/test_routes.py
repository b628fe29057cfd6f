"""Models and routes: from a provider to an explained key, targets in another order, versions, and who may only read."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.console.browsing import Console
from tests.console.layout import faults
from tests.control.api.conftest import Running

SPEC = {"target": [{"endpoint": "e1", "model": "a", "weight": 3}, {"endpoint": "e2", "model": "b"}]}


@pytest.fixture
def control(control: Running) -> Running:
    for name in ("e1", "e2"):
        assert control.admin.post("/api/v1/endpoints", json={"name": name, "provider": "dummy", "spec": {}}).is_success
    return control


def make(control: Running, name: str, **more: Any) -> None:
    body = {"name": name, "spec": SPEC, "grants": [{"principal_kind": "everyone"}]} | more
    assert control.admin.post("/api/v1/routes", json=body).is_success


def order(control: Running, name: str = "chat") -> list[tuple[str, int]]:
    spec = control.admin.get(f"/api/v1/routes/{name}").json()["spec"]
    return [(target["endpoint"], target["priority"]) for target in spec["target"]]


def choose(page: Page, field: Locator, text: str) -> None:
    field.click()
    page.locator(".el-select-dropdown__item:visible", has_text=text).first.click()
    expect(field).to_contain_text(text)


def save(page: Page) -> None:
    page.click("[data-test=route-save]")
    page.wait_for_url("**/overview")


def test_a_route_is_made_checked_and_explained_for_a_key(console: Console, page: Page, control: Running) -> None:
    key = control.admin.post("/api/v1/keys", json={"name": "app", "limits": {"rpm": 7}}).json()["public_name"]
    console.open("/routes")
    console.sign_in("admin")
    page.locator("[data-test=create-route]").click()
    page.fill("[data-test=route-name]", "team/chat")
    page.click("[data-test=route-check]")
    expect(page.locator("[data-test=problems]")).to_contain_text("spec.target.0.endpoint")
    expect(page.locator("[data-test=target] .el-form-item__error").first).to_be_visible()
    choose(page, page.locator("[data-test=target] .endpoint .el-select"), "e1")
    page.locator("[data-test=target] .model input").fill("m")
    page.locator("[data-test=everyone]").click()
    page.click("[data-test=route-check]")
    expect(page.locator("[data-test=problems]")).to_contain_text("No problems")
    save(page)
    expect(page.locator("[data-test=stage]")).to_contain_text("e1")
    page.reload()
    expect(page.locator("h1")).to_have_text("team/chat")
    console.open(f"/routes/team%2Fchat/explain?key={key}")
    expect(page.locator("[data-test=verdict]")).to_contain_text("may use this route")
    expect(page.locator("#main")).to_contain_text("Requests a minute 7")
    assert faults(page) == []


def test_targets_are_reordered_with_buttons_and_by_dragging(console: Console, page: Page, control: Running) -> None:
    make(control, "chat")
    console.open("/routes/chat/edit")
    console.sign_in("admin")
    page.locator("[data-test=up]").nth(1).press("Enter")
    save(page)
    assert order(control) == [("e2", 0), ("e1", 0)]
    console.open("/routes/chat/edit")
    page.locator("[data-test=down]").nth(1).click()
    expect(page.locator("[data-test=tier]")).to_have_count(2)
    save(page)
    assert order(control) == [("e2", 0), ("e1", 1)]
    console.open("/routes/chat/edit")
    page.locator("[data-test=handle]").nth(1).drag_to(page.locator("[data-test=target]").first)
    expect(page.locator("[data-test=tier]")).to_have_count(1)
    save(page)
    assert order(control) == [("e1", 0), ("e2", 0)]


def test_two_versions_are_compared_and_one_click_goes_back(console: Console, page: Page, control: Running) -> None:
    make(control, "chat")
    changed = {"row_version": 1, "spec": SPEC | {"system_prompt": "Be brief."}, "note": "shorter"}
    assert control.admin.patch("/api/v1/routes/chat", json=changed).is_success
    console.open("/routes/chat/versions")
    console.sign_in("admin")
    expect(page.locator("[data-test=diff]")).to_contain_text("Be brief.")
    expect(page.locator("[data-test=version]")).to_have_count(2)
    page.locator("[data-test=rollback]").click()
    page.locator(".el-message-box__btns .el-button--primary").click()
    expect(page.locator("[data-test=version]")).to_have_count(3)
    now = control.admin.get("/api/v1/routes/chat").json()
    assert (now["version"], now["spec"]["system_prompt"]) == (3, None)


def test_a_loop_of_fallbacks_is_drawn_and_a_stale_edit_is_loaded_again(
    console: Console, page: Page, control: Running
) -> None:
    make(control, "chat")
    make(control, "spare", spec=SPEC | {"fallback": "chat"})
    console.open("/routes/chat/edit")
    console.sign_in("admin")
    choose(page, page.locator("[data-test=fallback]"), "spare")
    expect(page.locator("[data-test=way-wrong]")).to_contain_text("loop")
    page.click("[data-test=route-save]")
    expect(page.locator("[data-test=problems]")).to_contain_text("spec.fallback")
    newer = {"row_version": 1, "spec": SPEC | {"system_prompt": "theirs"}}
    assert control.admin.patch("/api/v1/routes/chat", json=newer).is_success
    page.click("[data-test=route-save]")
    expect(page.locator("[data-test=stale]")).to_be_visible()
    page.locator("[data-test=stale] button").click()
    expect(page.locator("[data-test=system-prompt]")).to_have_value("theirs")


def test_a_member_sees_models_and_changes_nothing(console: Console, page: Page, control: Running) -> None:
    make(control, "chat")
    make(control, "secret", grants=[])
    console.open("/routes")
    console.sign_in("member")
    expect(page.locator("#main")).to_contain_text("The models you may use")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("[data-test=create-route]")).to_have_count(0)
    console.open("/routes/chat/overview")
    expect(page.locator("[role=tab]")).to_have_count(1)
    expect(page.locator("[data-test=edit-route]")).to_have_count(0)
    console.open("/routes/chat/edit")
    expect(page.locator("[data-test=state-forbidden]")).to_be_visible()
