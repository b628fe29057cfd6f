"""What each role meets on every page: its content, or that the role may not; no button that the API would refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from playwright.sync_api import Page, Response, expect

from control.kit.permissions import ROLES, Role
from tests.console import comparisons
from tests.console.browsing import Console
from tests.control.api.conftest import Running, Start
from tests.control.api.test_request_log import filled
from tests.control.api.training import dataset, spec
from tests.control.knowledge.conftest import add, base, milvus
from tests.fakes.milvus import MilvusLite

__all__ = ["milvus"]

VIEWS = Path(__file__).parents[2] / "console/src/views"
ROUTE = {
    "name": "chat",
    "spec": {"target": [{"endpoint": "e1", "model": "m"}]},
    "grants": [{"principal_kind": "everyone"}],
}
ACTIONS = [
    ("keys", "[data-test=create-key]", {"keys:own", "keys:write"}),
    ("endpoints", "[data-test=create-endpoint]", {"endpoints:write"}),
    ("endpoint", "[data-test=test-endpoint]", {"endpoints:test"}),
    ("endpoint", "role=button[name='Edit']", {"endpoints:write"}),
    ("routes", "[data-test=create-route]", {"routes:write"}),
    ("route", "[data-test=edit-route]", {"routes:write"}),
    ("datasets", "[data-test=create-dataset]", {"training:own"}),
    ("dataset", "[data-test=file]", {"training:write"}),
    ("jobs", "[data-test=create-job]", {"training:own"}),
    ("job", "role=button[name='Cancel the job']", {"training:write"}),
    ("adapters", "role=button[name='Upload a version']", {"training:own"}),
    ("adapter", "role=button[name='Upload a version']", {"training:write"}),
    ("suites", "[data-test=create-suite]", {"comparisons:own"}),
    ("suite", "[data-test=add-version]", {"comparisons:own"}),
    ("knowledge", "[data-test=create-base]", {"knowledge:own"}),
    ("knowledge-base", "[data-test=files]", {"knowledge:own"}),
    ("teams", "role=button[name='Add a team']", {"teams:write"}),
    ("team", "role=button[name='Edit']", {"teams:write"}),
    ("users", "role=button[name='Add a person']", {"users:write"}),
    ("request", "[data-test=reveal]", {"requests:bodies"}),
    ("settings", "role=tab[name='Service tokens']", {"tokens:write"}),
    ("settings", "role=tab[name='Installation']", {"settings:read"}),
]
"""Page, what does something there, and the permissions of which one is needed for it."""


class Shown(NamedTuple):
    """A page, as its routes.ts says."""

    path: str
    permissions: set[str]
    """Any one of them lets in; nobody is kept out if there is none."""
    in_menu: bool


def shown_pages() -> dict[str, Shown]:
    """Name -> page, of all that need a login."""
    found = {}
    for file in VIEWS.glob("*/routes.ts"):
        for block in file.read_text().split("\n  {")[1:]:
            named = re.search(r"path: '([^']+)',\s+name: '([^']+)'", block)
            if named and "bare: true" not in block:
                listed = re.search(r"permissions: \[([^\]]*)\]", block)
                permissions = set(re.findall(r"'([^']+)'", listed[1])) if listed else set()
                found[named[2]] = Shown(named[1], permissions, "nav:" in block)
    return found


PAGES = shown_pages()


@pytest.fixture
def control(start_control: Start, milvus: MilvusLite) -> Running:
    """With knowledge bases."""
    return start_control(knowledge={"milvus_uri": milvus.uri})


@pytest.fixture
def paths(control: Running) -> dict[str, str]:
    """Path of each page; those about one thing are about one that is there."""
    post = control.admin.post
    assert post("/api/v1/endpoints", json={"name": "e1", "provider": "dummy", "spec": {}}).is_success
    assert post("/api/v1/routes", json=ROUTE).is_success
    assert post("/api/v1/teams", json={"name": "lab"}).is_success
    one, _, _ = filled(control)
    dataset(control.admin)
    assert post("/api/v1/jobs", json={"spec": spec("job"), "draft": True}).is_success
    assert post("/api/v1/adapters", json={"name": "adapter"}).is_success
    # engineers are in the team whose base it is: of another one they may open no document
    assert post("/api/v1/teams", json={"name": "library"}).is_success
    assert control.admin.put("/api/v1/teams/library/members", json={"username": "engineer"}).is_success
    base(control.admin, "handbook", team="library", readers=[{"kind": "everyone"}])
    comparisons.suite(control, "questions", team="library")
    comparisons.run(control, "questions", comparisons.PAUSED, "paused", {"chat": 0.5, "other": 0.7})
    document = add(control.admin, "handbook", "a.txt", "Leave: thirty days.")["id"]
    things: dict[str, tuple[str, ...]] = {
        "endpoint": ("e1",), "route": ("chat",), "route-edit": ("chat",), "team": ("lab",), "request": (one,),
        "dataset": ("dialogues",), "job": ("job",), "adapter": ("adapter",), "knowledge-base": ("handbook",),
        "knowledge-document": ("handbook", document), "suite": ("questions",), "run": (comparisons.PAUSED,),
        "review": (comparisons.PAUSED,),
    }  # fmt: skip
    tabs = ":tab(overview|versions|grants|explain)"

    def path(name: str, shown: Shown) -> str:
        parts = iter(things.get(name, ()))
        return re.sub(r":\w+", lambda _: next(parts, ""), shown.path.replace(tabs, "overview"))

    return {name: path(name, shown) for name, shown in PAGES.items()}


@pytest.mark.parametrize("role", get_args(Role))
def test_a_role_meets_what_it_may_and_nothing_else(
    console: Console, page: Page, paths: dict[str, str], role: Role
) -> None:
    refused: list[str] = []

    def note(answer: Response) -> None:
        if answer.status == 403:
            refused.append(f"{page.url}: {answer.request.method} {answer.url}")

    page.on("response", note)
    console.open("/account")
    console.sign_in(role)
    permitted = {name for name, shown in PAGES.items() if not shown.permissions or shown.permissions & ROLES[role]}
    for name in PAGES:
        console.go(paths[name])
        forbidden = page.locator("[data-test=state-forbidden]")
        expect(forbidden).to_have_count(0 if name in permitted else 1)
        expect(page.locator("#main h1")).to_have_count(1 if name in permitted else 0)
        for where, selector, wanted in ACTIONS:
            if where == name in permitted:
                gone = where == "request" and "usage:read" not in ROLES[role]  # it is somebody else's: there is no such
                may = bool(wanted & ROLES[role]) and not gone
                expect(page.locator(selector), f"{role} on {name}: {selector}").to_have_count(int(may))
    assert refused == []
    menu = {link.get_attribute("href") for link in page.locator("nav a.entry").all()}
    assert menu == {shown.path for name, shown in PAGES.items() if name in permitted and shown.in_menu}


def test_pages_and_actions_are_found_and_ask_for_permissions_that_there_are() -> None:
    assert len(PAGES) > 15
    assert PAGES.keys() >= {name for name, _, _ in ACTIONS}
    known = frozenset().union(*ROLES.values())
    assert known >= {one for shown in PAGES.values() for one in shown.permissions}
    assert known >= {one for _, _, wanted in ACTIONS for one in wanted}
