"""Routes side by side in the browser: a blind vote on real streams, what votes say, and a dataset made of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.chatting import fill, gateway_at, held
from tests.console.layout import faults
from tests.control.api.conftest import Running, Start
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Usage
from tests.processes import eventually, free_port


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A provider."""
    with Upstream() as server:
        yield server


@pytest.fixture
def control(start_control: Start, upstream: Upstream, tmp_path: Path) -> Iterator[Running]:
    """Control with two routes for everybody, and the gateway that serves them."""
    address = f"http://127.0.0.1:{free_port()}"
    running = start_control(gateway_url=address, allow_private_upstreams=True)
    fill(lambda path, body: running.admin.post(f"/api/v1{path}", json=body).raise_for_status(), upstream)
    with gateway_at(tmp_path / "gateway", address, running.url, running.service_token):
        yield running


def ask(page: Page, text: str) -> None:
    page.locator("[data-test=chat-input]").fill(text)
    page.locator("[data-test=chat-input]").press("Enter")


def choose_both(page: Page) -> None:
    page.locator("[data-test=side-routes]").click()
    for name in ("gpt", "other"):
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")


def test_a_blind_vote_hides_names_until_it_is_cast_and_makes_a_dataset(
    console: Console, page: Page, control: Running, upstream: Upstream
) -> None:
    release = threading.Event()
    upstream.on("gpt", held(release, "Par", "is."))
    upstream.on("other", scripts.chat(["Lyon."], Usage(9, 4)))
    console.open("/compare")
    console.sign_in("engineer")
    choose_both(page)
    ask(page, "The capital?")
    columns = page.locator("[data-test=side]")
    expect(columns.filter(has_text="Lyon.")).to_have_count(1)
    expect(columns.filter(has_text="Par")).to_have_count(1)  # while it is still arriving
    expect(page.locator("[data-test=vote]")).to_have_count(0)
    assert {name.strip() for name in columns.locator("h2").all_inner_texts()} == {"A", "B"}
    release.set()
    expect(columns.filter(has_text="Paris.")).to_have_count(1)
    for name in ("gpt", "other"):
        expect(page.locator("[data-test=sides]")).not_to_contain_text(name)
    letter = columns.filter(has_text="Paris.").locator("h2").inner_text().strip()
    page.get_by_text(f"{letter} is better", exact=True).click()
    page.get_by_text("To the point", exact=True).click()
    assert faults(page) == []
    page.locator("[data-test=save-vote]").click()
    expect(page.locator("[data-test=voted]")).to_contain_text("You said that gpt is better.")
    assert {name.strip() for name in columns.locator("h2").all_inner_texts()} == {"gpt", "other"}
    expect(page.locator("[data-test=vote-report]")).to_contain_text("too small to tell")
    (kept,) = control.as_("engineer").get("/api/v1/votes").json()["items"]
    assert (kept["blind"], kept["outcome"], kept["reasons"]) == (True, "best", ["short"])
    assert kept["answers"][kept["best"]]["route"] == "gpt"
    assert all(one["request_id"] and one["ttft_ms"] is not None for one in kept["answers"])
    for one in kept["answers"]:
        query = {"request_id": one["request_id"]}
        eventually(lambda: control.admin.get("/api/v1/usage/requests", params=query).json()["items"])  # noqa: B023

    upstream.on("gpt", scripts.chat(["Two million."], Usage(30, 4)))
    upstream.on("other", scripts.chat(["Many."], Usage(30, 4)))
    page.locator("[data-test=side-go-on]").click()
    ask(page, "How many live there?")
    expect(columns.filter(has_text="Two million.")).to_have_count(1)
    seen = [one["content"] for one in upstream.of("gpt")[-1].json["messages"]]
    assert seen == ["The capital?", "Paris.", "How many live there?"]
    page.get_by_text("All bad", exact=True).first.click()
    page.locator("[data-test=write-ideal]").click()
    page.locator("[data-test=ideal]").fill("About 2.1 million.")
    page.locator("[data-test=save-vote]").click()
    expect(page.locator("[data-test=voted]")).to_contain_text("You said that all are bad.")

    assert control.as_("engineer").post("/api/v1/datasets", json={"name": "preferred"}).is_success
    console.open("/datasets/preferred")
    page.locator("[data-test=build]").click()
    page.locator("[data-test=build-dataset]").click()
    expect(page.get_by_text("preferred@1")).to_be_visible()
    expect(page.get_by_text("3 rows").first).to_be_visible()


def test_a_case_is_saved_and_a_route_that_fails_is_shown_and_can_be_voted_on(
    console: Console, page: Page, control: Running, upstream: Upstream
) -> None:
    upstream.on("gpt", scripts.chat(["Fine."], Usage(9, 4)))
    upstream.on("other", scripts.error(500, "it broke"))
    assert control.as_("engineer").post("/api/v1/suites", json={"name": "cases"}).is_success
    console.open("/compare?blind=no")
    console.sign_in("engineer")
    expect(page.locator("[data-test=vote-report]")).to_contain_text("No votes yet")
    choose_both(page)
    ask(page, "How are you?")
    columns = page.locator("[data-test=side]")
    expect(columns.filter(has_text="other").locator("[data-test=chat-failure]")).to_be_visible()
    expect(columns.filter(has_text="gpt")).to_contain_text("Fine.")
    page.get_by_text("gpt is better", exact=True).click()
    page.locator("[data-test=save-vote]").click()
    page.locator("[data-test=side-save-case]").click()
    page.locator("[data-test=case-suite]").click()
    page.get_by_role("option", name="cases", exact=True).click()
    page.locator("[data-test=save-case]").click()
    eventually(lambda: control.admin.get("/api/v1/suites/cases").json()["cases"] == 1)
    (case,) = control.admin.get("/api/v1/suites/cases/versions/1/cases").json()["items"]
    assert (case["messages"], case["expected"]) == ([{"role": "user", "content": "How are you?"}], "Fine.")


def test_votes_are_shown_and_it_is_said_when_the_gateway_is_silent(page: Page, start_control: Start) -> None:
    running = start_control(gateway_url=f"http://127.0.0.1:{free_port()}")
    console = Console(page, running.url)
    console.open("/compare")
    console.sign_in("engineer")
    expect(page.locator("[data-test=chat-gateway-problem]")).to_contain_text("The gateway does not answer this page")
    expect(page.locator("[data-test=vote-report]")).to_contain_text("No votes yet")
