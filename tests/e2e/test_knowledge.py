"""From a PDF and a Chinese Word file, dropped in a browser, to an answer of the real model with its sources."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.e2e.conftest import START_SECONDS, Stack
from tests.fakes import documents as made
from tests.processes import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(START_SECONDS + 120)]

LEAVE = "Everyone has thirty days of annual leave each year. Ask your manager two weeks before."
ENGINE = "The diesel engine of the forklift is to be serviced every five hundred hours."
CHINESE = [
    ("Heading 1", "员工手册"), ("Heading 2", "年假制度"),
    ("Normal", "每位员工每年享有三十天带薪年假，须提前两周向经理申请。"),
]  # fmt: skip


def bind(console: Console) -> None:
    """Let the route `desk` answer with the base, in the console."""
    page = console.page
    console.open("/routes/desk/edit")
    page.get_by_role("button", name="Knowledge").click()
    page.locator("[data-test=knowledge]").click()
    page.locator("[data-test=knowledge-bases]").click()
    page.get_by_role("option", name="handbook").click()
    page.keyboard.press("Escape")
    page.get_by_label("Tokens of all passages").fill("60")
    page.get_by_label("What the model is told").fill("Known: {passages}")
    page.get_by_text("Answers carry citations").click()
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(re.compile("/routes/desk/overview"))


def test_dropped_files_are_answered_with(stack: Stack, page: Page) -> None:
    spec = stack.admin.get("/api/v1/routes/alpha").json()["spec"]
    body = {"name": "desk", "spec": {"target": spec["target"]}, "grants": [{"principal_kind": "everyone"}]}
    made_route = stack.admin.post("/api/v1/routes", json=body)
    assert made_route.status_code == 201, made_route.text
    console = Console(page, stack.console_url)
    console.open("/knowledge")
    stack.sign_in(page)
    console.settled()
    console.open("/knowledge")
    page.locator("[data-test=create-base]").first.click()
    page.get_by_label("Name", exact=True).fill("handbook")
    page.click("[data-test=save-base]")
    page.wait_for_url("**/knowledge/handbook")
    pdf: Any = {"name": "handbook.pdf", "mimeType": "application/pdf", "buffer": made.pdf([ENGINE, LEAVE])}
    docx: Any = {"name": "手册.docx", "mimeType": "application/octet-stream", "buffer": made.docx(*CHINESE)}
    page.locator("[data-test=files]").set_input_files([pdf, docx])
    expect(page.get_by_text("Can be found")).to_have_count(2, timeout=60_000)

    for question, title in (("How many days of holiday do I get?", "handbook.pdf"), ("年假有几天", "手册.docx")):
        page.fill("[data-test=query]", question)
        page.click("[data-test=search]")
        expect(page.locator("ol li").first).to_contain_text(title)
    page.locator("ol li").first.get_by_role("link").click()
    expect(page.locator(".text.hit")).to_contain_text("三十天带薪年假")

    bind(console)

    def ask() -> tuple[str, list[dict[str, Any]]]:
        with stack.client() as client:
            question: Any = [{"role": "user", "content": "How many days of holiday do I get?"}]
            raw = client.chat.completions.with_raw_response.create(model="desk", messages=question, max_tokens=8)
        extra = raw.parse().choices[0].message.model_extra or {}
        return raw.headers.get("x-tunegate-retrieval", ""), extra.get("citations", [])

    header, citations = ask()
    for _ in range(40):
        if header:
            break
        page.wait_for_timeout(100)  # a change is live within two seconds
        header, citations = ask()
    assert header.startswith("found; passages="), header
    first = citations[0]
    assert (first["filename"], first["page"], first["type"]) == ("handbook.pdf", 2, "file_citation")

    def looked_up() -> list[str]:
        rows = stack.admin.get("/api/v1/usage/requests", params={"route": "desk"}).json()["items"]
        return [row["retrieval"]["outcome"] for row in rows if row["retrieval"]]

    eventually(lambda: "found" in looked_up())

    console.open("/knowledge/handbook")
    expect(page.get_by_role("link", name="desk")).to_be_visible()
    page.get_by_label("Delete handbook.pdf").click()
    page.locator(".el-message-box").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Can be found")).to_have_count(1)
    _, citations = ask()
    assert "handbook.pdf" not in {one["filename"] for one in citations}, "what is deleted is gone from answers at once"
    assert stack.admin.delete("/api/v1/routes/desk").status_code == 204, "other tests count the models"
