"""Explain: the answer for a key is what the snapshot says, and the reasons are those of the tables."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.control.api.conftest import Running

ROUTES = "/api/v1/routes"


@pytest.fixture
def control(control: Running) -> Running:
    admin = control.admin
    for name in ("e1", "e2", "e3"):
        assert admin.post("/api/v1/endpoints", json={"name": name, "provider": "dummy", "spec": {}}).is_success
    credentials = "/api/v1/endpoints/e1/credentials"
    for name in ("a", "b"):
        assert admin.post(credentials, json={"name": name, "secret": f"sk-upstream-{name}-0123456789"}).is_success
    assert admin.post("/api/v1/teams", json={"name": "support", "limits": {"rpm": 7}}).is_success
    spare: dict[str, Any] = {"target": [{"endpoint": "e3", "model": "s"}]}
    spec = {
        "fallback": "spare", "aliases": ["talk"], "limits": {"concurrency": 3},
        "target": [
            {"endpoint": "e3", "model": "c", "priority": 1}, {"endpoint": "e2", "model": "b", "weight": 2},
            {"endpoint": "e1", "model": "a", "weight": 3},
        ],
    }  # fmt: skip
    assert admin.post(ROUTES, json={"name": "spare", "spec": spare}).is_success
    grants = [{"principal_kind": "team", "principal": "support"}]
    assert admin.post(ROUTES, json={"name": "chat/x", "spec": spec, "grants": grants}).is_success
    return control


def mint(control: Running, name: str, **fields: Any) -> str:
    answer = control.admin.post("/api/v1/keys", json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    public_name: str = answer.json()["public_name"]
    return public_name


def explain(control: Running, key: str, route: str = "chat/x", who: str = "admin") -> Any:
    answer = control.as_(who).get(f"{ROUTES}/{quote(route, safe='')}/explain", params={"key": key})
    assert answer.status_code == 200, answer.text
    return answer.json()


def wrong(control: Running, key: str, expected: set[str], route: str = "chat/x") -> Any:
    """Ask until the snapshot is as fresh as the tables: at most two seconds."""
    end = time.monotonic() + 2
    while True:
        answer = explain(control, key, route)
        found = {check["name"] for check in answer["checks"] if not check["ok"]}
        if found == expected or time.monotonic() > end:
            assert found == expected
            assert answer["allowed"] is (not expected)
            return answer
        time.sleep(0.05)


def test_the_way_is_the_snapshots(control: Running) -> None:
    key = mint(control, "app", team="support", models=["chat/*"], limits={"tpm": 9}, cidrs=["10.0.0.0/8"])
    answer = wrong(control, key, set())
    first, second = answer["way"]
    assert (first["name"], second["name"], second["targets"][0]["endpoint"]) == ("chat/x", "spare", "e3")
    shown = [(t["tier"], t["endpoint"], t["weight"], t["share"], t["credentials"]) for t in first["targets"]]
    assert shown == [(0, "e2", 2, 0.25, 1), (0, "e1", 6, 0.75, 2), (1, "e3", 1, 1.0, 1)]
    limits = {(s["kind"], s["name"]): (s["rpm"], s["tpm"], s["concurrency"]) for s in answer["scopes"]}
    assert limits == {
        ("key", key): (None, 9, None), ("team", "support"): (7, None, None), ("route", "chat/x"): (None, None, 3),
    }  # fmt: skip
    because = {check["name"]: check["because"] for check in answer["checks"]}
    assert (because["granted"], because["listed"]) == (["team:support"], ["chat/*"])
    assert answer["networks"] == ["10.0.0.0/8"]
    head = control.service().get("/internal/v1/snapshot").json()
    assert answer["snapshot"] == head["version"]


def test_each_reason_why_not(control: Running) -> None:
    admin = control.admin
    assert wrong(control, mint(control, "own"), {"granted", "served"})["checks"][4]["because"] == []
    assert wrong(control, mint(control, "list", team="support", models=["gpt"]), {"listed", "served"})
    alias = mint(control, "alias", team="support", models=["talk"])
    wrong(control, alias, set())
    wrong(control, mint(control, "old", team="support", expires_at="2020-01-01T00:00:00Z"), {"not_expired"})
    off = mint(control, "off", team="support")
    assert admin.patch(f"/api/v1/keys/{off}", json={"row_version": 1, "enabled": False}).is_success
    wrong(control, off, {"key_active", "served"})
    assert admin.post("/api/v1/keys/revoke", json={"names": [alias]}).is_success
    wrong(control, alias, {"key_active", "served"})
    assert admin.patch(f"{ROUTES}/chat%2Fx", json={"row_version": 1, "enabled": False}).is_success
    fine = mint(control, "fine", team="support")
    assert wrong(control, fine, {"route_live", "served"})["way"] == []


def test_a_budget_that_is_spent(control: Running) -> None:
    budget = [{"amount": "2.5", "window": "total"}, {"amount": "0", "window": "day"}]
    key = mint(control, "app", team="support", budgets=budget)
    answer = wrong(control, key, {"budget_left"})
    assert answer["checks"][-1]["because"] == [f"key:{key} day"]
    control.sql("UPDATE spend SET nano = 2500000000 WHERE span = 'total'")
    answer = wrong(control, key, {"budget_left"})
    assert answer["checks"][-1]["because"] == [f"key:{key} total", f"key:{key} day"]
    assert answer["scopes"][0]["budgets"][0] == {
        "amount_nano": 2_500_000_000, "spent_nano": 2_500_000_000, "window": "total", "timezone": "UTC",
        "since": None, "resets_at": None,
    }  # fmt: skip


def test_who_may_ask_and_what_is_not_there(control: Running) -> None:
    key = mint(control, "app")
    assert explain(control, key, who="operator")["allowed"] is False
    there = f"{ROUTES}/chat%2Fx/explain"
    assert control.as_("member").get(there, params={"key": key}).status_code == 403
    assert control.admin.get(there, params={"key": "nobody@x"}).status_code == 404
    assert control.admin.get(there).status_code == 422
    assert control.admin.get(f"{ROUTES}/nowhere/explain", params={"key": key}).status_code == 404
