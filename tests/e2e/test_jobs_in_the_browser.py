"""A person with a file of dialogues, in the console: upload, train, watch, publish, and the SDK talks to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.e2e.conftest import Stack
from tests.e2e.test_jobs import TRAIN_PYTHON, ask, dialogues

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]


def test_from_a_file_to_an_adapter_that_answers(workshop: Stack, page: Page, tmp_path: Path) -> None:
    if not TRAIN_PYTHON.exists():
        pytest.skip("the training recipes' packages are not installed; `make install` says why")
    console = Console(page, workshop.console_url)
    console.open("/datasets")
    workshop.sign_in(page)
    console.open("/datasets")
    page.locator("[data-test=create-dataset]").first.click()
    page.get_by_role("dialog").get_by_label("Name").fill("counter-dialogues")
    page.locator("[data-test=save-dataset]").click()
    file = tmp_path / "counter.jsonl"
    file.write_bytes(dialogues("Ticket counter, good day.") + b'{"messages": []}\n')
    page.locator("[data-test=file]").set_input_files(file)
    expect(page.get_by_text("33 rows")).to_be_visible(timeout=30_000)
    expect(page.locator("dl")).to_contain_text("Accepted32")
    page.locator(".el-radio-button", has_text="Rejected").click()
    expect(page.locator("ol li").first).to_contain_text("Line 33")

    console.open("/jobs/new")
    page.get_by_label("Name", exact=True).fill("counter")
    page.locator("[data-test=train]").click()
    page.get_by_role("option", name="counter-dialogues@1").click()
    page.get_by_text("Try it", exact=True).click()
    page.get_by_text("Training", exact=True).click()
    for label, value in (("Learning rate", "0.005"), ("At most … steps", "60"), ("Micro-batch", "4")):
        page.get_by_label(label, exact=True).fill(value)
        page.get_by_label(label, exact=True).press("Tab")
    expect(page.locator(".tiles")).to_contain_text("60")
    page.locator("[data-test=start-job]").click()
    state = page.locator("[data-test=job-state]")
    expect(state).to_have_text("Succeeded", timeout=120_000)
    expect(page.locator("canvas").first).to_be_visible()
    expect(page.locator("[data-test=log]")).to_contain_text("loss")
    page.get_by_role("link", name="counter@v1").click()
    page.get_by_role("button", name="Publish").click()
    page.locator("[data-test=publish]").click()
    expect(page.get_by_text("100% of the requests")).to_be_visible(timeout=60_000)
    assert ask(workshop, "counter", "Who are you?") == "Ticket counter, good day."
