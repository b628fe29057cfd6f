"""What is saved reaches a gateway in a form that it compiles, whatever is disabled or taken away meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.contract.internal import KeyPage, SnapshotHead
from gateway.contract.providers import KINDS
from gateway.contract.seal import unseal
from gateway.contract.snapshot import Snapshot
from gateway.runtime import Runtime
from gateway.snapshot.compile import compile_snapshot
from tests.control.api.conftest import Running
from tests.processes import eventually

SECRETS = ("sk-live-0123456789abcdefghijklmnop", "sk-live-9876543210abcdefghijklmnop")


def runtime_of(control: Running) -> Runtime:
    """As a gateway does it: head, pages, secrets unsealed, compiled."""
    service, head = control.service(), SnapshotHead(version="none")

    def is_current() -> bool:
        nonlocal head
        [(number,)] = control.sql("SELECT value FROM counter WHERE name = 'config'")
        head = SnapshotHead.model_validate_json(service.get("/internal/v1/snapshot").content)
        return head.version == f"c{number}"

    eventually(is_current)
    keys = [
        key
        for digest in head.key_pages
        for key in KeyPage.model_validate_json(service.get(f"/internal/v1/snapshot/keys/{digest}").content).keys
    ]
    endpoints = [
        e.model_copy(update={"api_key": unseal(e.api_key, control.service_token, e.name, e.base_url)})
        if e.api_key
        else e
        for e in head.endpoints
    ]
    return compile_snapshot(
        Snapshot(version=head.version, endpoint=endpoints, route=head.routes, team=head.teams, key=keys)
    )


def endpoint(control: Running, name: str, provider: str = "dummy", **spec: Any) -> None:
    body = {"name": name, "provider": provider, "spec": spec}
    assert control.admin.post("/api/v1/endpoints", json=body).status_code == 201


def route(control: Running, name: str, *targets: dict[str, Any], **more: Any) -> None:
    grants = [{"principal_kind": "everyone"}]
    body = {"name": name, "spec": {"target": list(targets), **more}, "grants": grants}
    answer = control.admin.post("/api/v1/routes", json=body)
    assert answer.status_code == 201, answer.text


def to(name: str, **more: Any) -> dict[str, Any]:
    return {"endpoint": name, "model": "m", **more}


def disable(control: Running, name: str) -> None:
    there = f"/api/v1/endpoints/{name}"
    version = control.admin.get(there).json()["row_version"]
    assert control.admin.patch(there, json={"row_version": version, "enabled": False}).status_code == 200


def test_every_kind_of_provider_and_every_sort_of_name(control: Running) -> None:
    for kind, what in KINDS.items():
        url = {"base_url": what.base_url or "http://engine.example/v1"} if what.needs_base_url else {}
        endpoint(control, kind, kind, headers={"x-region": "eu"}, forward_headers=["x-trace"], **url)
    everywhere = [to(kind) for kind in KINDS]
    route(control, "chat", *everywhere, aliases=["gpt-4o"], strategy="least_busy", price={"input": "0.15"})
    route(control, "openai/*", to("openai", model=""), limits={"rpm": 9}, timeouts={"total": 5})
    route(control, "模型", to("dummy", priority=1, price={"output": 3}), fallback="chat", system_prompt="短")
    runtime = runtime_of(control)
    assert set(runtime.endpoints) == set(KINDS)
    assert set(runtime.routes) == {"chat", "gpt-4o", "模型"}
    assert [wildcard.name for wildcard in runtime.wildcards] == ["openai/*"]


def test_targets_are_spread_over_the_credentials_and_each_arrives_whole(control: Running) -> None:
    endpoint(control, "main", "openai", base_url="https://api.example.com/v1")
    for number, secret in enumerate(SECRETS):
        body = {"name": f"c{number}", "secret": secret}
        assert control.admin.post("/api/v1/endpoints/main/credentials", json=body).status_code == 201
    route(control, "chat", to("main"))
    runtime = runtime_of(control)
    held = sorted(
        one.heads["chat"].partition(b"Bearer ")[2].split(b"\r\n")[0].decode() for one in runtime.endpoints.values()
    )
    assert held == sorted(SECRETS)
    assert len(runtime.routes["chat"].tiers[0]) == 2
    assert control.admin.patch("/api/v1/endpoints/main/credentials/c0", json={"enabled": False}).is_success
    assert len(runtime_of(control).routes["chat"].tiers[0]) == 1


def test_a_fallback_whose_endpoints_are_disabled_is_skipped(control: Running) -> None:
    for name in ("e1", "e2", "e3"):
        endpoint(control, name)
    route(control, "c", to("e3"))
    route(control, "b", to("e2"), fallback="c")
    route(control, "a", to("e1"), fallback="b")
    assert runtime_of(control).routes["a"].fallback == "b"
    disable(control, "e2")
    runtime = runtime_of(control)
    assert set(runtime.routes) == {"a", "c"}
    assert runtime.routes["a"].fallback == "c"
    disable(control, "e3")
    assert runtime_of(control).routes["a"].fallback is None


def test_a_cache_goes_on_without_meaning_while_its_embeddings_are_disabled(control: Running) -> None:
    for name in ("e1", "e2"):
        endpoint(control, name)
    route(control, "vectors", to("e2"))
    route(control, "a", to("e1"), cache={"ttl": 60, "billing": 0.5, "semantic": {"route": "vectors"}})
    watched = runtime_of(control).routes["a"].watched
    assert watched is not None
    assert watched.cache is not None
    assert watched.cache.spec.semantic is not None
    before = watched.cache.version
    disable(control, "e2")
    watched = runtime_of(control).routes["a"].watched
    assert watched is not None
    assert watched.cache is not None
    assert (watched.cache.spec.semantic, watched.cache.spec.billing) == (None, 0.5)
    assert watched.cache.version != before


def test_a_route_whose_last_weight_is_disabled_is_left_out_alone(control: Running) -> None:
    endpoint(control, "e1")
    endpoint(control, "e2")
    route(control, "a", to("e1"), to("e2", weight=0))
    route(control, "b", to("e2"))
    disable(control, "e1")
    assert set(runtime_of(control).routes) == {"b"}


def test_a_key_may_use_what_its_owner_sees(control: Running) -> None:
    admin = control.admin
    endpoint(control, "e1")
    admin.post("/api/v1/teams", json={"name": "crew"})
    admin.put("/api/v1/teams/crew/members", json={"username": "member"})
    admin.post("/api/v1/keys", json={"name": "k", "user": "member"})
    admin.post("/api/v1/keys", json={"name": "t", "team": "crew"})
    for kind, principal in [
        ("everyone", ""),
        ("user", "member"),
        ("team", "crew"),
        ("key", "k@member"),
        ("user", "viewer"),
    ]:
        body = {
            "name": f"for-{kind}-{principal or 'all'}".replace("@", "-"),
            "spec": {"target": [to("e1")]},
            "grants": [{"principal_kind": kind, "principal": principal}],
        }
        assert admin.post("/api/v1/routes", json=body).status_code == 201
    seen = {item["name"] for item in control.as_("member").get("/api/v1/routes").json()["items"]}
    records = {record.name: record for record in runtime_of(control).keys.values()}
    assert seen == {"for-everyone-all", "for-user-member", "for-team-crew", "for-key-k-member"}
    assert set(records["k@member"].models) == seen
    assert set(records["t@crew"].models) == {"for-everyone-all", "for-team-crew"}


@pytest.mark.parametrize("change", ["disable", "delete"])
def test_what_is_disabled_or_deleted_is_gone(control: Running, change: str) -> None:
    endpoint(control, "e1")
    route(control, "a", to("e1"))
    assert "a" in runtime_of(control).routes
    if change == "disable":
        control.admin.patch("/api/v1/routes/a", json={"row_version": 1, "enabled": False})
    else:
        control.admin.delete("/api/v1/routes/a")
    assert runtime_of(control).routes == {}
