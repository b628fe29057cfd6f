"""The retrieval test in a browser: what was tried is applied to the base or a route, and what is right is kept."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.console.browsing import Console
from tests.control.api.conftest import Running, Start
from tests.control.knowledge.conftest import BASES, base, milvus, ready
from tests.control.knowledge.test_vertical import ENGINE, LEAVE
from tests.fakes.milvus import MilvusLite

__all__ = ["milvus"]


@pytest.fixture
def control(start_control: Start, milvus: MilvusLite) -> Running:
    return start_control(knowledge={"milvus_uri": milvus.uri})


def test_what_was_tried_is_applied_and_what_is_right_is_kept(control: Running, console: Console) -> None:
    admin = control.admin
    base(admin, "handbook")
    ready(admin, "handbook", "leave.txt", LEAVE)
    ready(admin, "handbook", "engine.txt", ENGINE)
    assert admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).status_code == 201
    knowledge = {"bases": ["handbook"], "when": "always"}
    spec = {"target": [{"endpoint": "e", "model": "m"}], "knowledge": knowledge}
    assert admin.post("/api/v1/routes", json={"name": "asks", "spec": spec}).status_code == 201
    console.open("/knowledge/handbook")
    console.sign_in("admin")
    console.open("/knowledge/handbook")
    page = console.page
    page.get_by_label("Most passages").fill("3")
    page.locator("[data-test=apply-route]").click()
    page.locator("[data-test=mode]").click()
    page.get_by_role("option", name="Meaning only").click()
    page.locator("[data-test=query] input, input[data-test=query]").first.fill("How many days of leave?")
    page.locator("[data-test=search]").click()
    page.locator("[data-test=right]").first.click()
    expect(page.get_by_text("It is in the test set common now.")).to_be_visible()
    page.locator("[data-test=apply]").click()
    expect(page.locator("[data-test=apply]")).to_have_count(0)
    assert admin.get(f"{BASES}/handbook").json()["retrieval"]["mode"] == "dense"
    kept = admin.get("/api/v1/routes/asks").json()["spec"]["knowledge"]
    assert (kept["top_k"], kept["when"]) == (3, "always"), "the rest of the route is as it was"
    questions = admin.get(f"{BASES}/handbook/test-sets/common/questions").json()["items"]
    assert [(one["question"], one["expected"]) for one in questions] == [
        ("How many days of leave?", [{"document": "leave.txt", "text": LEAVE[:120]}])
    ]
