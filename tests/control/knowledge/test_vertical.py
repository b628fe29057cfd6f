"""From a file to a passage, over the API: real files, a real Milvus Lite, a real model."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx

from tests.control.api.conftest import Running
from tests.control.knowledge.conftest import BASES, add, base, ready, search, settled
from tests.fakes import documents as made

LEAVE = "Everyone has thirty days of annual leave each year. Ask your manager two weeks before."
ENGINE = "The diesel engine of the forklift is to be serviced every five hundred hours."
CHINESE = [
    ("Heading 1", "员工手册"),
    ("Heading 2", "年假制度"),
    ("Normal", "每位员工每年享有三十天带薪年假，须提前两周向经理申请。"),
    ("Heading 2", "叉车保养"),
    ("Normal", "叉车的柴油发动机每五百小时保养一次。"),
]


def test_a_pdf_and_a_chinese_word_file_are_found_with_their_page_and_section(engineer: httpx.Client) -> None:
    pdf = ready(engineer, "handbook", "handbook.pdf", made.pdf([ENGINE, LEAVE]))
    assert (pdf["kind"], pdf["pages"], pdf["total"], pdf["done"]) == ("pdf", 2, 2, 2)
    docx = ready(engineer, "handbook", "手册.docx", made.docx(*CHINESE))
    assert docx["total"] == 2
    first = search(engineer, "handbook", "How many days of holiday do I get?")[0]
    assert (first["document"], first["title"]) == (pdf["id"], "handbook.pdf")
    assert (first["page"], first["similarity"] > 0.2) == (2, True)
    found = search(engineer, "handbook", "年假有几天")[0]
    assert (found["document"], found["section"]) == (docx["id"], "员工手册 › 年假制度")
    assert "三十天带薪年假" in found["text"]
    chunks = engineer.get(f"{BASES}/handbook/documents/{docx['id']}/chunks").json()["items"]
    assert found["text"] == chunks[0]["text"]
    assert found["end"] - found["start"] == len(found["text"])


def without_scores(passage: dict[str, Any]) -> dict[str, Any]:
    """Without those that Milvus Lite and a copy in memory, which may have found it, give it each in its own way."""
    return {name: value for name, value in passage.items() if name not in ("dense", "bm25")}


def test_the_gateway_gets_the_same_passages_for_a_key_that_may_read(control: Running, engineer: httpx.Client) -> None:
    ready(engineer, "handbook", "leave.txt", LEAVE)
    assert engineer.post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    asked = {"bases": ["handbook"], "query": "days of holiday", "principal": {"key": "bot@engineer"}}
    answer = control.service().post("/internal/v1/retrieval", json=asked)
    assert answer.status_code == 200, answer.text
    again = search(engineer, "handbook", "days of holiday", as_key="bot@engineer")
    assert list(map(without_scores, answer.json()["passages"])) == list(map(without_scores, again))
    stranger = control.service().post("/internal/v1/retrieval", json=asked | {"principal": {"key": "other@admin"}})
    assert (stranger.status_code, stranger.json()["code"]) == (404, "not_found")


def test_what_is_deleted_or_replaced_is_not_found_from_that_answer_on(engineer: httpx.Client) -> None:
    leave = ready(engineer, "handbook", "leave.txt", LEAVE)
    assert add(engineer, "handbook", "leave.txt", LEAVE)["id"] == leave["id"], "the same content is the same document"
    newer = settled(engineer, "handbook", add(engineer, "handbook", "leave.txt", LEAVE.replace("thirty", "forty")))
    assert newer["id"] != leave["id"]
    assert {one["document"] for one in search(engineer, "handbook", "annual leave")} == {newer["id"]}
    assert engineer.delete(f"{BASES}/handbook/documents/{newer['id']}").status_code == 204
    assert search(engineer, "handbook", "annual leave") == []


def test_a_route_names_bases_that_are_there_and_they_stay_while_it_does(control: Running) -> None:
    admin = control.admin
    base(admin, "library")
    endpoint = {"name": "e", "provider": "dummy", "spec": {}}
    assert admin.post("/api/v1/endpoints", json=endpoint).status_code == 201
    spec = {"target": [{"endpoint": "e", "model": "m"}], "knowledge": {"bases": ["library", "nothing"]}}
    wrong = admin.post("/api/v1/routes", json={"name": "asks", "spec": spec})
    assert [(one["at"], wrong.status_code) for one in wrong.json()["errors"]] == [("body.spec.knowledge.bases.1", 422)]
    spec["knowledge"] = {"bases": ["library"]}
    assert admin.post("/api/v1/routes", json={"name": "asks", "spec": spec}).status_code == 201
    kept = admin.delete(f"{BASES}/library")
    assert (kept.status_code, kept.json()["code"], "asks" in kept.json()["detail"]) == (409, "in_use", True)
    assert admin.delete("/api/v1/routes/asks").status_code == 204
    assert admin.delete(f"{BASES}/library").status_code == 204


def test_what_does_not_fit_leaves_its_place_to_what_was_found_far_behind_it(engineer: httpx.Client) -> None:
    for number in range(6):
        text = f"Forklift service, forklift keys, forklift fuel {number}. " * 4
        ready(engineer, "handbook", f"long{number}.txt", text)
    ready(engineer, "handbook", "short.txt", "A forklift is yellow.")
    limits = {"top_k": 1, "token_budget": 12, "score_floor": -1}
    found = search(engineer, "handbook", "forklift service keys fuel", limits=limits)
    assert [one["title"] for one in found] == ["short.txt"]


def test_the_similarity_is_the_same_with_and_without_variety_and_by_words_alone(engineer: httpx.Client) -> None:
    for number, animal in enumerate(("cat", "dog", "horse", "snake")):
        ready(engineer, "handbook", f"{number}.txt", f"The {animal} eats in the morning, and sleeps in barn {number}.")

    def seen(**retrieval: Any) -> dict[str, float]:
        found = search(engineer, "handbook", "Where does the horse sleep?", retrieval=retrieval)
        return {one["title"]: round(one["similarity"], 4) for one in found}

    plain = seen()
    assert len(plain) == 4
    assert max(plain, key=lambda title: plain[title]) == "2.txt"
    assert seen(diversity=0.01) == plain
    assert seen(mode="bm25").items() <= plain.items()
