"""Comparisons in the browser: from a file of cases to a report, and one answer looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.control.api.conftest import Running, Start
from tests.control.api.test_runs import begun, state, suite
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Usage

CASES = "question,expected,tags\n" + "".join(f"q{number},yes,easy\n" for number in range(1, 25))


@pytest.fixture
def gateway() -> Iterator[Upstream]:
    """In place of a gateway."""
    with Upstream() as running:
        running.on("good", scripts.chat(["ye", "s"], Usage(20, 5)))
        running.on("bad", scripts.chat(["n", "o"], Usage(20, 5)))
        yield running


@pytest.fixture
def control(start_control: Start, gateway: Upstream) -> Running:
    """A control plane with the routes good and bad."""
    running = start_control(gateway_url=gateway.url.removesuffix("/v1"))
    assert running.admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).is_success
    for name in ("good", "bad"):
        body = {"name": name, "spec": {"target": [{"endpoint": "e", "model": name}]}, "grants": []}
        answer = running.admin.post("/api/v1/routes", json=body)
        assert answer.is_success, answer.text
    return running


def test_from_a_file_of_cases_to_a_report_and_one_answer(console: Console, page: Page) -> None:
    console.open("/suites")
    console.sign_in("admin")
    console.open("/suites")
    page.locator("[data-test=create-suite]").first.click()
    page.get_by_label("Name", exact=True).fill("questions")
    page.locator("[data-test=save-suite]").click()
    expect(page.get_by_role("heading", name="questions", exact=True)).to_be_visible()
    page.locator("[data-test=add-version]").click()
    page.locator("[data-test=cases-file]").set_input_files(
        {"name": "cases.csv", "mimeType": "text/csv", "buffer": CASES.encode()}
    )
    page.locator("[data-test=save-version]").click()
    expect(page.get_by_text("questions@1")).to_be_visible()
    page.locator("[data-test=new-run]").click()
    page.locator("[data-test=run-routes]").click()
    for name in ("good", "bad"):
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")
    expect(page.get_by_text("48 answers, likely to cost about")).to_be_visible()
    page.locator("[data-test=begin-run]").click()
    expect(page.locator("[data-test=run-state]")).to_have_text("Done")
    expect(page.get_by_text("The first is better")).to_be_visible()
    expect(page.get_by_text("1.000 [1.000, 1.000]").first).to_be_visible()
    page.get_by_role("button", name="Case 1 · bad").click()
    expect(page.get_by_role("dialog").get_by_text('"model": "bad"')).to_be_visible()


def test_people_rate_by_keys_and_two_runs_are_compared(
    console: Console, page: Page, control: Running, gateway: Upstream
) -> None:
    engineer = control.as_("engineer")
    pairs = {"name": "better", "kind": "pairwise_judge", "route": "bad", "rubric": "It is right."}
    suite(engineer, 2, {"name": "says yes", "kind": "contains"}, pairs)
    before = begun(engineer, "good", "bad")
    state(engineer, before, "done")
    gateway.on("good", scripts.chat(["n", "o"], Usage(20, 5)))
    run = begun(engineer, "good")
    state(engineer, run, "done")
    console.open(f"/runs/{before}/review")
    console.sign_in("engineer")
    console.open(f"/runs/{before}/review")
    expect(page.locator("[data-test=progress]")).to_have_text("0 of 4 rated")
    page.keyboard.press("5")
    expect(page.locator("[data-test=progress]")).to_have_text("1 of 4 rated")
    page.get_by_label("Note (optional)").press("2")  # a person writes
    expect(page.get_by_label("Note (optional)")).to_have_value("2")
    page.locator("[data-test=points-2]").click()
    expect(page.locator("[data-test=progress]")).to_have_text("2 of 4 rated")
    page.locator("h1").click()
    page.keyboard.press("u")
    expect(page.locator("[data-test=progress]")).to_have_text("1 of 4 rated")
    for done in (2, 3, 4):
        page.keyboard.press("1")
        expect(page.locator("[data-test=progress]")).to_have_text(f"{done} of 4 rated")
    expect(page.get_by_text("You have rated everything")).to_be_visible()
    page.get_by_role("link", name="To the run").click()
    expect(page.locator("[data-test=review-results]")).to_contain_text("4 answers rated by 1")
    expect(page.locator("[data-test=ratings]").first).to_contain_text("100 % of 2")
    expect(page.get_by_text("2 not judged")).to_have_count(0)
    console.open(f"/runs/{run}")
    page.locator("[data-test=against]").click()
    page.get_by_role("option").first.click()
    expect(page.locator("[data-test=regression]")).to_have_count(2)
    page.locator("[data-test=regression]").first.get_by_role("button").click()
    expect(page.get_by_role("dialog").get_by_text('"model": "good"')).to_be_visible()


def test_a_member_opens_a_shared_report_after_signing_in(
    console: Console, page: Page, control: Running, gateway: Upstream
) -> None:
    engineer = control.as_("engineer")
    suite(engineer, 2)
    run = begun(engineer, "good", "bad")
    state(engineer, run, "done")
    console.open(f"/runs/{run}")
    console.sign_in("engineer")
    console.open(f"/runs/{run}")
    page.locator("[data-test=share-run]").click()
    page.locator("[data-test=make-share]").click()
    link = page.locator("[data-test=secret]").inner_text()
    page.context.clear_cookies()
    console.open("/login")
    page.goto(link)
    console.sign_in("member")
    expect(page.get_by_role("heading", name="Report of questions, version 1")).to_be_visible()
    expect(page.get_by_text("1.000 [1.000, 1.000]").first).to_be_visible()
    token = link.split("#")[1]
    assert engineer.delete(
        f"/api/v1/runs/{run}/shares/{engineer.get(f'/api/v1/runs/{run}/shares').json()['items'][0]['id']}"
    ).is_success
    page.reload()
    expect(page.get_by_text("this link is unknown, has expired or was revoked")).to_be_visible()
    assert token in page.url
