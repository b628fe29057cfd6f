"""Test sets: figures against cases that were counted by hand, questions, runs, and what became worse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from control.knowledge.evaluation import metrics
from control.knowledge.evaluation.schemas import Expected
from gateway.contract.retrieval import Passage
from tests.control.api.conftest import Running
from tests.control.knowledge.conftest import BASES, LOCAL, base, ready
from tests.control.knowledge.test_processes import plane_of
from tests.control.knowledge.test_vertical import CHINESE, ENGINE, LEAVE
from tests.fakes import documents as made
from tests.fakes.milvus import MilvusLite
from tests.fakes.upstream import Upstream
from tests.processes import eventually

SETS = f"{BASES}/handbook/test-sets"
HOLIDAY = {"question": "How many days of holiday?", "expected": [{"document": "leave.txt", "text": "THIRTY  days"}]}
FORKLIFT = {"question": "When is the forklift serviced?", "expected": [{"document": "engine.txt"}]}


def passage(title: str, text: str) -> Passage:
    return Passage(
        base="b", document="d", title=title, chunk="c", page=None, section="", start=0, end=1, score=1.0,
        similarity=1.0, tokens=1, text=text,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ranks", "recalls", "reciprocal", "gain"),
    [
        ([1], (1.0, 1.0, 1.0), 1.0, 1.0),
        ([3], (0.0, 1.0, 1.0), 1 / 3, 0.5),
        ([10], (0.0, 0.0, 1.0), 0.1, 1 / math.log2(11)),
        ([None], (0.0, 0.0, 0.0), 0.0, 0.0),
        ([2, 1], (0.5, 1.0, 1.0), 1.0, 1.0),
        # two of three: at 1 and 6; the best order has 1, 2 and 3
        ([6, None, 1], (1 / 3, 1 / 3, 2 / 3), 1.0, (1 + 1 / math.log2(7)) / (1 + 1 / math.log2(3) + 0.5)),
        # both in one passage: it counts once
        ([1, 1], (1.0, 1.0, 1.0), 1.0, 1 / (1 + 1 / math.log2(3))),
    ],
)
def test_figures_of_a_question_are_those_that_were_counted_by_hand(
    ranks: list[int | None], recalls: tuple[float, ...], reciprocal: float, gain: float
) -> None:
    assert tuple(metrics.recall(ranks, depth) for depth in (1, 5, 10)) == pytest.approx(recalls)
    assert metrics.reciprocal(ranks) == pytest.approx(reciprocal)
    assert metrics.gain(ranks) == pytest.approx(gain)


def test_figures_of_a_run_are_means_and_its_times_are_of_searches_that_there_were() -> None:
    found = metrics.figures([([1], 10.0), ([None], 30.0), ([2, None], 20.0)])
    half = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    assert (found.recall_1, found.recall_5, found.recall_10) == pytest.approx((1 / 3, 0.5, 0.5), abs=1e-6)
    assert (found.mrr, found.ndcg_10) == pytest.approx((0.5, (1 + half) / 3), abs=1e-6)
    assert (found.p50_ms, found.p95_ms) == (20.0, 30.0)
    assert metrics.percentile([float(n) for n in range(1, 101)], 0.95) == 95.0
    assert metrics.percentile([7.0], 0.5) == 7.0


def test_a_passage_is_the_expected_one_by_its_document_and_by_what_it_contains() -> None:
    found = [passage("a.txt", "Something else."), passage("a.txt", "Thirty\n days of   leave"), passage("b.txt", "x")]

    def place(**expected: str) -> int | None:
        return metrics.places([Expected(**expected)], found)[0]

    assert (place(document="a.txt"), place(document="b.txt"), place(document="c.txt")) == (1, 3, None)
    assert (place(document="a.txt", text="THIRTY DAYS"), place(text="of leave"), place(text="forty")) == (2, 2, None)
    assert place(document="b.txt", text="thirty days") is None
    assert metrics.places([Expected(document="b.txt")], [passage("a.txt", "x")] * 10 + found) == [None]


def test_worse_is_later_or_not_found_any_more() -> None:
    assert metrics.worse([2], [1])
    assert metrics.worse([None], [9])
    assert metrics.worse([1, None], [5, 5])
    assert not metrics.worse([1, 2], [1, None])
    assert not metrics.worse([None], [None])


@pytest.fixture
def filled(engineer: httpx.Client) -> httpx.Client:
    """With documents, and the test set `common` with two questions."""
    ready(engineer, "handbook", "leave.txt", LEAVE)
    ready(engineer, "handbook", "engine.txt", ENGINE)
    ready(engineer, "handbook", "手册.docx", made.docx(*CHINESE))
    assert engineer.post(SETS, json={"name": "common"}).status_code == 201
    added = engineer.post(f"{SETS}/common/questions", json={"questions": [HOLIDAY, FORKLIFT]})
    assert (added.status_code, added.json()["questions"]) == (201, 2)
    return engineer


def run(client: httpx.Client, seconds: float = 60, **body: Any) -> dict[str, Any]:
    """A run at its end."""
    answer = client.post(f"{SETS}/common/runs", json=body)
    assert answer.status_code == 201, answer.text
    path = f"{SETS}/common/runs/{answer.json()['number']}"
    eventually(lambda: client.get(path).json()["state"] in ("done", "failed"), seconds)
    found: dict[str, Any] = client.get(path).json()
    return found


def test_a_run_asks_as_gateways_do_and_says_what_became_worse(filled: httpx.Client) -> None:
    first = run(filled, retrieval={"mode": "dense"}, score_floor=-1)
    assert (first["state"], first["total"], first["done"], first["index_number"]) == ("done", 2, 2, 1)
    assert first["embedding"] == LOCAL
    figures = first["figures"]
    assert (figures["recall_1"], figures["mrr"], figures["ndcg_10"]) == (1.0, 1.0, 1.0)
    assert 0 < figures["p50_ms"] <= figures["p95_ms"]
    # with this floor nothing is found
    second = run(filled, retrieval={"mode": "hybrid"}, score_floor=1)
    assert (second["number"], second["figures"]["recall_10"], second["figures"]["mrr"]) == (2, 0.0, 0.0)
    worse = filled.get(f"{SETS}/common/runs/2/worse", params={"than": 1}).json()
    assert [(one["question"], one["before"], one["rank"]) for one in worse["items"]] == [
        (HOLIDAY["question"], 1, None), (FORKLIFT["question"], 1, None),
    ]  # fmt: skip
    assert filled.get(f"{SETS}/common/runs/1/worse", params={"than": 2}).json()["total"] == 0
    assert filled.get(f"{SETS}/common/runs/1/worse", params={"than": 9}).status_code == 404
    answers = filled.get(f"{SETS}/common/runs/1/answers").json()["items"]
    assert [(one["number"], one["ranks"], one["recall_10"]) for one in answers] == [(1, [1], 1.0), (2, [1], 1.0)]
    listed = filled.get(SETS).json()["items"]
    assert [(one["name"], one["runs"], one["last"]["number"]) for one in listed] == [("common", 2, 2)]


def test_a_run_looks_into_the_index_that_it_names_and_keeps_to_its_questions(filled: httpx.Client) -> None:
    assert filled.post(f"{SETS}/common/runs", json={"index": 7}).json()["code"] == "index_gone"
    changed = {"question": "What?", "expected": [{"text": "nowhere"}]}
    first = run(filled)
    assert filled.put(f"{SETS}/common/questions/1", json=changed).status_code == 200
    assert filled.delete(f"{SETS}/common/questions/2").status_code == 204
    second = run(filled)
    assert (first["total"], second["total"], second["figures"]["mrr"]) == (2, 1, 0.0)
    worse = filled.get(f"{SETS}/common/runs/2/worse", params={"than": 1}).json()
    assert worse["total"] == 0, "what expects something else by now is not compared"
    kept = filled.get(f"{SETS}/common/runs/1/answers").json()["items"]
    assert [one["question"] for one in kept] == [HOLIDAY["question"], FORKLIFT["question"]]
    assert filled.delete(f"{SETS}/common/runs/1").status_code == 204
    assert filled.get(f"{SETS}/common/runs/1").status_code == 404
    assert run(filled)["number"] == 3, "numbers are never reused"
    assert filled.delete(f"{SETS}/common").status_code == 204
    assert filled.get(f"{SETS}/common/questions").status_code == 404


def test_a_question_that_is_there_expects_more_and_is_not_there_twice(filled: httpx.Client) -> None:
    more = {**HOLIDAY, "expected": [{"document": "手册.docx"}, *HOLIDAY["expected"]]}  # type: ignore[misc]
    for _ in range(2):
        added = filled.post(f"{SETS}/common/questions", json={"questions": [more]})
        assert added.json()["questions"] == 2
    first = filled.get(f"{SETS}/common/questions").json()["items"][0]
    assert [one["document"] for one in first["expected"]] == ["leave.txt", "手册.docx"]
    same = filled.put(f"{SETS}/common/questions/2", json=HOLIDAY)
    assert (same.status_code, same.json()["code"]) == (409, "duplicate")


def test_questions_come_from_files(filled: httpx.Client) -> None:
    path = f"{SETS}/common/import"
    table = "\ufeffquestion,document,text\r\n年假有几天？,手册.docx,三十天\r\n年假有几天？,leave.txt,\r\n"
    assert filled.post(path, params={"format": "csv"}, content=table.encode()).json()["questions"] == 3
    rows = '{"question": "A?", "expected": [{"text": "a"}]}\n\n{"question": "B?", "expected": [{"document": "b"}]}'
    assert filled.post(path, params={"format": "jsonl"}, content=rows.encode()).json()["questions"] == 5
    last = filled.get(f"{SETS}/common/questions").json()["items"][2]
    assert [(one["document"], one["text"]) for one in last["expected"]] == [("手册.docx", "三十天"), ("leave.txt", "")]


BAD_FILES = [
    ("jsonl", b'{"question": "A?", "expected": [{"text": "a"}]}\n{', "line 2"),
    ("jsonl", b"[1]", "line 1"),
    ("jsonl", b'{"question": "A?", "expected": []}', "line 1"),
    ("jsonl", b'{"question": "\\u0000", "expected": [{"text": "a"}]}', "line 1"),
    ("jsonl", b"\xff", "UTF-8"),
    ("jsonl", b"", "no questions"),
    ("csv", b"question,answer\na,b\n", "line 1"),
    ("csv", b"question,text\na,b,c\n", "line 2"),
    ("csv", b"question,text\n,b\n", "line 2"),
    ("csv", b'question,text\na,"b\n', "line"),
    ("csv", b"question,text\na,\n", "line 2"),
    ("jsonl", b"\n".join(b'{"question": "%d", "expected": [{"text": "a"}]}' % n for n in range(5001)), "5000"),
]
"""Kind, content, and what the refusal says."""


def test_a_bad_file_is_refused_as_a_whole_with_its_line(filled: httpx.Client) -> None:
    for kind, content, where in BAD_FILES:
        answer = filled.post(f"{SETS}/common/import", params={"format": kind}, content=content)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_file"), content[:80]
        assert where in answer.json()["detail"]
    assert filled.get(f"{SETS}/common").json()["questions"] == 2


def test_only_who_manages_a_base_sees_its_test_sets(control: Running, filled: httpx.Client) -> None:
    admin, engineer = control.admin, filled
    base(admin, "private", readers=[{"kind": "everyone"}])
    assert engineer.get(f"{BASES}/private/test-sets").status_code == 403
    assert engineer.post(f"{BASES}/private/test-sets", json={"name": "x"}).status_code == 404
    assert engineer.post(f"{SETS}/empty/runs", json={}).status_code == 404
    assert engineer.post(SETS, json={"name": "empty"}).status_code == 201
    assert engineer.post(SETS, json={"name": "empty"}).status_code == 409
    assert engineer.post(f"{SETS}/empty/runs", json={}).json()["code"] == "no_questions"
    assert control.as_("viewer").get(f"{SETS}/common").status_code == 200
    assert control.as_("viewer").post(f"{SETS}/common/runs", json={}).status_code == 403
    actions = {one["action"] for one in admin.get("/api/v1/audit", params={"per_page": 100}).json()["items"]}
    assert actions >= {"add_questions"}


def test_kill_9_in_the_middle_of_a_run_asks_only_what_is_left(
    tmp_path: Path, database_url: str, milvus: MilvusLite, gateway: Upstream
) -> None:
    many = 60
    questions = [{"question": f"machine number{n}", "expected": [{"document": "a.txt"}]} for n in range(many)]
    with plane_of(tmp_path, database_url, milvus, gateway) as plane:
        plane.post("/keys", name="bot")
        base(plane.client, "handbook", embedding={"kind": "route", "route": "embed", "key": "bot@admin"})
        ready(plane.client, "handbook", "a.txt", "Machine number7 is serviced every spring.")
        plane.post("/knowledge/handbook/test-sets", name="common")
        plane.post("/knowledge/handbook/test-sets/common/questions", questions=questions)
        before = len(gateway.of("embed"))
        plane.post("/knowledge/handbook/test-sets/common/runs", retrieval={"mode": "dense"}, score_floor=-1)
        path = "/knowledge/handbook/test-sets/common/runs/1"
        eventually(lambda: plane.get(path)["done"] >= 3, 30)
        plane.kill9()
        asked = len(gateway.of("embed")) - before
        assert asked < many
        plane.forget_claims()
        plane.start()
        eventually(lambda: plane.get(path)["state"] == "done", 90)
        found = plane.get(path)
        assert (found["done"], found["figures"]["recall_1"]) == (many, 1.0)
    assert len(gateway.of("embed")) - before <= many + 1, "only the question that was under way was asked twice"
