"""A real gateway behind the real control plane: a key of the API works, is counted, and ends when it is ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.db import Database
from control.models import Credential, Endpoint, Grant, Route
from control.models.base import new_id, now
from control.security import open_vault
from tests.control.api.conftest import Running
from tests.fakes import scripts
from tests.fakes.gateway import Gateway, eventually, new_id as request_id
from tests.fakes.upstream import Upstream

SECRET = "sk-upstream-0123456789abcdef"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def fill(control: Running, url: str) -> None:
    """An endpoint with a credential, and a route that everybody may use."""

    async def run() -> None:
        db, vault, identity = Database(control.settings.database_url), open_vault(control.settings), new_id()
        sealed = vault.seal(SECRET, identity)
        endpoint = Endpoint(id=new_id(), name="up", provider="openai", spec={"base_url": url})
        spec = {"target": [{"endpoint": "up", "model": "one"}], "price": {"input": "1000", "output": "1000"}}
        async with db.write() as session:
            session.add(endpoint)
            await session.flush()
            session.add_all(
                [
                    Credential(
                        id=identity, endpoint_id=endpoint.id, name="first", sealed=sealed.sealed,
                        wrapped_key=sealed.wrapped_key, kek_id=sealed.kek_id, masked="sk-…", created_at=now(),
                        created_by="test",
                    ),
                    Route(name="gpt", version=1, spec=spec),
                    Grant(resource_kind="route", resource="gpt", principal_kind="everyone"),
                ]
            )  # fmt: skip
        await db.close()

    asyncio.run(run())


def mint(control: Running, name: str, **fields: Any) -> dict[str, Any]:
    answer = control.admin.post("/api/v1/keys", json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


@pytest.fixture
def gateway(control: Running, upstream: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    fill(control, upstream.url)
    table = {"url": control.url, "token": "env:GATEWAY_TOKEN"}
    with Gateway({"control": table}, tmp_path, env={"GATEWAY_TOKEN": control.service_token}) as running:
        yield running
    mint(control, "last")  # a change lets the gateway's long poll go, which the test's server would wait for


def test_a_key_lives_and_dies_and_what_it_used_is_in_the_ledger(
    control: Running, gateway: Gateway, upstream: Upstream
) -> None:
    key = mint(control, "app")
    eventually(lambda: gateway.chat("gpt", secret=key["secret"]).status == 200, 2)
    assert upstream.requests[-1].header("authorization") == f"Bearer {SECRET}"
    rid = request_id()
    assert gateway.chat("gpt", secret=key["secret"], rid=rid).status == 200
    rows = 'SELECT "key", cost_nano FROM usage_event WHERE request_id = ?'
    (row,) = eventually(lambda: control.sql(rows, rid), 10)
    assert row[0] == key["public_name"]
    assert row[1] > 0
    assert control.admin.delete(f"/api/v1/keys/{key['public_name']}").status_code == 200
    begin = time.monotonic()
    eventually(lambda: gateway.chat("gpt", secret=key["secret"]).status == 401, 10)
    assert time.monotonic() - begin < 1.0


def test_a_rotated_key_works_under_both_secrets_in_its_grace(control: Running, gateway: Gateway) -> None:
    key, other = mint(control, "app"), mint(control, "other")
    eventually(lambda: gateway.chat("gpt", secret=key["secret"]).status == 200, 2)
    answer = control.admin.post(f"/api/v1/keys/{key['public_name']}/rotate", json={"grace_seconds": 60})
    eventually(lambda: gateway.chat("gpt", secret=answer.json()["secret"]).status == 200, 2)
    assert gateway.chat("gpt", secret=key["secret"]).status == 200
    assert gateway.chat("gpt", secret=other["secret"]).status == 200
    assert not gateway.events("snapshot.refused")


def test_a_budget_is_spent_for_a_gateway_that_begins_afresh_and_a_raised_one_is_not(
    control: Running, gateway: Gateway
) -> None:
    key = mint(control, "app", budgets=[{"amount": "0.01", "window": "month"}])
    eventually(lambda: gateway.chat("gpt", secret=key["secret"]).status == 200, 2)
    eventually(lambda: gateway.chat("gpt", secret=key["secret"]).status == 429, 5)
    gateway.kill9()
    gateway.start()
    assert gateway.chat("gpt", secret=key["secret"]).status == 429, "the ledger is asked before the first request"
    body = {"row_version": key["row_version"], "budgets": [{"amount": "1000", "window": "month"}]}
    assert control.admin.patch(f"/api/v1/keys/{key['public_name']}", json=body).status_code == 200
    eventually(lambda: gateway.chat("gpt", secret=key["secret"]).status == 200, 2)


def test_control_knows_how_gateways_and_their_targets_do(
    control: Running, gateway: Gateway, upstream: Upstream
) -> None:
    admin = control.admin
    key = mint(control, "app")["secret"]
    eventually(lambda: gateway.chat("gpt", secret=key).status == 200, 2)

    def health() -> Any:
        return admin.get("/api/v1/health/targets").json()

    eventually(lambda: health()["items"], 8, "no report of a target")
    assert health()["gateways"] == 1
    (target,) = health()["items"]
    assert (target["id"], target["closed"], target["open"], target["in_flight"]) == ("up/one", 1, 0, 0)
    assert target["first_content_ms"] > 0
    (one,) = admin.get("/api/v1/gateways").json()["items"]
    assert one["live"]
    assert one["gateway"].endswith("/w0")
    assert (one["snapshots_behind"], one["age_seconds"] < 15) == (0, True)


def test_why_a_target_got_no_requests_is_told_afterwards(
    control: Running, gateway: Gateway, upstream: Upstream
) -> None:
    key = mint(control, "app")["secret"]
    eventually(lambda: gateway.chat("gpt", secret=key).status == 200, 2)
    upstream.on("one", lambda _: scripts.error(500))
    for _ in range(5):
        gateway.chat("gpt", secret=key)

    def spans() -> Any:
        return control.admin.get("/api/v1/endpoints/up/history").json()["items"]

    eventually(spans, 8, "the open breaker was not told")
    (one,) = spans()
    assert one["gateway"].endswith("/w0")
    assert (one["target"], one["state"], one["error"]) == ("up/one", "open", "provider_5xx")
    assert one["ended_at"] is None
    assert control.admin.get("/api/v1/endpoints/none/history").status_code == 404
    answer = control.admin.get("/api/v1/endpoints/up/history", params={"since": "2027-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["code"]) == (422, "empty_time")
    later = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
    assert control.admin.get("/api/v1/endpoints/up/history", params=later).json()["items"] == []


def test_a_report_that_is_no_report_is_refused(control: Running) -> None:
    good = {"gateway": "g", "version": "1", "snapshot": None, "started": 0, "targets": []}
    service = control.service()
    assert service.post("/internal/v1/status", json=good).status_code == 204
    for wrong in ({"targets": [{}]}, {"started": -1}, {"started": 1e18}, {"gateway": ""}, {"more": 1}):
        assert service.post("/internal/v1/status", json=good | wrong).status_code == 422, wrong
    assert control.anonymous().post("/internal/v1/status", json=good).status_code == 401
    (only,) = control.admin.get("/api/v1/gateways").json()["items"]
    assert (only["gateway"], only["live"], only["snapshots_behind"]) == ("g", True, None)
    control.sql("UPDATE gateway_status SET reported_at = '2026-01-01 00:00:00.000000', snapshot = 'c0'")
    (gone,) = control.admin.get("/api/v1/gateways").json()["items"]
    assert (gone["live"], gone["age_seconds"] > 60) == (False, True)
    assert gone["snapshots_behind"] == control.sql("SELECT value FROM counter WHERE name = 'config'")[0][0]
    assert control.admin.get("/api/v1/health/targets").json() == {"gateways": 0, "items": []}
