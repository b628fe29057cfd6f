"""Knowledge bases in a browser: what was tried is applied to the base or a route, what is right is kept; another way of
cutting is held back, tried by a part of a route, compared, and promoted.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.layout import faults
from tests.console.test_route_settings import fold, put
from tests.control.api.conftest import Running, Start
from tests.control.knowledge.conftest import BASES, base, milvus, ready
from tests.control.knowledge.test_vertical import ENGINE, LEAVE
from tests.control.test_ledger import event
from tests.fakes import scripts
from tests.fakes.milvus import MilvusLite
from tests.fakes.upstream import Upstream
from tests.processes import eventually

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
    expect(page.locator("[data-test=crowded]")).to_have_count(0)
    control.sql("UPDATE knowledge_entry SET total = 6000")
    console.open("/knowledge/handbook")
    expect(page.locator("[data-test=crowded]")).to_contain_text("12,000 chunks: Milvus is recommended")
    assert faults(page) == []


def test_a_model_proposes_questions_and_a_person_takes_some(
    start_control: Start, milvus: MilvusLite, page: Page
) -> None:
    with Upstream() as gateway:
        control = start_control(knowledge={"milvus_uri": milvus.uri}, gateway_url=gateway.url)
        admin = control.admin
        base(admin, "handbook")
        ready(admin, "handbook", "leave.txt", LEAVE)
        assert admin.post(f"{BASES}/handbook/test-sets", json={"name": "common"}).status_code == 201
        assert admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).status_code == 201
        spec = {"target": [{"endpoint": "e", "model": "m"}]}
        assert admin.post("/api/v1/routes", json={"name": "asker", "spec": spec}).status_code == 201
        assert admin.post("/api/v1/keys", json={"name": "pays"}).status_code == 201
        for text in ("How many days?", "Who may leave?", ""):
            message = {"choices": [{"message": {"role": "assistant", "content": text}}]}
            gateway.queue("asker", scripts.reply(json.dumps(message).encode()))
        console = Console(page, control.url)
        console.open("/knowledge/handbook?tab=tests")
        console.sign_in("admin")
        console.open("/knowledge/handbook?tab=tests")
        page.locator("[data-test=propose-questions]").click()
        dialog = page.get_by_role("dialog")
        for which, name in (("route", "asker"), ("key", "pays")):
            choice = dialog.locator(f"[data-test=propose-{which}]")
            choice.click()
            page.get_by_role("option", name=name).click()
            expect(choice).to_contain_text(name)
            expect(page.get_by_role("option", name=name)).to_be_hidden()  # the next list does not unfold over this one
        dialog.locator("[data-test=propose]").click()
        expect(dialog.get_by_role("alert")).to_contain_text("0 characters, which is no question")
        expect(dialog.locator("[data-test=proposal]")).to_have_count(2)
        assert not faults(page)
        dialog.locator("[data-test=leave]").last.click()
        dialog.get_by_label("Question", exact=True).fill("How many days of leave are there?")
        dialog.locator("[data-test=take]").click()
        expect(dialog.get_by_role("status")).to_have_text("1 taken, 0 to look at")
        dialog.get_by_role("button", name="Done").click()
        expect(page.get_by_text("How many days of leave are there?")).to_be_visible()
        questions = admin.get(f"{BASES}/handbook/test-sets/common/questions").json()["items"]
        assert [one["question"] for one in questions] == ["How many days of leave are there?"]


def test_an_index_is_held_back_compared_and_promoted(control: Running, console: Console) -> None:
    admin = control.admin
    base(admin, "handbook")
    ready(admin, "handbook", "leave.txt", f"{LEAVE} {ENGINE} " * 3)
    assert admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).status_code == 201
    spec = {"target": [{"endpoint": "e", "model": "m"}], "knowledge": {"bases": ["handbook"]}}
    assert admin.post("/api/v1/routes", json={"name": "asks", "spec": spec}).status_code == 201
    console.open("/knowledge/handbook")
    console.sign_in("admin")
    console.open("/knowledge/handbook")
    page = console.page
    page.locator("[data-test=edit-index]").click()
    page.get_by_label("Tokens of a chunk").fill("24")
    page.get_by_label("Repeated tokens").fill("4")
    page.locator("[data-test=hold]").click()
    page.locator("[data-test=save-index]").click()
    expect(page.get_by_text("Held back", exact=True)).to_be_visible()
    expect(page.locator("[data-test=trial]")).to_contain_text("No route tries it yet")
    console.open("/routes/asks/edit")
    put(fold(page, "Knowledge"), "Share for an index held back (0–1)", "0.5")
    page.locator("[data-test=route-save]").click()
    eventually(lambda: admin.get("/api/v1/routes/asks").json()["spec"]["knowledge"].get("trial") == 0.5)
    retrieval = {"outcome": "found", "passages": 3, "ms": 12.0, "trial": False, "indexes": {"handbook": 1}}
    moment = datetime.now(UTC).timestamp() - 5
    events = [
        event(route="asks", ts=moment, retrieval=retrieval | {"indexes": {"handbook": 1 + n % 2}}) for n in range(6)
    ]
    sent = control.service().post("/internal/v1/usage", json={"gateway": "g", "events": events})
    assert sent.status_code == 200, sent.text
    console.open("/knowledge/handbook")
    expect(page.locator("[data-test=trial] tbody tr")).to_have_count(2)
    expect(page.locator("[data-test=trial]")).to_contain_text("Tried by: asks")
    page.locator("[data-test=promote]").click()
    page.locator(".el-message-box").get_by_role("button", name="Promote").click()
    eventually(
        lambda: (
            [(one["number"], one["state"]) for one in admin.get(f"{BASES}/handbook").json()["indexes"]] == [(2, "live")]
        ),
        60,
    )
