"""An adapter is merged from its page: the job's page shows how far it is, a second click leads there again."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.layout import faults
from tests.control.api.conftest import Running
from tests.control.api.training import STARTED, Worker, dataset, trained


def test_an_adapter_is_merged_from_its_page(console: Console, page: Page, control: Running) -> None:
    worker = Worker(control)
    dataset(control.admin)
    trained(control, control.admin, worker)
    worker.status["recipes"] = ["merge"]
    console.open("/adapters/support-bot")
    console.sign_in("admin")
    for _ in range(2):
        page.get_by_role("button", name="Merge", exact=True).click()
        page.locator(".el-message-box").get_by_role("button", name="Merge").click()
        page.wait_for_url("**/jobs/of/support-bot-v1-merged")
        page.go_back()
    attempt = worker.take()
    worker.tell(attempt, STARTED, {"kind": "metrics", "step": 4, "values": {"merged_layers": 4}})
    page.goto(f"{control.url}/jobs/of/support-bot-v1-merged")
    expect(page.get_by_text("support-bot@v1").first).to_be_visible()
    expect(page.locator(".el-progress").first).to_be_visible()
    assert not faults(page)
    assert control.admin.get("/api/v1/jobs").json()["total"] == 2
