"""Routes: what is refused, versions, rollback, grants, who sees what, and edits at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import pytest

from tests.control.api.conftest import PASSWORD, Running

ROUTES = "/api/v1/routes"


@pytest.fixture
def control(control: Running) -> Running:
    for name in ("e1", "e2"):
        assert control.admin.post("/api/v1/endpoints", json={"name": name, "provider": "dummy", "spec": {}}).is_success
    return control


def spec(*endpoints: str, **more: Any) -> dict[str, Any]:
    return {"target": [{"endpoint": one, "model": "m"} for one in endpoints or ("e1",)], **more}


def make(control: Running, name: str, grants: Sequence[dict[str, str]] = (), **more: Any) -> dict[str, Any]:
    body = {"name": name, "spec": spec(**more), "grants": list(grants)}
    answer = control.admin.post(ROUTES, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def change(control: Running, name: str, row_version: int, **fields: Any) -> httpx.Response:
    return control.admin.patch(f"{ROUTES}/{quote(name, safe='')}", json={"row_version": row_version, **fields})


def places(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["at"] for error in answer.json()["errors"]]


def at_once(*calls: Callable[[], httpx.Response]) -> list[int]:
    codes: list[int] = []
    threads = [threading.Thread(target=lambda call=call: codes.append(call().status_code)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(codes)


def test_the_life_of_a_route(control: Running) -> None:
    made = make(control, "chat")
    assert (made["version"], made["row_version"], made["spec"]["strategy"]) == (1, 1, "weighted")
    second = change(control, "chat", 1, spec=spec("e1", "e2", system_prompt="Be brief."), note="two of them").json()
    assert (second["version"], second["row_version"]) == (2, 2)
    assert change(control, "chat", 1, spec=spec()).json()["code"] == "stale_version"
    assert change(control, "chat", 2, spec=second["spec"]).json()["row_version"] == 2, "nothing changed"
    disabled = change(control, "chat", 2, enabled=False).json()
    assert (disabled["version"], disabled["row_version"], disabled["enabled"]) == (2, 3, False)
    diff = control.admin.get(f"{ROUTES}/chat/diff", params={"before": 1, "after": 2}).json()["items"]
    assert [(d["path"], d["before"]) for d in diff] == [("system_prompt", None), ("target.1", None)]
    assert diff[1]["after"]["endpoint"] == "e2"
    back = control.admin.post(f"{ROUTES}/chat/rollback", json={"row_version": 3, "number": 1}).json()
    assert (back["version"], back["spec"], back["enabled"]) == (3, made["spec"], False)
    versions = control.admin.get(f"{ROUTES}/chat/versions").json()
    assert [(v["number"], v["note"]) for v in versions["items"]] == [(3, "rollback to 1"), (2, "two of them"), (1, "")]
    old = control.admin.get(f"{ROUTES}/chat/versions/2").json()
    assert old["spec"] == second["spec"]
    assert control.admin.get(f"{ROUTES}/chat/versions/9").status_code == 404
    assert control.admin.post(f"{ROUTES}/chat/rollback", json={"row_version": 4, "number": 9}).status_code == 404
    assert control.admin.delete(f"{ROUTES}/chat").status_code == 204
    assert control.sql("SELECT * FROM route_version") == []
    done = control.sql("SELECT action FROM audit_log WHERE resource_kind = 'route' ORDER BY seq")
    assert [action for (action,) in done] == ["create", "update", "update", "rollback", "delete"]


@pytest.mark.parametrize("name", ["openai/*", "openai/gpt-4o", "support-bot@v3", "qwen2.5:7b", "模型", "a/b/c-1"])
def test_names_as_models_have_them(control: Running, name: str) -> None:
    make(control, name)
    there = f"{ROUTES}/{quote(name, safe='')}"
    assert control.admin.get(there).json()["name"] == name
    assert control.admin.get(f"{there}/versions").json()["total"] == 1
    assert control.admin.get(f"{there}/versions/1").json()["number"] == 1
    assert control.admin.get(f"{there}/grants").json()["grants"] == []
    assert control.admin.delete(there).status_code == 204


@pytest.mark.parametrize(
    "name", ["", "*", "/x", "a b", "a*b", "a" * 121, "x/versions", "validate", "a\n", "a%", 7, None]
)
def test_names_that_are_refused(control: Running, name: Any) -> None:
    assert control.admin.post(ROUTES, json={"name": name, "spec": spec()}).status_code == 422


@pytest.mark.parametrize(
    ("wrong", "at"),
    [
        ({"target": []}, "body.spec.target"),
        ({}, "body.spec.target"),
        ({"target": [{"endpoint": "nowhere", "model": "m"}]}, "body.spec.target.0.endpoint"),
        ({"target": [{"endpoint": "e1"}]}, "body.spec.target.0.model"),
        ({"target": [{"endpoint": "e1", "model": "m", "weight": 0}]}, "body.spec.target"),
        ({"target": [{"endpoint": "e1", "model": "m", "weight": -1}]}, "body.spec.target.0.weight"),
        ({"target": [{"endpoint": "e1", "model": "m", "wait": 1}]}, "body.spec.target.0.wait"),
        ({"target": [{"endpoint": "e1", "model": "m" * 500}]}, "body.spec.target.0.model"),
        (spec(*["e1"] * 101), "body.spec.target"),
        (spec(aliases=["x"]), "body.spec.aliases.0"),
        (spec(aliases=["a", "a"]), "body.spec.aliases.1"),
        (spec(aliases=["a*"]), "body.spec.aliases.0"),
        (spec(aliases=["other"]), "body.spec.aliases.0"),
        (spec(aliases=["other-alias"]), "body.spec.aliases.0"),
        (spec(aliases=["a" * 150]), "body.spec.aliases.0"),
        (spec(fallback="x"), "body.spec.fallback"),
        (spec(fallback="nowhere"), "body.spec.fallback"),
        (spec(fallback="other-alias"), "body.spec.fallback"),
        (spec(fallback="wild/*"), "body.spec.fallback"),
        (spec(system_prompt="p" * 200_001), "body.spec.system_prompt"),
        (spec(strategy="luck"), "body.spec.strategy"),
        (spec(price={"input": -1}), "body.spec.price.input"),
        (spec(price={"input": "1e400"}), "body.spec.price.input"),
        (spec(name="y"), "body.spec.name"),
        (spec(cache={"ttl": 0}), "body.spec.cache.ttl"),
        (spec(cache={"scope": "everyone"}), "body.spec.cache.scope"),
        (spec(cache={"billing": 1.5}), "body.spec.cache.billing"),
        (spec(cache={"billing": "free"}), "body.spec.cache.billing"),
        (spec(cache={"max_bytes": 2**30}), "body.spec.cache.max_bytes"),
        (spec(cache={"semantic": {"route": "nowhere"}}), "body.spec.cache.semantic.route"),
        (spec(cache={"semantic": {"route": "wild/*"}}), "body.spec.cache.semantic.route"),
        (spec(cache={"semantic": {"route": "x"}}), "body.spec.cache.semantic.route"),
        (spec(cache={"semantic": {"route": "other", "threshold": 0.5}}), "body.spec.cache.semantic.threshold"),
        (spec(retry={"max_attempts": 1000}), "body.spec.retry.max_attempts"),
    ],
)
def test_a_wrong_spec_is_named_with_its_place_and_validate_says_the_same(
    control: Running, wrong: dict[str, Any], at: str
) -> None:
    make(control, "other", aliases=["other-alias"])
    make(control, "wild/*")
    answer = control.admin.post(ROUTES, json={"name": "x", "spec": wrong})
    assert at in places(answer)
    checked = control.admin.post(f"{ROUTES}/validate", json={"name": "x", "spec": wrong}).json()
    assert checked["ok"] is False
    assert at in [problem["at"] for problem in checked["problems"]]
    assert control.sql("SELECT count(*) FROM route") == [(2,)]


def test_validate_saves_nothing_and_finds_nothing_wrong_with_what_can_be_saved(control: Running) -> None:
    body = {"name": "x", "spec": spec(aliases=["y"])}
    assert control.admin.post(f"{ROUTES}/validate", json=body).json() == {"ok": True, "problems": []}
    assert control.sql("SELECT * FROM route") == []
    make(control, "x", aliases=["y"])
    taken = control.admin.post(f"{ROUTES}/validate", json=body).json()
    assert [problem["at"] for problem in taken["problems"]] == ["body.name"]
    assert control.admin.post(f"{ROUTES}/validate", json={**body, "new": False}).json()["ok"]
    assert control.admin.post(f"{ROUTES}/validate", json={**body, "more": 1}).status_code == 422
    assert control.admin.post(f"{ROUTES}/validate", json={"name": "x", "spec": []}).status_code == 422


def test_taken_names(control: Running) -> None:
    make(control, "x", aliases=["y"])
    again = control.admin.post(ROUTES, json={"name": "x", "spec": spec()})
    assert (again.status_code, again.json()["code"]) == (409, "duplicate_name")
    assert places(control.admin.post(ROUTES, json={"name": "y", "spec": spec()})) == ["body.name"]
    assert change(control, "x", 1, spec=spec(aliases=["y", "z"])).status_code == 200, "its own alias is its own"


def test_a_fallback_loop_is_told_step_by_step(control: Running) -> None:
    make(control, "c")
    make(control, "b", fallback="c")
    make(control, "a", fallback="b")
    answer = change(control, "c", 1, spec=spec(fallback="a"))
    assert places(answer) == ["body.spec.fallback"]
    assert "c → a → b → c" in answer.text
    itself = change(control, "c", 1, spec=spec(fallback="c"))
    assert "c → c" in itself.text


def test_what_others_fall_back_to_stays(control: Running) -> None:
    make(control, "b")
    make(control, "a", fallback="b")
    gone = control.admin.delete(f"{ROUTES}/b")
    assert (gone.status_code, gone.json()["code"]) == (409, "in_use")
    assert "a" in gone.json()["detail"]
    assert change(control, "b", 1, enabled=False).status_code == 409
    assert change(control, "a", 1, spec=spec()).status_code == 200
    assert change(control, "b", 1, enabled=False).status_code == 200
    assert places(change(control, "a", 2, spec=spec(fallback="b"))) == ["body.spec.fallback"]


def test_a_disabled_endpoint_is_no_target(control: Running) -> None:
    assert control.admin.patch("/api/v1/endpoints/e2", json={"row_version": 1, "enabled": False}).is_success
    answer = control.admin.post(ROUTES, json={"name": "x", "spec": spec("e1", "e2")})
    assert places(answer) == ["body.spec.target.1.endpoint"]


def test_an_old_version_that_is_no_longer_valid_does_not_come_back(control: Running) -> None:
    make(control, "x", fallback=None)
    assert change(control, "x", 1, spec=spec("e2")).is_success
    assert change(control, "x", 2, spec=spec("e1")).is_success
    assert control.admin.delete("/api/v1/endpoints/e2").status_code == 204
    answer = control.admin.post(f"{ROUTES}/x/rollback", json={"row_version": 3, "number": 2})
    assert places(answer) == ["body.spec.target.0.endpoint"]


@pytest.mark.parametrize(
    "more", [({"fallback": "b"}, {"fallback": "a"}), ({"aliases": ["z"]}, {"aliases": ["z"]})], ids=["loop", "alias"]
)
def test_two_edits_at_once_cannot_build_what_each_alone_could_not(
    control: Running, more: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    make(control, "a")
    make(control, "b")
    admin, operator = control.as_("admin"), control.as_("operator")
    one, two = ({"row_version": 1, "spec": spec(**fields)} for fields in more)
    codes = at_once(
        lambda: admin.patch(f"{ROUTES}/a", json=one),
        lambda: operator.patch(f"{ROUTES}/b", json=two),
    )
    assert codes == [200, 422]


def test_of_two_edits_of_one_route_at_once_one_is_stale(control: Running) -> None:
    make(control, "a")
    clients = [control.as_("admin"), control.as_("operator")]
    codes = at_once(
        *(
            lambda n=n: clients[n].patch(f"{ROUTES}/a", json={"row_version": 1, "spec": spec(system_prompt=str(n))})
            for n in range(2)
        )
    )
    assert codes == [200, 409]
    assert control.sql("SELECT version FROM route") == [(2,)]


def test_grants_are_a_whole_list_of_principals_that_exist(control: Running) -> None:
    admin = control.admin
    admin.post("/api/v1/teams", json={"name": "crew"})
    admin.post("/api/v1/keys", json={"name": "k", "user": "member"})
    made = make(control, "x", [{"principal_kind": "user", "principal": "member"}])
    there = f"{ROUTES}/x/grants"
    assert admin.get(there).json()["grants"] == [{"principal_kind": "user", "principal": "member"}]
    wanted = [
        {"principal_kind": "everyone"},
        {"principal_kind": "team", "principal": "crew"},
        {"principal_kind": "key", "principal": "k@member"},
        {"principal_kind": "key", "principal": "k@member"},
    ]
    put = admin.put(there, json={"row_version": made["row_version"], "grants": wanted})
    assert [grant["principal"] for grant in put.json()["grants"]] == ["", "k@member", "crew"]
    assert put.json()["row_version"] == 2
    assert admin.put(there, json={"row_version": 1, "grants": []}).status_code == 409
    bad = [
        {"principal_kind": "user", "principal": "crew"},
        {"principal_kind": "team", "principal": "member"},
        {"principal_kind": "key", "principal": "k"},
        {"principal_kind": "everyone", "principal": "x"},
        {"principal_kind": "user", "principal": "%"},
    ]
    answer = admin.put(there, json={"row_version": 2, "grants": bad})
    assert places(answer) == [f"body.grants.{n}.principal" for n in range(5)]
    for wrong in ([{"principal_kind": "group", "principal": "x"}], [{"principal": "x"}], {}, [{"principal_kind": 1}]):
        assert admin.put(there, json={"row_version": 2, "grants": wrong}).status_code == 422
    assert control.as_("engineer").put(there, json={"row_version": 2, "grants": []}).status_code == 403
    assert admin.delete(f"{ROUTES}/x").status_code == 204
    assert control.sql("SELECT * FROM access_grant") == [], "a later route of this name inherits nothing"


def test_people_see_what_they_may_use_and_not_how_it_is_made(control: Running) -> None:
    admin = control.admin
    admin.post("/api/v1/teams", json={"name": "crew"})
    admin.put("/api/v1/teams/crew/members", json={"username": "member"})
    admin.post("/api/v1/users", json={"username": "loner", "role": "member", "password": PASSWORD})
    admin.post("/api/v1/keys", json={"name": "k", "user": "loner"})
    make(control, "for-all", [{"principal_kind": "everyone"}], system_prompt="secret sauce", aliases=["alias"])
    make(control, "for-crew", [{"principal_kind": "team", "principal": "crew"}])
    make(control, "for-member", [{"principal_kind": "user", "principal": "member"}])
    make(control, "for-key", [{"principal_kind": "key", "principal": "k@loner"}])
    make(control, "for-nobody")
    seen = {
        name: [item["name"] for item in control.as_(name).get(ROUTES).json()["items"]]
        for name in ("member", "loner", "viewer", "operator")
    }
    assert seen["member"] == ["for-all", "for-crew", "for-member"]
    assert seen["loner"] == ["for-all", "for-key"]
    assert seen["viewer"] == ["for-all"]
    assert len(seen["operator"]) == 5
    member = control.as_("member")
    route = member.get(f"{ROUTES}/for-all").json()
    assert (route["aliases"], route["spec"]) == (["alias"], None)
    assert "secret sauce" not in str(route)
    assert member.get(f"{ROUTES}/for-nobody").status_code == 404
    for path in ("versions", "versions/1", "diff?before=1&after=1", "grants"):
        assert member.get(f"{ROUTES}/for-all/{path}").status_code == 403
    assert member.post(ROUTES, json={"name": "x", "spec": spec()}).status_code == 403
    assert member.post(f"{ROUTES}/validate", json={"name": "x", "spec": spec()}).status_code == 403
    assert member.patch(f"{ROUTES}/for-all", json={"row_version": 1}).status_code == 403
    assert member.delete(f"{ROUTES}/for-all").status_code == 403


def test_lists_are_paged_and_signs_are_only_signs(control: Running) -> None:
    for name in ("a_b", "axb", "q/w"):
        make(control, name)
    for search, found in (("a_b", ["a_b"]), ("%", []), ("/", ["q/w"]), ("\\", [])):
        listed = control.admin.get(ROUTES, params={"search": search}).json()
        assert [item["name"] for item in listed["items"]] == found, search
    page = control.admin.get(ROUTES, params={"page": 3, "per_page": 1}).json()
    assert ([item["name"] for item in page["items"]], page["total"]) == (["q/w"], 3)
    for params in ({"page": 0}, {"per_page": 201}, {"search": "x" * 201}):
        assert control.admin.get(ROUTES, params=params).status_code == 422
    assert control.admin.post(ROUTES, content=b"{" * 100_000).status_code == 422
    assert control.admin.post(ROUTES, content=b" " * 1_100_000).status_code == 413


def test_the_list_says_how_many_are_granted_and_only_to_those_who_grant(control: Running) -> None:
    everyone, team = {"principal_kind": "everyone"}, {"principal_kind": "team", "principal": "t"}
    assert control.admin.post("/api/v1/teams", json={"name": "t"}).is_success
    make(control, "open", [everyone, team])
    made = make(control, "closed")
    assert made["granted"] == {"everyone": False, "users": 0, "teams": 0, "keys": 0}
    assert change(control, "closed", 1, enabled=False).json()["granted"] == made["granted"]
    listed = control.admin.get(ROUTES, params={"enabled": True}).json()["items"]
    assert [(r["name"], r["granted"]["everyone"], r["granted"]["teams"]) for r in listed] == [("open", True, 1)]
    assert control.as_("member").get(f"{ROUTES}/open").json()["granted"] is None
    assert control.as_("member").get(ROUTES).json()["items"][0]["granted"] is None
