"""Training in the console: a version is published at a price, and what workers tell of themselves is shown."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.console.browsing import Console
from tests.console.layout import faults
from tests.control.api.conftest import Running
from tests.control.api.training import Worker, dataset, trained

ENGINE = {
    "name": "e1", "base": "tiny", "model": "/models/tiny", "url": "http://127.0.0.1:9", "state": "ready",
    "max_loras": 4, "max_lora_rank": 16,
}  # fmt: skip


def test_an_adapter_is_published_at_a_price_and_a_wrong_one_is_told_of_at_its_field(
    console: Console, page: Page, control: Running
) -> None:
    worker = Worker(control)
    dataset(control.admin)
    worker.status["engines"] = [ENGINE]
    trained(control, control.admin, worker)
    console.open("/adapters/support-bot")
    console.sign_in("admin")
    page.get_by_role("button", name="Publish", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.locator("[data-test=own-price]").click()
    _put(dialog, "Input", "-5")
    _put(dialog, "Output", "2000000000")
    dialog.locator("[data-test=publish]").click()
    expect(_error(dialog, "Input")).to_contain_text("greater than or equal to 0")
    expect(_error(dialog, "Output")).to_contain_text("9 digits before the decimal point")
    assert not faults(page)
    _put(dialog, "Input", "1.5")
    _put(dialog, "Output", "6.0000000001")
    dialog.locator("[data-test=publish]").click()
    expect(_error(dialog, "Output")).to_contain_text("9 decimal places")
    expect(_error(dialog, "Input")).to_have_count(0)
    assert worker.sync()["engines"] == [{"engine": "e1", "adapters": []}], "nothing was published so far"
    _put(dialog, "Output", "6")
    dialog.locator("[data-test=publish]").click()
    expect(dialog).to_be_hidden()
    assert [one["name"] for one in worker.sync()["engines"][0]["adapters"]] == ["support-bot@v1"]
    worker.status["engines"] = [{**ENGINE, "adapters": [{"name": "support-bot@v1", "state": "loaded"}]}]
    worker.sync()
    for route in ("support-bot@v1", "support-bot"):
        (target,) = control.admin.get(f"/api/v1/routes/{route}").json()["spec"]["target"]
        price = {name: float(amount) for name, amount in target["price"].items() if amount is not None}
        assert price == {"input": 1.5, "output": 6.0}, route


def test_engines_of_others_files_of_unknown_jobs_and_a_trackers_pages_are_shown(
    console: Console, page: Page, control: Running
) -> None:
    worker = Worker(control)
    dataset(control.admin)
    trained(control, control.admin, worker)
    far: dict[str, Any] = {**ENGINE, "external": True, "url": "https://vllm.example.com"}
    away = {"name": "lab", "url": "http://lab:11434", "state": "failed", "message": "the engine does not answer: 401"}
    models = ["tiny", *(f"adapter-{n}" for n in range(13))]
    worker.status |= {
        "engines": [far | {"latency_ms": 12.2, "models": models}, far | away],
        "jobs": ["made-after-the-backup"], "dashboard": "http://lab:5092",
    }  # fmt: skip
    worker.sync()
    console.open("/trainers")
    console.sign_in("admin")
    main = page.locator("#main")
    for text in (
        "https://vllm.example.com", "answers in 13 ms", "adapter-10 and 2 more", "Not answering",
        "the engine does not answer: 401", "jobs/made-after-the-backup", "control does not know: 1",
    ):  # fmt: skip
        expect(main.get_by_text(text)).to_be_visible()
    assert not faults(page)
    console.open("/jobs/of/support-bot")
    expect(page.locator("[data-test=dashboard]")).to_have_attribute("href", "http://lab:5092")
    assert not faults(page)


def _put(dialog: Locator, label: str, value: str) -> None:
    field = dialog.get_by_label(label, exact=True)
    field.fill(value)
    field.blur()


def _error(dialog: Locator, label: str) -> Locator:
    return dialog.locator(".el-form-item", has=dialog.page.get_by_label(label, exact=True)).locator(
        ".el-form-item__error"
    )
