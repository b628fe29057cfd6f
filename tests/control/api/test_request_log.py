"""Requests, their copies and bodies through the API: who may read them, what is noted, what is refused."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from control.kit.permissions import ROLES, Role
from tests.control.api.conftest import Running
from tests.control.api.test_gateway import mint
from tests.control.api.test_rendered import runtime_of
from tests.control.api.test_usage import report, send
from tests.control.test_bodies import entry
from tests.control.test_ledger import event
from tests.fakes import scripts
from tests.fakes.gateway import Gateway, eventually, new_id
from tests.fakes.upstream import Upstream

REQUESTS = "/api/v1/usage/requests"


def keep(control: Running, *entries: dict[str, Any]) -> dict[str, int]:
    answer = control.service().post("/internal/v1/request-log", json={"gateway": "g1", "entries": entries})
    assert answer.status_code == 200, answer.text
    body: dict[str, int] = answer.json()
    return body


def audit(control: Running, action: str) -> list[tuple[str, str]]:
    query = {"resource_kind": "request_body", "per_page": 200}
    items = control.admin.get("/api/v1/audit", params=query).json()["items"]
    return [(item["actor"], item["resource"]) for item in items if item["action"] == action]


def filled(control: Running) -> tuple[str, str, str]:
    """(a request with bodies, its copy with bodies, a request without)."""
    one, copy, bare = (str(uuid.uuid4()) for _ in range(3))
    send(
        control, event(id=one, request_id="r-1"), event(id=copy, request_id="r-1", shadow_of=one, endpoint="other"),
        event(id=bare, request_id="r-1"),
    )  # fmt: skip
    assert keep(control, entry(id=one), entry(id=copy, request=None, response="theirs")) == {
        "stored": 2,
        "duplicates": 0,
    }
    return one, copy, bare


def test_a_request_shows_its_copy_and_not_its_bodies(control: Running) -> None:
    one, copy, bare = filled(control)
    answer = control.admin.get(f"{REQUESTS}/{one}")
    detail = answer.json()
    assert (detail["row"]["id"], detail["bodies"], detail["row"]["shadow_of"]) == (one, "kept", None)
    (shadow,) = detail["shadows"]
    assert (shadow["row"]["id"], shadow["row"]["shadow_of"], shadow["bodies"]) == (copy, one, "kept")
    assert "question" not in answer.text
    assert control.admin.get(f"{REQUESTS}/{bare}").json()["bodies"] == "none"
    assert control.admin.get(f"{REQUESTS}/{uuid.uuid4()}").status_code == 404


def test_lists_and_reports_leave_copies_out(control: Running) -> None:
    one, copy, bare = filled(control)
    listed = control.admin.get(REQUESTS).json()["items"]
    assert {row["id"] for row in listed} == {one, bare}
    (row,) = control.admin.get(REQUESTS, params={"shadow": True}).json()["items"]
    assert (row["id"], row["shadow_of"]) == (copy, one)
    assert sum(line["requests"] for line in report(control)) == 2
    (line,) = control.admin.get("/api/v1/usage/shadows").json()["lines"]
    assert (line["route"], line["endpoint"], line["requests"], line["cost_nano"]) == ("gpt", "other", 1, 1_234_567)
    assert control.as_("member").get("/api/v1/usage/shadows").status_code == 403


def test_requests_are_found_by_status_and_by_each_end(control: Running) -> None:
    send(
        control, event(request_id="ok"), event(request_id="half", end="client_gone_partial"),
        event(request_id="bad", end="upstream_error", status=502),
    )  # fmt: skip

    def found(**query: Any) -> set[str]:
        return {row["request_id"] for row in control.admin.get(REQUESTS, params=query).json()["items"]}

    assert found(end="success") == {"ok"}
    assert found(end="failed") == {"half", "bad"}
    assert found(end="client_gone_partial") == {"half"}
    assert found(status=502) == {"bad"}
    assert found(status=502, end="success") == set()
    assert control.admin.get(REQUESTS, params={"end": "sideways"}).status_code == 422


def test_who_reads_bodies_is_in_the_audit_log(control: Running) -> None:
    one, copy, bare = filled(control)
    answer = control.admin.post(f"{REQUESTS}/{one}/reveal")
    first, second = answer.json()["items"]
    assert (first["id"], first["request"], first["response"]) == (one, entry()["request"], entry()["response"])
    assert (first["redacted"], first["response_cut"]) == ({"email": 2}, True)
    assert (second["id"], second["request"], second["response"]) == (copy, None, "theirs")
    assert audit(control, "reveal") == [("admin", copy), ("admin", one)]
    control.admin.post(f"{REQUESTS}/{one}/reveal")
    assert len(audit(control, "reveal")) == 4, "every look"
    assert "question" not in control.admin.get("/api/v1/audit", params={"per_page": 200}).text
    nothing = control.admin.post(f"{REQUESTS}/{bare}/reveal")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "no_bodies")
    assert len(audit(control, "reveal")) == 4


@pytest.mark.parametrize("role", [role for role in get_args(Role) if "requests:bodies" not in ROLES[role]])
def test_nobody_else_reads_or_erases_bodies(control: Running, role: Role) -> None:
    one, *_ = filled(control)
    assert control.as_(role).post(f"{REQUESTS}/{one}/reveal").status_code == 403
    assert control.as_(role).delete(f"{REQUESTS}/{one}/bodies").status_code == 403
    sees_all = "usage:read" in ROLES[role]
    assert control.as_(role).get(f"{REQUESTS}/{one}").status_code == (200 if sees_all else 404)


def test_erased_bodies_are_gone_from_everywhere(control: Running) -> None:
    one, copy, _ = filled(control)
    for _ in range(2):
        assert control.admin.delete(f"{REQUESTS}/{one}/bodies").status_code == 204
    assert control.admin.post(f"{REQUESTS}/{one}/reveal").status_code == 404
    detail = control.admin.get(f"{REQUESTS}/{one}").json()
    assert (detail["bodies"], detail["shadows"][0]["bodies"]) == ("erased", "erased")
    assert control.sql("SELECT DISTINCT sealed, wrapped_key FROM request_body") == [("", "")]
    assert keep(control, entry(id=one)) == {"stored": 0, "duplicates": 1}
    assert {resource for _, resource in audit(control, "erase")} == {one, copy}
    assert control.admin.get(REQUESTS).json()["items"], "the ledger keeps its rows"
    assert control.admin.delete(f"{REQUESTS}/{uuid.uuid4()}/bodies").status_code == 404


def test_a_database_dump_holds_no_body(control: Running) -> None:
    filled(control)
    assert "the question" not in control.everything()


@pytest.mark.parametrize(
    "bad",
    [
        {"id": "x"}, {"ts": -1}, {"ts": "now"}, {"keep_days": 0}, {"keep_days": 10_000}, {"request": 1}, {"more": 1},
        {"redacted": {"email": 0}}, {"redacted": {"e" * 21: 1}}, {"request_cut": "perhaps"},
    ],
)  # fmt: skip
def test_an_entry_that_is_none_is_refused(control: Running, bad: dict[str, Any]) -> None:
    body = {"gateway": "g", "entries": [entry(**bad)]}
    assert control.service().post("/internal/v1/request-log", json=body).status_code == 422
    assert control.sql("SELECT count(*) FROM request_body") == [(0,)]


def test_the_longest_batch_fits_and_a_longer_one_does_not(control: Running) -> None:
    text = "\x01" * 1_000_000
    assert keep(control, entry(request=text, response=text), entry(request=text))["stored"] == 2
    body = {"gateway": "g", "entries": [entry(request="x" * 11_000_000, response="x" * 11_000_000) for _ in range(2)]}
    assert control.service().post("/internal/v1/request-log", json=body).status_code == 413


# ---- routes


def made(control: Running, **more: Any) -> Any:
    for name in ("up", "other"):
        body = {"name": name, "provider": "dummy", "spec": {}}
        assert control.admin.post("/api/v1/endpoints", json=body).status_code == 201
    spec = {"target": [{"endpoint": "up", "model": "m"}], **more}
    return control.admin.post("/api/v1/routes", json={"name": "gpt", "spec": spec})


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ({"shadow": {"endpoint": "nowhere", "model": "m"}}, "body.spec.shadow.endpoint"),
        ({"shadow": {"endpoint": "other"}}, "body.spec.shadow.model"),
        ({"shadow": {"endpoint": "other", "model": "m", "share": 1.5}}, "body.spec.shadow.share"),
        ({"shadow": {"endpoint": "other", "model": "m", "concurrency": 0}}, "body.spec.shadow.concurrency"),
        ({"log": {"bodies": "everything"}}, "body.spec.log.bodies"),
        ({"log": {"redact_patterns": ["(a+)+$"]}}, "body.spec.log.redact_patterns.0"),
        ({"log": {"redact_patterns": ["("]}}, "body.spec.log.redact_patterns.0"),
        ({"log": {"redact": ["names"]}}, "body.spec.log.redact.0"),
        ({"log": {"keep_days": 0}}, "body.spec.log.keep_days"),
        ({"log": {"max_bytes": 2_000_000}}, "body.spec.log.max_bytes"),
    ],
)
def test_a_wrong_log_or_shadow_is_refused_where_it_is_wrong(control: Running, more: dict[str, Any], at: str) -> None:
    answer = made(control, **more)
    assert answer.status_code == 422
    assert [error["at"] for error in answer.json()["errors"]] == [at]


def test_a_shadow_holds_its_endpoint_and_is_left_out_while_that_is_disabled(control: Running) -> None:
    assert made(control, shadow={"endpoint": "other", "model": "m"}).status_code == 201
    answer = control.admin.delete("/api/v1/endpoints/other")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    watched = runtime_of(control).routes["gpt"].watched
    assert watched is not None
    assert watched.shadow is not None
    off = {"row_version": 1, "enabled": False}
    assert control.admin.patch("/api/v1/endpoints/other", json=off).status_code == 200
    assert runtime_of(control).routes["gpt"].watched is None


# ---- with a real gateway


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def gateway(control: Running, upstream: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    for name in ("up", "other"):
        body = {"name": name, "provider": "openai", "spec": {"base_url": upstream.url}}
        assert control.admin.post("/api/v1/endpoints", json=body).status_code == 201
    price = {"input": "1000", "output": "1000"}
    spec = {
        "target": [{"endpoint": "up", "model": "one"}], "price": price,
        "shadow": {"endpoint": "other", "model": "two", "share": 1.0}, "log": {"bodies": "both"},
    }  # fmt: skip
    grants = [{"principal_kind": "everyone"}]
    answer = control.admin.post("/api/v1/routes", json={"name": "gpt", "spec": spec, "grants": grants})
    assert answer.status_code == 201, answer.text
    table = {"url": control.url, "token": "env:GATEWAY_TOKEN"}
    with Gateway({"control": table}, tmp_path, env={"GATEWAY_TOKEN": control.service_token}) as running:
        yield running
    mint(control, "last")  # a change lets the gateway's long poll go, which the test's server would wait for


def test_both_answers_of_a_shadowed_request_can_be_compared(
    control: Running, gateway: Gateway, upstream: Upstream
) -> None:
    upstream.on("one", scripts.chat(["mail ", "al", "ice@example", ".com"]))
    upstream.on("two", scripts.chat(["call ", "138", "12345678"]))
    key = mint(control, "app", budgets=[{"amount": "0.05", "window": "total"}])
    eventually(lambda: gateway.call("GET", "/v1/models", secret=key["secret"]).status == 200, 10)
    rid = new_id()
    reply = gateway.chat("gpt", secret=key["secret"], rid=rid, stream=True, user="13912345678")
    assert reply.words == "mail alice@example.com"

    def rows() -> list[tuple[Any, ...]]:
        return control.sql("SELECT id FROM usage_event WHERE request_id = ? AND shadow_of IS NULL", rid)

    [(identity,)] = eventually(rows, 5)
    eventually(lambda: control.sql("SELECT count(*) FROM request_body") == [(2,)], 5)
    eventually(
        lambda: control.admin.get(f"{REQUESTS}/{identity}").json()["shadows"], 5
    )  # bodies may come before the row
    detail = control.admin.get(f"{REQUESTS}/{identity}").json()
    (shadow,) = detail["shadows"]
    assert (detail["row"]["endpoint"], shadow["row"]["endpoint"]) == ("up", "other")
    assert detail["row"]["cost_nano"] == shadow["row"]["cost_nano"] == 30_000_000
    ours, theirs = control.admin.post(f"{REQUESTS}/{identity}/reveal").json()["items"]
    assert json.loads(ours["request"])["user"] == "[phone]"
    assert json.loads(ours["response"])["choices"][0]["delta"]["content"] == "mail [email]"
    assert json.loads(theirs["response"])["choices"][0]["delta"]["content"] == "call [phone]"
    assert control.sql("SELECT nano FROM spend") == [(30_000_000,)], "the copy is nobody's"
    time.sleep(1.2)  # the gateway has asked for the spend
    assert gateway.chat("gpt", secret=key["secret"]).status == 200
    everything = control.everything()
    assert not [word for word in ("alice@", "1381234", "1391234") if word in everything]
