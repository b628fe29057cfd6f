"""The request log: page by page, narrowed, one request with its copy, and bodies that nobody reads unseen."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from tests.console.browsing import STILL, Console
from tests.control.api.conftest import Running
from tests.control.api.test_request_log import audit, filled
from tests.control.api.test_usage import send
from tests.control.test_ledger import event

FAILED: dict[str, Any] = {"endpoint": "a", "model": "m", "status": 503, "error": "provider_5xx", "ms": 30.0}
GOOD: dict[str, Any] = {"endpoint": "b", "model": "n", "status": 200, "error": "", "ms": 20.0}


def test_pages_go_further_and_back_without_a_row_twice(console: Console, page: Page, control: Running) -> None:
    send(control, *(event(request_id=f"r-{n:02}") for n in range(60)))
    console.open("/requests")
    console.sign_in("admin")
    ids = page.locator(".el-table__row code")
    seen: list[str] = []
    for expected in (25, 25, 10):
        expect(ids).to_have_count(expected)
        seen += ids.all_inner_texts()
        if expected == 25:
            page.locator("[data-test=next]").click()
            console.settled()
    assert seen == [f"r-{n:02}" for n in reversed(range(60))]
    expect(page.locator("[data-test=next]")).to_be_disabled()
    page.reload()
    expect(ids).to_have_count(10)
    page.locator("[data-test=previous]").click()
    console.settled()
    assert ids.first.inner_text() == "r-34"


def test_filters_are_in_the_address_and_survive_a_reload(console: Console, page: Page, control: Running) -> None:
    send(control, event(request_id="good"), event(request_id="bad", end="upstream_error", status=502))
    console.open("/requests")
    console.sign_in("admin")
    page.locator("[data-test=end]").click()
    page.locator(".el-select-dropdown__item:visible", has_text="Any failure").click()
    expect(page).to_have_url(f"{console.url}/requests?end=failed")
    expect(page.locator(".el-table__row code")).to_have_text(["bad"])
    page.reload()
    expect(page.locator(".el-table__row code")).to_have_text(["bad"])
    page.fill("[data-test=request-id]", "good")
    page.keyboard.press("Enter")
    expect(page.locator("[data-test=state-empty]")).to_contain_text("Nothing matches")
    page.get_by_text("Clear the filters").click()
    expect(page.locator(".el-table__row")).to_have_count(2)


def test_a_request_shows_what_its_guard_did(console: Console, page: Page, control: Running) -> None:
    guard = {"action": "blocked", "by": "keyword", "prompt": {"phone": 2}, "answer": {}, "unchecked": ["webhook"]}
    one = event(end="blocked", status=400, error="policy_guard", guard=guard)
    send(control, one)
    console.open(f"/requests/{one['id']}")
    console.sign_in("admin")
    told = page.locator(".el-descriptions").first
    expect(told).to_contain_text("blocked: words; request: phone numbers 2; webhook did not answer")
    expect(page.locator(".el-tag", has_text="Blocked by the guard")).to_be_visible()


def test_a_request_shows_its_attempts_and_its_cost(console: Console, page: Page, control: Running) -> None:
    one = event(attempts=[FAILED, GOOD], cost_nano=1_500_000_000, duration_ms=80.0)
    send(control, one)
    console.open(f"/requests/{one['id']}")
    console.sign_in("admin")
    attempts = page.locator("[data-test=attempt]")
    expect(attempts).to_have_count(3)
    expect(attempts.first).to_contain_text("provider_5xx")
    expect(attempts.nth(1)).to_contain_text("b / n")
    expect(page.locator("[data-test=cost]")).to_have_text("1.50")


def test_a_hit_of_the_response_cache_says_so_and_what_it_saved(console: Console, page: Page, control: Running) -> None:
    told = {"result": "hit", "age": 75, "saved_nano": 1_500_000_000}
    hit = event(request_id="again", endpoint=None, upstream_model=None, attempts=[], cost_nano=0, cache=told)
    send(control, hit, event(request_id="asked", cache={"result": "miss"}))
    console.open("/requests?request_id=again")
    console.sign_in("admin")
    expect(page.locator(".el-table__row")).to_contain_text("Response cache")
    page.locator(".el-table__row a").first.click()
    main = page.locator("#main")
    expect(main).to_contain_text("Hit: the answer of an equal request, 75 s old")
    expect(main).to_contain_text("The response cache had the answer.")
    expect(page.locator("[data-test=saved]")).to_have_text("1.50")
    console.open("/usage")
    expect(page.locator("[data-test=total] [data-test=repeated]")).to_have_text("1")
    console.open("/overview")
    expect(page.locator("[data-test=tile-cost]")).to_contain_text("1.50 saved by response caches")


def test_bodies_are_revealed_on_demand_and_each_look_is_audited(console: Console, page: Page, control: Running) -> None:
    one, copy, _ = filled(control)
    console.open(f"/requests/{one}")
    console.sign_in("admin")
    expect(page.locator("[data-test=shadow]")).to_have_count(1)
    expect(page.locator("[data-test=body]")).to_have_count(0)
    assert audit(control, "reveal") == []
    page.locator("[data-test=reveal]").click()
    expect(page.locator("[data-test=body]")).to_have_count(2)
    expect(page.locator("[data-test=body]").nth(1)).to_contain_text("theirs")
    assert set(audit(control, "reveal")) == {("admin", one), ("admin", copy)}
    page.locator("[data-test=erase]").click()
    page.locator(".el-message-box__btns .el-button--primary").click()
    expect(page.locator("#main")).to_contain_text("They were erased.")
    assert {resource for _, resource in audit(control, "erase")} == {one, copy}
    assert control.admin.post(f"/api/v1/usage/requests/{one}/reveal").status_code == 404


def test_others_do_not_reveal_and_members_see_only_their_own(console: Console, page: Page, control: Running) -> None:
    control.as_("member").post("/api/v1/keys", json={"name": "k"})
    send(control, event(key="k@member", request_id="mine"), event(key="x@engineer", request_id="theirs"))
    one, _, _ = filled(control)
    console.open("/requests")
    console.sign_in("member")
    expect(page.locator(".el-table__row code")).to_have_text(["mine"])
    console.open(f"/requests/{one}")
    expect(page.locator("[data-test=state-error]")).to_be_visible()
    context = page.context.browser.new_context(locale="en-US", reduced_motion=STILL)  # type: ignore[union-attr]
    operator = Console(context.new_page(), control.url)
    operator.open(f"/requests/{one}")
    operator.sign_in("operator")
    expect(operator.page.locator("#main")).to_contain_text("Only administrators may read them")
    expect(operator.page.locator("[data-test=reveal]")).to_have_count(0)
    context.close()
