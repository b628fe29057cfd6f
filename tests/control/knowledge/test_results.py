"""Kept answers: bounded, never of other rights, and gone with any change of documents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from control.knowledge import results
from control.knowledge.results import Results, Scope
from gateway.contract.retrieval import RetrievalReply
from tests.control.api.conftest import Running
from tests.control.knowledge.conftest import BASES, add, base, ready, settled
from tests.control.knowledge.test_access import ACL, WHO, allowed
from tests.control.knowledge.test_evaluation import passage

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def reply(text: str = "x", **more: Any) -> RetrievalReply:
    return RetrievalReply(passages=(passage("a.txt", text),), took_ms=1.0, **more)


def scope(key: str) -> Scope:
    return Scope(key, LONG_AGO)


def test_it_is_bounded_in_number_age_and_size() -> None:
    moment = [0.0]
    kept = Results(2, 10.0, lambda: moment[0])
    for key in ("a", "b"):
        kept.put(scope(key), reply(key))
    assert kept.get(scope("a")) == reply("a")
    kept.put(scope("c"), reply("c"))
    assert (kept.get(scope("b")), len(kept)) == (None, 2), "the least recently used goes first"
    moment[0] = 10.0
    assert (kept.get(scope("a")), len(kept)) == (None, 1)
    kept.put(scope("d"), reply("x" * (results.KEPT_CHARS + 1)))
    kept.put(scope("e"), reply(rerank="failed"))
    kept.put(Scope("f", datetime.now(UTC)), reply())
    assert [kept.get(scope(key)) for key in ("d", "e", "f")] == [None] * 3
    nothing = Results(0, 10.0)
    nothing.put(scope("a"), reply())
    assert len(nothing) == 0


@pytest.fixture
def documents(control: Running, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Three documents of the engineer's base `shared` that all answer the same query; name -> id."""
    monkeypatch.setattr(results, "SETTLED", timedelta(0))
    admin, engineer = control.admin, control.as_("engineer")
    assert admin.post("/api/v1/teams", json={"name": "red"}).status_code == 201
    assert admin.put("/api/v1/teams/red/members", json={"username": "member"}).status_code in (200, 201, 204)
    for who in ("member", "operator"):
        assert control.as_(who).post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    assert admin.post("/api/v1/keys", json={"name": "bot", "team": "red"}).status_code == 201
    base(engineer, "shared")
    text = "The holiday rules, part {}: thirty days of annual leave."
    return {name: ready(engineer, "shared", f"{name}.txt", text.format(name))["id"] for name in "abc"}


def ask(control: Running, who: str, query: str = "holiday rules") -> httpx.Response:
    body = {"bases": ["shared"], "query": query, "principal": {"key": who}, "limits": {"top_k": 50, "score_floor": -1}}
    return control.service().post("/internal/v1/retrieval", json=body)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(sorted(WHO)), st.sampled_from(["holiday rules", "annual leave"])),
        st.tuples(st.just("document"), st.sampled_from("abc"), st.none() | ACL),
        st.tuples(st.just("base"), st.just(""), ACL),
    ),
    min_size=4,
    max_size=14,
)


def test_a_kept_answer_never_crosses_rights_and_no_change_is_missed(
    control: Running, documents: dict[str, str]
) -> None:
    """Whatever is asked and changed in whatever order: every answer holds all that its caller may see at that moment,
    and nothing else; and some answers are kept ones.
    """
    engineer, hits = control.as_("engineer"), [0]
    shared: list[dict[str, str]] = []
    own: dict[str, list[dict[str, str]] | None] = dict.fromkeys(documents)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def holds(steps: list[tuple[str, str, Any]]) -> None:
        for what, which, value in [*steps, *(("ask", who, "holiday rules") for who in sorted(WHO) * 2)]:
            if what == "document":
                path = f"{BASES}/shared/documents/{documents[which]}"
                assert engineer.patch(path, json={"readers": value}).status_code == 200
                own[which] = value
            elif what == "base":
                version = engineer.get(f"{BASES}/shared").json()["row_version"]
                body = {"row_version": version, "readers": value}
                assert engineer.patch(f"{BASES}/shared", json=body).status_code == 200
                shared[:] = value
            else:
                answer = ask(control, which, value)
                if not allowed(shared, which):
                    assert answer.status_code == 404
                    continue
                may_see = {documents[name] for name, readers in own.items() if allowed(readers, which)}
                assert {one["document"] for one in answer.json()["passages"]} == may_see
                hits[0] += answer.json()["cached"]

    holds()
    assert hits[0] > 20, hits


def test_what_comes_goes_or_changes_is_in_effect_at_once(control: Running, documents: dict[str, str]) -> None:
    engineer = control.as_("engineer")

    def found(**body: Any) -> tuple[set[str], bool]:
        asked = {"query": "holiday rules", "limits": {"top_k": 50, "score_floor": -1}, **body}
        answer = engineer.post(f"{BASES}/shared/search", json=asked).json()
        return {one["title"] for one in answer["passages"]}, answer["cached"]

    every = {"a.txt", "b.txt", "c.txt"}
    assert [found(), found()] == [(every, False), (every, True)]
    assert found(limits={"top_k": 1, "score_floor": -1})[1] is False, "other limits are another question"
    assert found(filter={"lang": "en"}) == (set(), False)
    path = f"{BASES}/shared/documents/{documents['a']}"
    assert engineer.patch(path, json={"facts": {"lang": "en"}}).status_code == 200
    assert found(filter={"lang": "en"}) == ({"a.txt"}, False)
    assert found(retrieval={"mode": "dense"})[1] is False
    assert engineer.delete(path).status_code == 204
    assert found() == ({"b.txt", "c.txt"}, False)
    assert found()[1] is True
    ready(engineer, "shared", "d.txt", "More holiday rules.")
    assert found() == ({"b.txt", "c.txt", "d.txt"}, False)
    newer = settled(engineer, "shared", add(engineer, "shared", "d.txt", "Nothing about that, but rules."))
    assert newer["state"] == "ready"
    body = {"query": "holiday rules", "limits": {"top_k": 50, "score_floor": -1}}
    passages = engineer.post(f"{BASES}/shared/search", json=body).json()["passages"]
    assert [one["document"] for one in passages if one["title"] == "d.txt"] == [newer["id"]]
    assert found()[1] is True


def test_nothing_is_kept_while_a_milvus_may_not_have_seen_a_change(engineer: httpx.Client) -> None:
    ready(engineer, "handbook", "a.txt", "Annual leave is thirty days.")
    answers = [engineer.post(f"{BASES}/handbook/search", json={"query": "leave"}).json()["cached"] for _ in range(3)]
    assert answers == [False, False, False]
