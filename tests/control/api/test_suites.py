"""Suites over the API: versions by their content, cases from wherever they are, and promptfoo's configuration."""

from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running, Start
from tests.control.api.training import dataset

SUITES = "/api/v1/suites"
PROMPT = {"name": "plain", "messages": [{"role": "user", "content": "Q: {{question}}"}]}
EXACT = {"name": "exact", "kind": "exact"}


def cases(*questions: str) -> dict[str, Any]:
    return {"kind": "cases", "cases": [{"variables": {"question": one}, "expected": "yes"} for one in questions]}


def version(client: httpx.Client, *sources: Any, prompts: Any = (PROMPT,), **more: Any) -> httpx.Response:
    body = {"prompts": list(prompts), "scorers": [EXACT], "sources": list(sources)} | more
    return client.post(f"{SUITES}/questions/versions", json=body)


def held(client: httpx.Client, number: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"{SUITES}/questions/versions/{number}/cases").json()["items"]
    return items


@pytest.fixture
def engineer(control: Running) -> httpx.Client:
    client = control.as_("engineer")
    assert client.post(SUITES, json={"name": "questions"}).status_code == 201
    return client


def test_a_version_is_its_content(control: Running, engineer: httpx.Client) -> None:
    assert version(engineer, cases("a", "b")).json() == {"number": 1, "made": True, "skipped": {}}
    assert version(engineer, cases("a"), cases("b")).json() == {"number": 1, "made": False, "skipped": {}}
    assert version(engineer, cases("a", "b"), parameters={"temperature": 0}).json()["number"] == 2
    added = version(engineer, {"kind": "version", "number": 1}, cases("c")).json()
    assert [one["variables"]["question"] for one in held(engineer, added["number"])] == ["a", "b", "c"]
    detail = engineer.get(f"{SUITES}/questions").json()
    assert [(one["number"], one["cases"]) for one in detail["versions"]] == [(3, 3), (2, 2), (1, 2)]
    assert (detail["version"], detail["cases"], detail["mine"]) == (3, 3, True)
    noted = control.admin.get("/api/v1/audit", params={"resource_kind": "suite"}).json()["items"]
    assert [one["action"] for one in noted] == ["add_version"] * 3 + ["create"]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("csv", 'question,expected,tags\n"a, b",yes,"x, y"\n', {"question": "a, b"}),
        ("csv", "\ufeffquestion\n你好\n", {"question": "你好"}),
        ("jsonl", '{"question": "a", "expected": "yes", "tags": ["x", "y"]}\n\n', {"question": "a"}),
        ("jsonl", '{"variables": {"question": "a"}, "n": 3}', {"question": "a", "n": "3"}),
    ],
)
def test_cases_come_from_files(engineer: httpx.Client, kind: str, text: str, expected: dict[str, str]) -> None:
    made = version(engineer, {"kind": kind, "text": text})
    assert made.status_code == 201, made.text
    (case,) = held(engineer, 1)
    assert case["variables"] == expected
    if "tags" in text:
        assert (case["expected"], case["tags"]) == ("yes", ["x", "y"])


@pytest.mark.parametrize(
    ("kind", "text", "at", "message"),
    [
        ("csv", "question,question\na,b\n", "body.sources.0.text", "each once"),
        ("csv", "question\na,b\n", "body.sources.0.text.2", "number of columns"),
        ("csv", 'question\n"a\n', "body.sources.0.text.2", "no CSV"),
        ("csv", "question\n", "body.sources.0.text", "no case"),
        ("jsonl", '{"question": "a"}\n{', "body.sources.0.text.2", "no JSON"),
        ("jsonl", "[1]", "body.sources.0.text.1", "an object"),
        ("jsonl", '{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}', "body.sources.0.text.1", "both"),
        ("jsonl", '{"messages": [{"role": "boss", "content": "b"}]}', "body.sources.0.text.1.messages.0.role", "Input"),
        ("jsonl", '{"variables": {"a b": "x"}}', "body.sources.0.text.1.variables.a b.[key]", "pattern"),
        ("jsonl", '{"answer": "a"}', "body.prompts.0", "case 1 has no variable question"),
    ],
)
def test_what_is_no_case_is_said_with_its_place(
    engineer: httpx.Client, kind: str, text: str, at: str, message: str
) -> None:
    refused = version(engineer, {"kind": kind, "text": text})
    assert refused.status_code == 422
    (error, *_) = refused.json()["errors"]
    assert error["at"] == at
    assert message in error["message"]
    assert engineer.get(f"{SUITES}/questions").json()["version"] == 0


def test_a_prompt_that_asks_nothing_and_parameters_of_the_run_are_refused(engineer: httpx.Client) -> None:
    empty = version(engineer, cases("a"), prompts=[{"name": "none", "messages": []}])
    assert "asks nothing" in empty.json()["errors"][0]["message"]
    taken = version(engineer, cases("a"), parameters={"stream": False})
    assert "a run sets stream itself" in taken.json()["errors"][0]["message"]
    twice = version(engineer, cases("a"), prompts=[PROMPT, PROMPT])
    assert "same name" in twice.json()["errors"][0]["message"]
    pairwise = {"name": "pairs", "kind": "pairwise_judge", "route": "judge", "rubric": "Which is better?"}
    assert version(engineer, cases("a"), scorers=[pairwise]).status_code == 201


def test_a_dataset_gives_cases_with_its_answers(engineer: httpx.Client) -> None:
    dataset(engineer)
    made = version(
        engineer, {"kind": "dataset", "dataset": "dialogues", "number": 1}, prompts=[{"name": "own", "messages": []}]
    )
    assert made.status_code == 201, made.text
    first = held(engineer, 1)[0]
    assert first["messages"][-1]["role"] == "user"
    assert first["expected"]
    missing = version(engineer, {"kind": "dataset", "dataset": "nothing", "number": 1})
    assert missing.status_code == 404


def test_a_chat_gives_a_case_and_only_to_whom_it_belongs(control: Running, engineer: httpx.Client) -> None:
    messages = [{"role": "user", "content": "6 × 7?"}, {"role": "assistant", "content": "42"}]
    chat = {"title": "sums", "settings": {"system": "Be short."}, "messages": messages}
    kept = engineer.post("/api/v1/chat/sessions", json=chat).json()
    source = {"kind": "chats", "sessions": [kept["id"]]}
    made = version(engineer, source, prompts=[{"name": "own", "messages": []}])
    assert made.status_code == 201, made.text
    (case,) = held(engineer, 1)
    assert [one["role"] for one in case["messages"]] == ["system", "user"]
    assert case["expected"] == "42"
    operator = control.as_("operator")
    assert version(operator, source, prompts=[{"name": "own", "messages": []}]).status_code == 404


def test_bodies_of_requests_are_for_those_who_may_read_them(engineer: httpx.Client) -> None:
    refused = version(engineer, {"kind": "requests", "since": "2026-01-01T00:00:00Z"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_others_see_nothing_and_change_nothing(control: Running, engineer: httpx.Client) -> None:
    assert version(engineer, cases("a")).status_code == 201
    viewer = control.as_("viewer")
    assert viewer.get(f"{SUITES}/questions").json()["mine"] is False
    assert viewer.delete(f"{SUITES}/questions").status_code == 403
    assert control.as_("member").get(f"{SUITES}/questions").status_code == 403
    assert version(control.as_("operator"), cases("b")).status_code == 201
    stale = engineer.patch(f"{SUITES}/questions", json={"row_version": 7, "description": "x"})
    assert stale.json()["code"] == "stale_version"
    assert engineer.delete(f"{SUITES}/questions").status_code == 204
    assert control.sql("SELECT count(*) FROM suite_case") == [(0,)]


PROMPTFOO = """
prompts:
  - 'Answer: {{question}}'
  - {label: As JSON, raw: '[{"role": "system", "content": "Say JSON."}, {"role": "user", "content": "{{ question }}"}]'}
providers: [openai:gpt-4o, {id: anthropic:claude, config: {temperature: 0}}]
defaultTest:
  assert: [{type: is-json}]
tests:
  - description: capital
    vars: {question: 'Capital of France?'}
    assert: [{type: icontains, value: paris}, {type: contains, value: P}]
  - vars: {question: ['1 + 1?', '2 + 2?']}
    assert: [{type: regex, value: '\\d'}, {type: equals, value: 4}, {type: llm-rubric, value: 'Is it right?'}]
"""


def imported(client: httpx.Client, text: str, **more: Any) -> httpx.Response:
    return client.post(f"{SUITES}/questions/promptfoo", json={"text": text, **more})


def test_promptfoo_becomes_a_version(engineer: httpx.Client) -> None:
    made = imported(engineer, PROMPTFOO, judge="judge", providers={"openai:gpt-4o": "gpt"})
    assert made.status_code == 201, made.text
    assert made.json()["providers"] == [
        {"provider": "openai:gpt-4o", "route": "gpt"},
        {"provider": "anthropic:claude", "route": ""},
    ]
    (shown,) = engineer.get(f"{SUITES}/questions").json()["versions"]
    assert [one["name"] for one in shown["prompts"]] == ["prompt-1", "As-JSON"]
    assert shown["prompts"][1]["messages"][0] == {"role": "system", "content": "Say JSON."}
    kinds = {one["name"]: one["kind"] for one in shown["scorers"]}
    assert kinds == {
        "is-json": "json_schema", "icontains-1": "contains", "contains-1": "contains", "regex-1": "regex",
        "equals": "exact", "rubric-1": "judge",
    }  # fmt: skip
    first, *rest = held(engineer, 1)
    assert first["variables"] == {
        "question": "Capital of France?", "assert_icontains_1": "paris", "assert_contains_1": "P",
    }  # fmt: skip
    assert first["tags"] == ["capital"]
    assert [(one["variables"]["question"], one["expected"]) for one in rest] == [("1 + 1?", "4"), ("2 + 2?", "4")]


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("prompts: [x]\ntests: [{assert: [{type: javascript, value: '1'}]}]", "tests.0.assert.0", "runs a program"),
        ("prompts: [x]\ntests: [{assert: [{type: llm-rubric, value: '1'}]}]", "tests.0.assert.0", "needs a judge"),
        ("prompts: [x]\ntests: [{assert: [{type: sparkling}]}]", "tests.0.assert.0", "no meaning"),
        ("prompts: ['file://a.txt']\ntests: [{}]", "prompts.0", "other files are not read"),
        ("prompts: ['{{ x | upper }}']\ntests: [{}]", "prompts.0", "no filters"),
        ("prompts: ['{{x}}']\ntests: [{vars: {y: 1}}]", "tests.0.vars", "places for x"),
        ("prompts: [x]\ntests: file://tests.csv", "tests", "a list"),
        ("prompts: [x]\ntests: [{vars: 7}]", "tests.0", "an object"),
        ("prompts: [x", "text", "no YAML"),
        ("[1, 2]", "text", "promptfoo's configuration"),
        ("a: &a [1,2,3,4,5,6,7,8,9]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
        ), "text", "too large"),
    ],
)  # fmt: skip
def test_what_promptfoo_says_that_has_no_meaning_here_is_refused(
    engineer: httpx.Client, text: str, at: str, message: str
) -> None:
    refused = imported(engineer, text)
    assert refused.status_code == 422, refused.text
    error = refused.json()["errors"][0]
    assert error["at"] == f"body.text.{at}"
    assert message in error["message"]


def test_the_rest_is_taken_where_one_says_so(engineer: httpx.Client) -> None:
    text = "prompts: [x]\ntests: [{assert: [{type: javascript, value: '1'}, {type: contains, value: a}]}]"
    made = imported(engineer, text, leave_out=True)
    assert made.status_code == 201
    assert made.json()["left_out"][0].startswith("tests.0.assert.0: javascript: runs a program")
    assert len(engineer.get(f"{SUITES}/questions").json()["versions"][0]["scorers"]) == 1


def test_many_cases_are_one_version_and_more_are_refused(start_control: Start) -> None:
    client = start_control().as_("engineer")
    assert client.post(SUITES, json={"name": "questions"}).status_code == 201
    text = "".join(json.dumps({"question": f"{number} " + "x" * 500}) + "\n" for number in range(10_000))
    assert version(client, {"kind": "jsonl", "text": text}).status_code == 201
    assert len(client.get(f"{SUITES}/questions/versions/1/cases", params={"offset": 9_990}).json()["items"]) == 10
    more = version(client, {"kind": "jsonl", "text": text}, cases("one more"))
    assert (more.status_code, more.json()["code"]) == (422, "too_many_cases")
