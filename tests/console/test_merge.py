"""An adapter is merged, and evaluated, from its page: jobs whose pages show how far they are."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.layout import faults
from tests.control.api.conftest import Running
from tests.control.api.training import STARTED, Worker, dataset, trained
from trainer.contract.evaluation import Evaluated, Side, accuracy


def test_an_adapter_is_merged_from_its_page(console: Console, page: Page, control: Running) -> None:
    worker = Worker(control)
    dataset(control.admin)
    trained(control, control.admin, worker)
    worker.status["recipes"] = ["merge"]
    console.open("/adapters/support-bot")
    console.sign_in("admin")
    for _ in range(2):
        _merge(page, "No", "merged")
        page.go_back()
    attempt = worker.take()
    worker.tell(attempt, STARTED, {"kind": "metrics", "step": 4, "values": {"merged_layers": 4}})
    page.goto(f"{control.url}/jobs/of/support-bot-v1-merged")
    expect(page.get_by_text("support-bot@v1").first).to_be_visible()
    expect(page.locator(".el-progress").first).to_be_visible()
    assert not faults(page)
    assert control.admin.get("/api/v1/jobs").json()["total"] == 2
    page.goto(f"{control.url}/adapters/support-bot")
    _merge(page, "8 bits (q8_0): half the size", "merged-q8_0")
    expect(page.get_by_role("cell", name="q8_0", exact=True)).to_be_visible()
    assert control.admin.get("/api/v1/jobs/support-bot-v1-merged-q8_0").json()["spec"]["gguf"] == "q8_0"


def _merge(page: Page, gguf: str, job: str) -> None:
    page.get_by_role("button", name="Merge", exact=True).click()
    page.locator('[data-test="gguf"]').click()
    page.get_by_role("option", name=gguf, exact=True).click()
    assert not faults(page)
    page.locator('[data-test="merge"]').click()
    page.wait_for_url(f"**/jobs/of/support-bot-v1-{job}")


def test_an_adapter_is_evaluated_from_its_page(console: Console, page: Page, control: Running) -> None:
    worker = Worker(control)
    dataset(control.admin)
    trained(control, control.admin, worker)
    console.open("/adapters/support-bot")
    console.sign_in("admin")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("There are no questions yet")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    rows = [{"question": f"question {n}", "choices": ["yes", "no"], "answer": n % 2} for n in range(4)]
    dataset(control.admin, "questions", rows)
    page.get_by_role("button", name="Evaluate", exact=True).click()
    assert not faults(page)
    dialog.locator('[data-test="questions"]').click()
    page.get_by_role("option", name="questions@1").click()
    dialog.locator('[data-test="evaluate"]').click()
    page.wait_for_url("**/jobs/of/support-bot-v1-asked-*")
    worker.status["recipes"] = ["evaluate"]
    attempt = worker.take()
    worker.tell(attempt, STARTED)
    found = Evaluated(questions=4, base=_side(1), result=_side(3), won=2, lost=0)
    worker.finish(attempt, details={"evaluation": found.model_dump(mode="json")})
    page.goto(f"{control.url}/adapters/support-bot")
    expect(page.get_by_text("Answers to questions@1")).to_be_visible()
    expect(page.get_by_text("75%").first).to_be_visible()
    assert not faults(page)


def _side(right: int) -> Side:
    return Side(plain=accuracy(right, 4), normalised=accuracy(right, 4))
