"""A caller never gets a passage that it may not see: a property over bases, documents, readers and callers."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from control.kit.access import principals
from control.knowledge import retrieval
from control.knowledge.access import Caller
from control.models import KnowledgeBase
from tests.control.api.conftest import Running
from tests.control.knowledge.conftest import BASES, base, ready, search

USERS, TEAMS, KEYS = ("alice", "bob"), ("red", "blue"), ("bot@alice", "bot@red")
READERS = st.lists(
    st.sampled_from(
        [
            {"kind": "everyone", "name": ""},
            *({"kind": "user", "name": name} for name in USERS),
            *({"kind": "team", "name": name} for name in TEAMS),
            *({"kind": "key", "name": name} for name in KEYS),
        ]
    ),
    max_size=3,
)
OWNERS = st.sampled_from([*(("user", name) for name in USERS), *(("team", name) for name in TEAMS)])


@settings(deadline=None)
@given(OWNERS, READERS, st.none() | READERS, OWNERS, st.sets(st.sampled_from(TEAMS)), st.none() | st.sampled_from(KEYS))
def test_the_rule_is_what_the_documentation_says(
    owner: tuple[str, str],
    readers: list[dict[str, str]],
    own: list[dict[str, str]] | None,
    who: tuple[str, str],
    teams: set[str],
    key: str | None,
) -> None:
    caller = Caller(frozenset(principals(who, teams, [key] if key else ())))
    found = KnowledgeBase(name="b", owner_kind=owner[0], owner=owner[1], readers=readers)
    is_in = teams if who[0] == "user" else set()

    def names(some: list[dict[str, str]]) -> bool:
        return any(
            one["kind"] == "everyone"
            or (one["kind"], one["name"]) == who
            or (one["kind"] == "team" and one["name"] in is_in)
            or (one["kind"] == "key" and one["name"] == key)
            for one in some
        )

    owns = who == owner or (owner[0] == "team" and owner[1] in is_in)
    assert caller.may_read(found) == (owns or names(readers))
    assert caller.may_read_document(found, own) == (own is None or owns or names(own))


@pytest.fixture
def places(control: Running) -> dict[str, Any]:
    """Two bases of the engineer with three documents each that all answer the same query, and callers."""
    admin, engineer = control.admin, control.as_("engineer")
    for team, people in (("red", ["member"]), ("blue", ["engineer"])):
        assert admin.post("/api/v1/teams", json={"name": team}).status_code == 201
        for person in people:
            answer = admin.put(f"/api/v1/teams/{team}/members", json={"username": person})
            assert answer.status_code in (200, 201, 204), answer.text
    for who in ("member", "operator"):
        assert control.as_(who).post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    assert admin.post("/api/v1/keys", json={"name": "bot", "team": "red"}).status_code == 201
    found: dict[str, Any] = {"documents": {}}
    for name in ("one", "two"):
        base(engineer, name)
        for number in range(3):
            text = f"The holiday rules, part {number} of {name}: thirty days of annual leave."
            found["documents"][name, number] = ready(engineer, name, f"{number}.txt", text)["id"]
    return found


ACL = st.lists(
    st.sampled_from(
        [
            {"kind": "everyone", "name": ""}, {"kind": "user", "name": "member"}, {"kind": "team", "name": "red"},
            {"kind": "key", "name": "bot@operator"}, {"kind": "key", "name": "bot@red"},
            {"kind": "team", "name": "blue"},
        ]
    ),
    max_size=2,
)  # fmt: skip
WHO = {
    "bot@member": {("everyone", ""), ("user", "member"), ("team", "red"), ("key", "bot@member")},
    "bot@operator": {("everyone", ""), ("user", "operator"), ("key", "bot@operator")},
    "bot@red": {("everyone", ""), ("team", "red"), ("key", "bot@red")},
    "unknown": {("everyone", ""), ("key", "unknown")},
}


def allowed(readers: list[dict[str, str]] | None, who: str) -> bool:
    return readers is None or bool({(one["kind"], one["name"]) for one in readers} & WHO[who])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bases=st.fixed_dictionaries({"one": ACL, "two": ACL}),
    own=st.lists(st.none() | ACL, min_size=6, max_size=6),
    who=st.sampled_from(sorted(WHO)),
    asked=st.sampled_from([["one"], ["two"], ["one", "two"]]),
)
def test_a_key_gets_all_that_it_may_see_and_nothing_else(
    control: Running,
    places: dict[str, Any],
    bases: dict[str, list[dict[str, str]]],
    own: list[list[dict[str, str]] | None],
    who: str,
    asked: list[str],
) -> None:
    client = control.as_("engineer")
    for name, readers in bases.items():
        version = client.get(f"{BASES}/{name}").json()["row_version"]
        body = {"row_version": version, "readers": readers}
        assert client.patch(f"{BASES}/{name}", json=body).status_code == 200
    for ((name, _), id), readers in zip(places["documents"].items(), own, strict=True):
        answer = client.patch(f"{BASES}/{name}/documents/{id}", json={"readers": readers})
        assert answer.status_code == 200, answer.text
    body = {"bases": asked, "query": "holiday rules", "principal": {"key": who}, "limits": {"top_k": 50}}
    answer = control.service().post("/internal/v1/retrieval", json=body)
    if not all(allowed(bases[name], who) for name in asked):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        return
    may_see = {
        id
        for ((name, _), id), readers in zip(places["documents"].items(), own, strict=True)
        if name in asked and allowed(readers, who)
    }
    assert {passage["document"] for passage in answer.json()["passages"]} == may_see


def test_what_hides_most_of_a_base_does_not_hide_the_rest(control: Running, engineer: httpx.Client) -> None:
    """Passages that a caller may not see take no places of those that it may see."""
    assert control.as_("member").post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    everyone = [{"kind": "everyone", "name": ""}]
    version = engineer.get(f"{BASES}/handbook").json()["row_version"]
    body = {"row_version": version, "readers": everyone, "retrieval": {"candidates": 2}}
    assert engineer.patch(f"{BASES}/handbook", json=body).status_code == 200
    for number in range(8):
        one = ready(engineer, "handbook", f"{number}.txt", f"Annual leave is thirty days, rule {number}.")
        assert engineer.patch(f"{BASES}/handbook/documents/{one['id']}", json={"readers": []}).status_code == 200
    last = ready(engineer, "handbook", "last.txt", "Leave, perhaps.")
    request = {"bases": ["handbook"], "query": "annual leave days", "principal": {"key": "bot@member"}}
    answer = control.service().post("/internal/v1/retrieval", json=request | {"limits": {"top_k": 1}})
    assert [one["document"] for one in answer.json()["passages"]] == [last["id"]]


def test_readers_that_were_forgotten_are_looked_up_again(
    control: Running, engineer: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "REMEMBERED", 1)
    assert control.as_("member").post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    seen = {}
    for name in ("first", "second"):
        base(engineer, name, readers=[{"kind": "everyone", "name": ""}])
        hidden = ready(engineer, name, "hidden.txt", "Annual leave is thirty days.")
        path = f"{BASES}/{name}/documents/{hidden['id']}"
        assert engineer.patch(path, json={"readers": []}).status_code == 200
        seen[name] = [ready(engineer, name, "seen.txt", "Annual leave is thirty days, they say.")["id"]]
    for name in ("first", "second", "first"):
        request = {"bases": [name], "query": "annual leave days", "principal": {"key": "bot@member"}}
        answer = control.service().post("/internal/v1/retrieval", json=request)
        assert [one["document"] for one in answer.json()["passages"]] == seen[name]
        knowledge = control.parts.knowledge
        assert knowledge is not None
        assert len(knowledge.retriever._readers) == 1


def test_a_key_that_is_revoked_or_disabled_sees_nothing(control: Running, engineer: httpx.Client) -> None:
    ready(engineer, "handbook", "a.txt", "Annual leave is thirty days.")
    assert engineer.post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    principal = {"key": "bot@engineer", "owner": "engineer"}
    request = {"bases": ["handbook"], "query": "annual leave", "principal": principal}
    asked = control.service()
    assert asked.post("/internal/v1/retrieval", json=request).status_code == 200
    assert control.sql("UPDATE api_key SET enabled = 0 WHERE public_name = 'bot@engineer'") == []
    assert asked.post("/internal/v1/retrieval", json=request).status_code == 404


def test_people_search_what_they_read_and_see_documents_of_what_is_theirs(
    control: Running, engineer: httpx.Client
) -> None:
    ready(engineer, "handbook", "a.txt", "Annual leave is thirty days.")
    member = control.as_("member")
    assert member.get(f"{BASES}/handbook").status_code == 404
    assert member.post(f"{BASES}/handbook/search", json={"query": "leave"}).status_code == 404
    version = engineer.get(f"{BASES}/handbook").json()["row_version"]
    body = {"row_version": version, "readers": [{"kind": "user", "name": "member"}]}
    assert engineer.patch(f"{BASES}/handbook", json=body).status_code == 200
    assert len(search(member, "handbook", "leave")) == 1
    assert [one["name"] for one in member.get(BASES).json()["items"]] == ["handbook"]
    assert member.get(f"{BASES}/handbook/documents").status_code == 403
    assert control.as_("viewer").get(f"{BASES}/handbook/documents").json()["total"] == 1
    theirs = engineer.post(f"{BASES}/handbook/search", json={"query": "leave", "as_key": "bot@member"})
    assert theirs.status_code == 404, "a key that is not yours"


def test_nobody_sees_with_the_eyes_of_a_key_that_they_could_not_use(control: Running, engineer: httpx.Client) -> None:
    """A key of the team, which its members see, and its manager alone can have."""
    ready(engineer, "handbook", "a.txt", "Annual leave is thirty days.")
    admin, member = control.admin, control.as_("member")
    assert admin.post("/api/v1/teams", json={"name": "red"}).status_code == 201
    assert admin.put("/api/v1/teams/red/members", json={"username": "member"}).status_code == 204
    assert admin.post("/api/v1/keys", json={"name": "bot", "team": "red"}).status_code == 201
    version = engineer.get(f"{BASES}/handbook").json()["row_version"]
    body = {"row_version": version, "readers": [{"kind": "key", "name": "bot@red"}]}
    assert engineer.patch(f"{BASES}/handbook", json=body).status_code == 200
    assert member.get("/api/v1/keys/bot@red").status_code == 200
    asked = {"query": "leave", "as_key": "bot@red"}
    assert member.post(f"{BASES}/handbook/search", json=asked).status_code == 403
    assert len(search(admin, "handbook", "leave", as_key="bot@red")) == 1


def test_a_gateway_hears_of_the_bases_and_documents_that_a_key_may_see(
    control: Running, engineer: httpx.Client
) -> None:
    assert control.as_("member").post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    version = engineer.get(f"{BASES}/handbook").json()["row_version"]
    readers = [{"kind": "user", "name": "member"}]
    assert engineer.patch(f"{BASES}/handbook", json={"row_version": version, "readers": readers}).status_code == 200
    base(engineer, "secret")
    everyone = ready(engineer, "handbook", "a.txt", "Annual leave is thirty days.")
    hidden = ready(engineer, "handbook", "b.txt", "Salaries.")
    for body in ({"readers": []}, {"readers": [{"kind": "key", "name": "bot@nobody"}]}):
        assert engineer.patch(f"{BASES}/handbook/documents/{hidden['id']}", json=body).status_code == 200

    def seen(key: str, **body: Any) -> list[tuple[str, int, int, int]]:
        answer = control.service().post("/internal/v1/knowledge", json={"principal": {"key": key}, **body})
        assert answer.status_code == 200, answer.text
        return [(one["name"], one["documents"], one["ready"], one["bytes"]) for one in answer.json()["bases"]]

    assert seen("bot@member") == [("handbook", 1, 1, everyone["size"])]
    assert seen("bot@member", names=["secret"]) == []
    assert seen("unknown") == []
    assert engineer.post("/api/v1/keys", json={"name": "own"}).status_code == 201
    both = everyone["size"] + hidden["size"]
    assert seen("own@engineer") == [("secret", 0, 0, 0), ("handbook", 2, 2, both)]
