"""The settings of a route, each from the form to the API and back: canary, prices, shadow, request log, grants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.console.browsing import Console
from tests.console.chatting import gateway_at
from tests.console.layout import faults
from tests.console.test_routes import choose, make, save
from tests.control.api.conftest import Running, Start
from tests.fakes import scripts
from tests.fakes.plane import PASSWORD, Plane
from tests.fakes.upstream import Upstream
from tests.processes import eventually, free_port


@pytest.fixture
def control(start_control: Start) -> Running:
    running = start_control(gateway_url=f"http://127.0.0.1:{free_port()}", allow_private_upstreams=True)
    for name in ("e1", "e2"):
        assert running.admin.post("/api/v1/endpoints", json={"name": name, "provider": "dummy", "spec": {}}).is_success
    return running


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A provider."""
    with Upstream() as server:
        yield server


def edit(console: Console) -> None:
    """Sign in as admin where the route `chat` is edited."""
    console.open("/routes/chat/edit")
    console.sign_in("admin")


def again(console: Console) -> None:
    console.open("/routes/chat/edit")


def spec(control: Running) -> dict[str, Any]:
    found: dict[str, Any] = control.admin.get("/api/v1/routes/chat").json()["spec"]
    return found


def fold(page: Page, title: str) -> Locator:
    """A fold of the settings, open."""
    item = page.locator(".el-collapse-item").filter(has=page.get_by_role("button", name=title, exact=True))
    if "is-active" not in (item.get_attribute("class") or ""):
        item.locator(".el-collapse-item__header").click()
        expect(item).to_have_class(re.compile("is-active"))
    return item.locator(".el-collapse-item__content")


def put(where: Locator, label: str, text: str) -> None:
    """Write into the field with this label, and leave it."""
    field = where.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Tab")


def test_guardrails_are_set_saved_and_shown_again(console: Console, page: Page, control: Running) -> None:
    make(control, "chat")
    make(control, "judge")
    edit(console)
    guard = fold(page, "Guardrails")
    guard.locator("[data-test=guard]").click()
    choose(page, page.locator("[data-test=guard-prompt-personal]"), "Chinese identity cards")
    page.keyboard.press("Escape")
    put(guard.locator("fieldset").first, "Words", "机密\nProject Falcon")
    put(guard.locator("fieldset").nth(1), "Patterns", "a*")
    guard.locator("[data-test=guard-restore]").click()
    put(guard, "Most characters of a request", "5000")
    guard.locator("[data-test=guard-moderation]").click()
    choose(page, page.locator("[data-test=guard-route]"), "judge")
    guard.locator("[data-test=guard-webhook]").click()
    put(guard, "Address", "http://169.254.169.254/x")
    page.locator("[data-test=guard-secret]").fill("env:DLP")
    page.locator("[data-test=route-save]").click()
    expect(guard).to_contain_text("matches nothing at all")
    expect(guard).to_contain_text("metadata")
    put(guard.locator("fieldset").nth(1), "Patterns", r"EMP-\d{6}")
    put(guard, "Address", "https://dlp.example.com/check")
    save(page)
    assert spec(control)["guard"] == {
        "prompt": {
            "personal": ["id_card"], "personal_action": "mask", "keywords": ["机密", "Project Falcon"],
            "keywords_action": "block", "patterns": [], "patterns_action": "block",
        },
        "answer": {
            "personal": [], "personal_action": "mask", "keywords": [], "keywords_action": "block",
            "patterns": [r"EMP-\d{6}"], "patterns_action": "block",
        },
        "restore": True, "max_prompt_chars": 5000, "json_answer": False,
        "moderation": {
            "route": "judge", "check": "prompt", "threshold": None, "timeout": 5.0, "on_failure": "closed",
        },
        "webhook": {
            "url": "https://dlp.example.com/check", "secret": "env:DLP", "check": "both", "timeout": 2.0,
            "on_failure": "closed",
        },
    }  # fmt: skip
    assert control.admin.delete("/api/v1/routes/judge").json()["code"] == "in_use"
    again(console)
    guard = fold(page, "Guardrails")
    expect(guard.get_by_label("Words", exact=True).first).to_have_value("机密\nProject Falcon")
    expect(guard.locator("[data-test=guard-route]")).to_contain_text("judge")
    assert faults(page) == []
    guard.locator("[data-test=guard]").click()
    save(page)
    assert spec(control)["guard"] is None


def test_the_canary_of_two_targets_gets_the_share_of_its_slider(console: Console, page: Page, control: Running) -> None:
    make(control, "chat")
    edit(console)
    slider = page.get_by_role("slider", name="Canary: share of e2/b")
    expect(slider).to_have_attribute("aria-valuenow", "25")  # the weights are 3 and 1
    slider.press("ArrowLeft")
    expect(page.locator("[data-test=target] .share").nth(1)).to_have_text("24%")
    expect(page.get_by_role("img", name="Shares of tier 1")).to_be_visible()
    save(page)
    assert [target["weight"] for target in spec(control)["target"]] == [76, 24]
    again(console)
    slider.press("Home")
    expect(page.locator("[data-test=target] .share").nth(1)).to_have_text("not used")
    save(page)
    assert [target["weight"] for target in spec(control)["target"]] == [100, 0]
    again(console)
    page.locator("[data-test=down]").nth(1).click()
    expect(slider).to_have_count(0)  # each is alone in its tier


def test_prices_are_kept_to_the_digit_and_an_empty_one_is_not_set(
    console: Console, page: Page, control: Running
) -> None:
    make(control, "chat")
    edit(console)
    put(fold(page, "Price"), "Input", "0.000125")
    put(fold(page, "Price"), "Output", "10")
    first = page.locator("[data-test=target]").first
    first.get_by_role("button", name="A price of its own").click()
    put(first, "Cached input", "0.05")
    save(page)
    kept = spec(control)
    assert {name: float(amount) for name, amount in kept["price"].items() if amount} == {
        "input": 0.000125, "output": 10.0,
    }  # fmt: skip
    own = kept["target"][0]["price"]
    assert (float(own["input"]), float(own["cached_input"]), own["cache_write"]) == (0.0, 0.05, None)
    assert kept["target"][1]["price"] is None
    again(console)
    put(fold(page, "Price"), "Input", "")
    first.get_by_role("button", name="A price of its own").click()
    expect(first.get_by_label("Cached input")).to_have_count(0)
    save(page)
    assert (float(spec(control)["price"]["input"]), spec(control)["target"][0]["price"]) == (0.0, None)


def test_a_shadow_is_set_and_taken_away(console: Console, page: Page, control: Running) -> None:
    make(control, "chat")
    edit(console)
    shadow = fold(page, "Shadow")
    shadow.locator("[data-test=shadow]").click()
    page.click("[data-test=route-check]")
    expect(page.locator("[data-test=problems]")).to_contain_text("spec.shadow.endpoint")
    expect(shadow.locator(".el-form-item__error")).to_be_visible()
    choose(page, shadow.locator(".el-select"), "e2")
    put(shadow, "Model there", "new")
    put(shadow, "Share of the requests (%)", "2.5")
    put(shadow, "Copies at a time", "3")
    assert faults(page) == []
    save(page)
    expect(page.locator("#main")).to_contain_text("e2/new 2.5%")
    assert spec(control)["shadow"] == {
        "endpoint": "e2", "model": "new", "share": 0.025, "concurrency": 3, "price": None,
    }  # fmt: skip
    again(console)
    fold(page, "Shadow").locator("[data-test=shadow]").click()
    save(page)
    assert spec(control)["shadow"] is None


def test_a_response_cache_is_set_and_taken_away(console: Console, page: Page, control: Running) -> None:
    make(control, "chat")
    make(control, "vectors")
    edit(console)
    cache = fold(page, "Response cache")
    cache.locator("[data-test=cache]").click()
    put(cache, "Kept for (seconds)", "600")
    put(cache, "Costs the caller (% of the price)", "12.5")
    choose(page, cache.locator(".el-select"), "The keys of a team")
    cache.locator("[data-test=semantic]").click()
    put(cache, "Route for embeddings", "nowhere")
    put(cache, "Similarity at least", "0.97")
    page.click("[data-test=route-check]")
    expect(page.locator("[data-test=problems]")).to_contain_text("spec.cache.semantic.route")
    expect(cache.locator(".el-form-item__error")).to_be_visible()
    put(cache, "Route for embeddings", "vectors")
    assert faults(page) == []
    save(page)
    expect(page.locator("#main")).to_contain_text("600 s, The keys of a team, at 12.5% of the price")
    kept = spec(control)["cache"]
    assert kept == {
        "ttl": 600.0, "max_bytes": 262144, "scope": "team", "billing": 0.125,
        "semantic": {"route": "vectors", "threshold": 0.97, "candidates": 1000, "timeout": 0.5},
    }  # fmt: skip
    again(console)
    fold(page, "Response cache").locator("[data-test=semantic]").click()
    save(page)
    assert spec(control)["cache"]["semantic"] is None
    again(console)
    fold(page, "Response cache").locator("[data-test=cache]").click()
    save(page)
    assert spec(control)["cache"] is None


def test_bodies_are_kept_as_the_form_says_redacted_and_shown_to_whoever_may_look(
    console: Console, page: Page, control: Running, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.on("a", scripts.chat(["Employee EMP-004711 is in."]))
    real = {"name": "up", "provider": "openai", "spec": {"base_url": upstream.url}}
    assert control.admin.post("/api/v1/endpoints", json=real).is_success
    make(control, "chat", spec={"target": [{"endpoint": "up", "model": "a"}]})
    edit(console)
    log = fold(page, "Request log")
    choose(page, log.locator("[data-test=log-bodies]"), "Both")
    put(log, "Days", "3")
    put(log, "Further patterns", "EMP-\\d{6}\n(a+)+")
    page.click("[data-test=route-save]")
    expect(page.locator("[data-test=problems]")).to_contain_text("spec.log.redact_patterns.1")
    expect(log.locator(".el-form-item__error")).to_be_visible()
    put(log, "Further patterns", "EMP-\\d{6}")
    assert faults(page) == []
    save(page)
    kept = spec(control)["log"]
    assert (kept["bodies"], kept["keep_days"], kept["redact_patterns"]) == ("both", 3, ["EMP-\\d{6}"])
    key = control.admin.post("/api/v1/keys", json={"name": "app"}).json()["secret"]
    address = control.settings.console.gateway_url
    with gateway_at(tmp_path / "gateway", address, control.url, control.service_token) as gateway:
        asked = [{"role": "user", "content": "Write to bob@example.com"}]
        assert gateway.chat("chat", secret=key, rid="kept", messages=asked).status == 200
        eventually(lambda: control.sql("SELECT COUNT(*) FROM request_body") == [(1,)])
        console.open("/requests?request_id=kept")
        page.locator(".el-table__row a").first.click()
        expect(page.locator("[data-test=reveal]")).to_be_visible()
        page.locator("[data-test=reveal]").click()
    body = page.locator("[data-test=body]")
    expect(body).to_contain_text("Write to [email]")
    expect(body).to_contain_text(re.compile(r"Employee \[.*\] is in\."))
    expect(body).not_to_contain_text("bob@")
    expect(body).not_to_contain_text("004711")


def test_grants_are_given_taken_and_never_overwritten_unseen(console: Console, page: Page, control: Running) -> None:
    make(control, "chat")
    control.admin.post("/api/v1/teams", json={"name": "lab"})
    control.admin.post("/api/v1/keys", json={"name": "bot", "team": "lab"})
    console.open("/routes/chat/grants")
    console.sign_in("admin")
    page.locator("[data-test=everyone]").click()
    expect(page.locator("#main")).to_contain_text("Nobody may use this route")
    name = page.locator(".add .el-select").last

    def add(kind: str, who: str) -> None:
        choose(page, page.locator(".add .kind"), kind)
        choose(page, name, who)
        page.click("[data-test=add-grant]")

    add("Team", "lab")
    add("Key", "bot@lab")
    add("Person", "member")
    page.click("[data-test=save-grants]")
    expect(page.locator(".el-message--success")).to_be_visible()
    console.settled()  # the page reads them again, and must not see what follows
    grants = control.admin.get("/api/v1/routes/chat/grants").json()
    assert {(one["principal_kind"], one["principal"]) for one in grants["grants"]} == {
        ("team", "lab"), ("key", "bot@lab"), ("user", "member"),
    }  # fmt: skip
    theirs = {"row_version": grants["row_version"], "grants": [{"principal_kind": "everyone"}]}
    assert control.admin.put("/api/v1/routes/chat/grants", json=theirs).is_success
    page.locator(".named .el-tag", has_text="member").locator(".el-tag__close").click()
    page.click("[data-test=save-grants]")
    expect(page.locator(".el-alert--warning")).to_contain_text("changed")
    assert control.admin.get("/api/v1/routes/chat/grants").json()["grants"][0]["principal_kind"] == "everyone"
    page.locator(".el-alert--warning").get_by_role("button").click()
    expect(page.locator(".named")).to_have_count(0)
    name.locator("input").fill("nobody-of-this-name")
    page.locator(".el-select-dropdown__item:visible", has_text="nobody-of-this-name").click()
    page.click("[data-test=add-grant]")
    page.click("[data-test=save-grants]")
    expect(page.locator(".wrong")).to_contain_text("nobody-of-this-name")


def test_control_restarts_while_a_route_is_edited_and_nothing_is_lost(page: Page, tmp_path: Path) -> None:
    with Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/c.db") as plane:
        plane.post("/endpoints", name="e1", provider="dummy", spec={})
        plane.post("/routes", name="chat", spec={"target": [{"endpoint": "e1", "model": "a"}]})
        console = Console(page, plane.url)
        console.open("/routes/chat/edit")
        console.sign_in("admin", PASSWORD)
        page.fill("[data-test=system-prompt]", "Be brief.")
        put(fold(page, "Price"), "Input", "2")
        plane.kill9()
        page.click("[data-test=route-save]")
        expect(page.locator(".el-message--error")).to_contain_text("does not answer")
        expect(page).to_have_url(f"{plane.url}/routes/chat/edit")
        expect(page.locator("[data-test=system-prompt]")).to_have_value("Be brief.")
        page.fill("[data-test=route-note]", "while it was away")
        plane.start()
        save(page)
        route = plane.get("/routes/chat")
        assert (route["version"], route["spec"]["system_prompt"]) == (2, "Be brief.")
        assert float(route["spec"]["price"]["input"]) == 2.0
        assert plane.get("/routes/chat/versions")["items"][0]["note"] == "while it was away"
