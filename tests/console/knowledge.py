"""Knowledge in the filled installation: a base with documents that can be found, one that failed, and a test set."""

from __future__ import annotations

from typing import Any

from tests.control.api.conftest import Running
from tests.control.knowledge.conftest import BASES, LOCAL, add, settled
from tests.fakes import documents as made
from tests.processes import eventually

LEAVE = "Everyone has thirty days of annual leave each year. Ask your manager two weeks before."
TRIPS = "Trips of more than a day are booked by the travel desk. Keep all receipts for three months."
CHINESE = [
    ("Heading 1", "员工手册"), ("Heading 2", "年假制度"),
    ("Normal", "每位员工每年享有三十天带薪年假，须提前两周向经理申请。"),
]  # fmt: skip


def fill(control: Running) -> None:
    """Make all of it, through the API."""
    admin = control.admin
    body: dict[str, Any] = {
        "name": "handbook",
        "description": "What everybody at the company may do",
        "embedding": LOCAL,
    }
    body["readers"] = [{"kind": "team", "name": "team-01"}, {"kind": "key", "name": "key-00003@team-01"}]
    assert admin.post(BASES, json=body).status_code == 201
    files = {
        "handbook.pdf": made.pdf([TRIPS, LEAVE]),
        "员工手册.docx": made.docx(*CHINESE),
        "scan.pdf": b"%PDF-1.7 cut off",
    }
    sent = [add(admin, "handbook", name, content) for name, content in files.items()]
    assert [settled(admin, "handbook", one)["state"] for one in sent] == ["ready", "ready", "failed"]
    _test_set(control)


def _test_set(control: Running) -> None:
    """Questions, and two runs: with the floor of the second, some are not found any more."""
    admin, sets = control.admin, f"{BASES}/handbook/test-sets"
    assert admin.post(sets, json={"name": "common"}).status_code == 201
    questions: list[dict[str, Any]] = [
        {"question": "How many days of leave are there?", "expected": [{"document": "handbook.pdf", "text": "thirty"}]},
        {"question": "Who books trips?", "expected": [{"document": "handbook.pdf", "text": "travel desk"}]},
        {"question": "年假有几天？", "expected": [{"document": "员工手册.docx"}]},
    ]
    assert admin.post(f"{sets}/common/questions", json={"questions": questions}).status_code == 201
    for number, body in enumerate(({}, {"retrieval": {"mode": "bm25"}, "score_floor": 0.4}), 1):
        assert admin.post(f"{sets}/common/runs", json=body).status_code == 201
        eventually(lambda path=f"{sets}/common/runs/{number}": admin.get(path).json()["state"] == "done", 60)
