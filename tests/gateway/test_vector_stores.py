"""OpenAI's vector stores: bases as its clients see them, and what is refused because it has no counterpart."""

from __future__ import annotations

import json

import pytest

from tests.fakes import control as fake
from tests.fakes.control import ENV, Control, settings
from tests.fakes.gateway import Gateway, key
from tests.gateway.test_rag import OTHER, PASSAGE

BASE = {
    "name": "handbook", "description": "Rules", "created_at": 1_795_512_600, "documents": 4, "ready": 2, "failed": 1,
    "bytes": 48_213,
}  # fmt: skip
DONE = {**BASE, "name": "手册", "documents": 3}


@pytest.fixture(scope="module")
def control():
    with Control() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(control, tmp_path_factory):
    control.publish({"key": [key("tester", team="support")], "team": [{"name": "support"}]})
    with Gateway(settings(control), tmp_path_factory.mktemp("stores"), env=ENV) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(control):
    control.passages, control.bases, control.searches = [PASSAGE, OTHER], [BASE, DONE], []
    yield
    control.manners.clear()


def search(gateway: Gateway, store: str = "handbook", **fields: object):
    return gateway.call("POST", f"/v1/vector_stores/{store}/search", json.dumps(fields).encode())


def test_stores_are_the_bases_that_the_key_may_read(gateway, control):
    listed = gateway.call("GET", "/v1/vector_stores")
    assert listed.status == 200
    assert [one["id"] for one in listed.json["data"]] == ["handbook", "手册"]
    assert (listed.json["object"], listed.json["has_more"], listed.json["first_id"]) == ("list", False, "handbook")
    assert control.searches[0] == {"principal": {"key": "tester", "team": "support"}, "names": None}
    one = listed.json["data"][0]
    counts = {"in_progress": 1, "completed": 2, "failed": 1, "cancelled": 0, "total": 4}
    assert (one["object"], one["status"], one["file_counts"]) == ("vector_store", "in_progress", counts)
    assert (one["usage_bytes"], one["created_at"]) == (48_213, 1_795_512_600)
    page = gateway.call("GET", "/v1/vector_stores?limit=1&after=handbook").json
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (["手册"], False)
    assert gateway.call("GET", "/v1/vector_stores?limit=0").status == 400
    found = gateway.call("GET", "/v1/vector_stores/%E6%89%8B%E5%86%8C").json
    assert (found["id"], found["status"]) == ("手册", "completed")
    assert gateway.call("GET", "/v1/vector_stores/other").status == 404
    assert gateway.call("GET", f"/v1/vector_stores/{'x' * 300}").status == 404
    assert gateway.call("GET", "/v1/vector_stores", secret="sk-tg-nobody").status == 401


def test_a_search_is_asked_and_answered_in_openais_words(gateway, control):
    every = {"type": "and", "filters": [{"type": "eq", "key": "lang", "value": "en"}]}
    found = search(
        gateway, query=["Leave?"], max_num_results=3, filters=every, ranking_options={"score_threshold": 0.5}
    )
    assert found.status == 200
    asked = control.searches[0]
    assert (asked["bases"], asked["query"], asked["filter"]) == (["handbook"], "Leave?", {"lang": "en"})
    assert asked["limits"] == {"top_k": 3, "score_floor": 0.5, "token_budget": 200_000}
    assert asked["principal"] == {"key": "tester", "team": "support"}
    page = found.json
    assert (page["object"], page["search_query"]) == ("vector_store.search_results.page", ["Leave?"])
    assert (page["has_more"], page["next_page"]) == (False, None)
    assert page["data"] == [
        {
            "file_id": "d-1", "filename": "Leave 2026.pdf", "score": 0.6,
            "attributes": {"section": "Leave › Annual", "page": 12},
            "content": [{"type": "text", "text": "Everyone has 30 days of leave a year."}],
        },
        {
            "file_id": "d-2", "filename": "假期.docx", "score": 0.6, "attributes": {"section": ""},
            "content": [{"type": "text", "text": "每人每年三十天。"}],
        },
    ]  # fmt: skip


EQ = {"type": "eq", "key": "lang", "value": "en"}
WRONG = {
    "query": [{}, {"query": ["a", "b"]}, {"query": 5}, {"query": ""}, {"query": []}],
    "max_num_results": [{"max_num_results": 0}, {"max_num_results": 51}, {"max_num_results": "5"}],
    "score_threshold": [{"ranking_options": {"score_threshold": 2}}],
    "ranking_options": [{"ranking_options": {"ranker": "none"}}, {"ranking_options": [1]}],
    "rewrite_query": [{"rewrite_query": True}],
    "filters": [
        {"filters": {"type": "gt", "key": "year", "value": 1}}, {"filters": {"type": "or", "filters": [EQ]}},
        {"filters": {"type": "and", "filters": [EQ, EQ]}}, {"filters": {"type": "and", "filters": 5}},
        {"filters": "lang"}, {"filters": {"type": "eq", "value": "en"}},
    ],
    "principal": [{"principal": {"key": "admin"}}],
}  # fmt: skip


@pytest.mark.parametrize(("param", "body"), [(param, body) for param, bodies in WRONG.items() for body in bodies])
def test_what_has_no_counterpart_is_refused_by_its_name(gateway, control, param, body):
    refused = search(gateway, **({"query": "x"} if param != "query" else {}), **body)
    assert (refused.status, refused.error["param"]) == (400, param)
    assert control.searches == []


def test_what_control_says_is_told(gateway, control):
    assert search(gateway, "x" * 300, query="x").status == 404
    control.manners["retrieval"] = fake.answering(404, b"{}")
    assert search(gateway, "other", query="x").status == 404
    control.manners["knowledge"] = fake.answering(503, b"{}")
    assert gateway.call("GET", "/v1/vector_stores").error["code"] == "retrieval_failed"
    control.manners["knowledge"] = fake.answering(200, b'{"bases":[{"name":1}]}')
    assert gateway.call("GET", "/v1/vector_stores").status == 503
    assert gateway.call("POST", "/v1/vector_stores", b"{}").status in (404, 405)
