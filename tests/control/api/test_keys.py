"""API keys: shown once, owned, edited, rotated, revoked; and what gateways get of it."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.contract.internal import KeyPage, SnapshotHead
from tests.control.api.conftest import Running
from tests.control.test_ledger import event
from tests.fakes.gateway import eventually


def create(control: Running, name: str = "k", who: str = "admin", **fields: Any) -> dict[str, Any]:
    answer = control.as_(who).post("/api/v1/keys", json={"name": name} | fields)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def published(control: Running) -> dict[str, Any]:
    """What a gateway would hold now: keys by digest."""
    client = control.service()
    head = SnapshotHead.model_validate_json(client.get("/internal/v1/snapshot").content)
    keys = {}
    for digest in head.key_pages:
        page = client.get(f"/internal/v1/snapshot/keys/{digest}")
        if page.status_code == 404:  # changed meanwhile
            return published(control)
        assert hashlib.sha256(page.content).hexdigest() == digest
        keys.update({key.sha256: key for key in KeyPage.model_validate_json(page.content).keys})
    return keys


def test_a_key_is_shown_once_and_kept_as_a_digest(control: Running) -> None:
    key = create(control, limits={"rpm": 5}, budgets=[{"amount": "2.5", "window": "day", "timezone": "Asia/Shanghai"}])
    secret = key.pop("secret")
    assert secret.startswith("sk-tg-")
    assert len(secret) >= 40
    assert key["public_name"] == "k@admin"
    assert secret.startswith(key["prefix"])
    assert control.admin.get("/api/v1/keys/k@admin").json() == key
    assert secret not in control.everything()
    wire = eventually(lambda: published(control).get(hashlib.sha256(secret.encode()).hexdigest()))
    assert (wire.name, wire.limits.rpm, str(wire.budgets[0].amount)) == ("k@admin", 5, "2.5")


def test_a_name_is_never_used_again(control: Running) -> None:
    create(control)
    assert control.admin.delete("/api/v1/keys/k@admin").json() == {"revoked": 1}
    again = control.admin.post("/api/v1/keys", json={"name": "k"})
    assert (again.status_code, again.json()["code"]) == (409, "duplicate_name")
    assert control.admin.delete("/api/v1/keys/k@admin").json() == {"revoked": 0}
    changed = control.admin.patch("/api/v1/keys/k@admin", json={"row_version": 2, "note": "x"})
    assert (changed.status_code, changed.json()["code"]) == (409, "revoked")


def test_two_edits_of_one_version_do_not_both_win(control: Running) -> None:
    create(control)
    admin, answers = control.admin, []

    def edit(note: str) -> None:
        answers.append(admin.patch("/api/v1/keys/k@admin", json={"row_version": 1, "note": note}))

    threads = [threading.Thread(target=edit, args=(str(n),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    winner = next(answer for answer in answers if answer.status_code == 200).json()
    assert control.admin.get("/api/v1/keys/k@admin").json()["note"] == winner["note"]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"stale_version"}


def test_a_rotated_key_works_under_both_secrets_for_the_grace_period(control: Running) -> None:
    old = create(control)["secret"]
    new = control.admin.post("/api/v1/keys/k@admin/rotate", json={"grace_seconds": 60}).json()["secret"]
    digests = [hashlib.sha256(secret.encode()).hexdigest() for secret in (new, old)]
    eventually(lambda: set(digests) <= published(control).keys())
    keys = published(control)
    fresh, former = (keys[digest] for digest in digests)
    assert fresh.name == former.name == "k@admin"
    assert fresh.expires_at is None
    assert timedelta(seconds=50) < former.expires_at - datetime.now(UTC) <= timedelta(seconds=60)


def test_people_see_and_change_their_own_keys_and_those_of_teams_they_manage(control: Running) -> None:
    admin, member = control.admin, control.as_("member")
    assert admin.post("/api/v1/teams", json={"name": "lab"}).status_code == 201
    create(control, "theirs", team="lab")
    create(control, "foreign")
    create(control, "mine", who="member")
    assert [key["public_name"] for key in member.get("/api/v1/keys").json()["items"]] == ["mine@member"]
    assert member.get("/api/v1/keys/foreign@admin").status_code == 404
    assert member.delete("/api/v1/keys/foreign@admin").status_code == 404
    assert member.post("/api/v1/keys", json={"name": "x", "team": "lab"}).status_code == 403
    assert member.post("/api/v1/keys", json={"name": "x", "user": "admin"}).status_code == 403
    assert admin.put("/api/v1/teams/lab/members", json={"username": "member"}).status_code == 204
    assert member.get("/api/v1/keys/theirs@lab").status_code == 200
    assert member.delete("/api/v1/keys/theirs@lab").status_code == 403
    assert admin.put("/api/v1/teams/lab/members", json={"username": "member", "manager": True}).status_code == 204
    assert member.delete("/api/v1/keys/theirs@lab").json() == {"revoked": 1}
    assert control.as_("viewer").post("/api/v1/keys", json={"name": "x"}).status_code == 403


def test_a_bulk_revocation_is_all_or_nothing(control: Running) -> None:
    create(control, "a")
    create(control, "b")
    refused = control.admin.post("/api/v1/keys/revoke", json={"names": ["a@admin", "nope@admin", "b@admin"]})
    assert refused.status_code == 404
    assert control.admin.get("/api/v1/keys?state=revoked").json()["total"] == 0
    assert control.admin.post("/api/v1/keys/revoke", json={"names": ["a@admin", "b@admin"]}).json() == {"revoked": 2}


def test_keys_of_a_disabled_person_or_team_are_published_no_more(control: Running) -> None:
    secret = create(control, "mine", who="member")["secret"]
    digest = hashlib.sha256(secret.encode()).hexdigest()
    eventually(lambda: digest in published(control))
    version = control.admin.get("/api/v1/users/member").json()["row_version"]
    control.admin.patch("/api/v1/users/member", json={"row_version": version, "enabled": False})
    eventually(lambda: digest not in published(control))


def test_search_takes_wildcards_for_what_they_are(control: Running) -> None:
    create(control, "plain")
    create(control, "under_score")
    names = lambda search: [  # noqa: E731
        key["name"] for key in control.admin.get("/api/v1/keys", params={"search": search}).json()["items"]
    ]
    assert names("r_s") == ["under_score"]
    assert names("p_ain") == names("pl%n") == []
    assert names("LAIN") == ["plain"]


@pytest.mark.parametrize(
    "body",
    [
        {}, [], "x", None, {"name": ""}, {"name": "a@b"}, {"name": "a" * 65}, {"name": "a", "unknown": 1},
        {"name": 1}, {"name": "a", "limits": {"rpm": 0}}, {"name": "a", "limits": {"rpm": "x"}},
        {"name": "a", "limits": {"speed": 1}}, {"name": "a", "budgets": [{"amount": -1}]},
        {"name": "a", "budgets": [{"amount": 1, "timezone": "Mars/Olympus"}]},
        {"name": "a", "budgets": [{"amount": 1, "window": "day"}] * 9}, {"name": "a", "cidrs": ["300.1.1.1/8"]},
        {"name": "a", "expires_at": "2027-01-01T00:00:00"}, {"name": "a", "expires_at": "soon"},
        {"name": "a", "models": ["m"] * 201}, {"name": "a", "models": [""]}, {"name": "a", "note": "n" * 1001},
        {"name": "a", "team": "lab", "user": "admin"}, {"name": "a", "team": "no-such-team"}, {"name": "\x00"},
    ],
)  # fmt: skip
def test_a_bad_body_is_a_422_that_says_where(control: Running, body: Any) -> None:
    answer = control.admin.post("/api/v1/keys", json=body)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["errors"] or problem["code"] != "invalid"
    assert control.admin.get("/api/v1/keys").json()["total"] == 0


def test_what_is_no_json_or_too_large_is_refused_before_it_is_read(control: Running) -> None:
    admin, headers = control.admin, {"content-type": "application/json"}
    assert admin.post("/api/v1/keys", content=b"{nope", headers=headers).status_code == 422
    assert admin.post("/api/v1/keys", content=b"[" * 100_000, headers=headers).status_code in (400, 422)
    huge = json.dumps({"name": "a", "note": "n" * 1_100_000}).encode()
    assert admin.post("/api/v1/keys", content=huge, headers=headers).status_code == 413
    pieces = (huge[start : start + 65_536] for start in range(0, len(huge), 65_536))
    assert admin.post("/api/v1/keys", content=pieces, headers=headers).status_code == 413, "without a length"


@pytest.mark.parametrize("query", ["page=0", "per_page=0", "per_page=201", "page=x", "page=99999999999999999999"])
def test_pages_are_capped(control: Running, query: str) -> None:
    assert control.admin.get(f"/api/v1/keys?{query}").status_code == 422


def test_keys_that_expire_soon_are_found(control: Running) -> None:
    moments = {"past": -1, "soon": 3, "later": 30}
    for name, days in moments.items():
        expires = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        assert control.admin.post("/api/v1/keys", json={"name": name, "expires_at": expires}).status_code == 201
    assert control.admin.post("/api/v1/keys", json={"name": "never"}).status_code == 201
    week = (datetime.now(UTC) + timedelta(days=7)).isoformat()
    found = control.admin.get("/api/v1/keys", params={"expires_before": week}).json()["items"]
    assert [key["name"] for key in found] == ["soon"]
    assert control.admin.get("/api/v1/keys", params={"expires_before": "soon"}).status_code == 422


def test_a_key_and_a_team_say_what_their_budgets_have_been_spent(control: Running) -> None:
    budget = {"amount": "0.00001", "window": "month"}
    control.admin.post("/api/v1/teams", json={"name": "lab", "budgets": [budget]})
    made = control.admin.post("/api/v1/keys", json={"name": "bot", "team": "lab", "budgets": [budget]}).json()
    assert [one["spent_nano"] for one in made["spending"]] == [0]
    usage = {"gateway": "g1", "events": [event(key="bot@lab", team="lab", cost_nano=9_500)]}
    assert control.service().post("/internal/v1/usage", json=usage).status_code == 200
    for path in ("keys/bot@lab", "teams/lab"):
        (spending,) = control.admin.get(f"/api/v1/{path}").json()["spending"]
        assert (spending["amount_nano"], spending["spent_nano"], spending["window"]) == (10_000, 9_500, "month")
    (listed,) = control.admin.get("/api/v1/keys").json()["items"]
    assert listed["spending"] == [spending]
    items = control.admin.get("/api/v1/usage/budgets").json()["items"]
    assert {(one["kind"], one["name"]) for one in items} == {("key", "bot@lab"), ("team", "lab")}
    assert control.as_("member").get("/api/v1/usage/budgets").json()["items"] == []
