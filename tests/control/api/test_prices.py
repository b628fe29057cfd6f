"""The price book through the API: its history, what it refuses, what it lacks, and what reaches the gateways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.control.api.conftest import Running
from tests.control.api.test_rendered import endpoint, route, runtime_of, to

NANO_PER_UNIT = 10**9


def add(control: Running, status: int = 201, **more: Any) -> dict[str, Any]:
    body = {"endpoint": "up", "model": "m", "price": {"input": "1", "output": "2"}} | more
    answer = control.as_("operator").post("/api/v1/prices", json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def later(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def input_price(control: Running, name: str = "r") -> list[int]:
    return [target.prices.input for tier in runtime_of(control).routes[name].tiers for target in tier]


def test_targets_without_a_price_get_the_books(control: Running) -> None:
    endpoint(control, "up")
    endpoint(control, "dear")
    route(control, "r", to("up", model="m"), to("dear", model="m"), to("up", model="own", price={"input": "9"}))
    route(control, "dear", to("up", model="m"), price={"input": "7"})
    assert input_price(control) == [0, 0, 9 * NANO_PER_UNIT]
    add(control, endpoint=None, provider="dummy", price={"input": "2"})
    add(control, endpoint="dear", price={"input": "3"})
    assert input_price(control) == [2 * NANO_PER_UNIT, 3 * NANO_PER_UNIT, 9 * NANO_PER_UNIT]
    assert input_price(control, "dear") == [7 * NANO_PER_UNIT]
    stored = control.admin.get("/api/v1/routes/r").json()["spec"]["target"][0]
    assert stored["price"] is None, "what is saved stays what it was"


def test_a_future_price_is_published_when_its_time_comes(control: Running) -> None:
    endpoint(control, "up")
    route(control, "r", to("up", model="m"))
    add(control, price={"input": "1"})
    moment = datetime.now(UTC) + timedelta(seconds=1.5)
    future = add(control, price={"input": "5"}, effective_from=moment.isoformat())
    assert (future["state"], input_price(control)) == ("future", [NANO_PER_UNIT])
    etag = control.service().get("/internal/v1/snapshot").headers["etag"]
    answer = control.service().get("/internal/v1/snapshot?wait=10", headers={"if-none-match": etag})
    assert answer.status_code == 200, "nobody woke"
    assert 0 <= (datetime.now(UTC) - moment).total_seconds() < 1.5
    assert answer.json()["route"][0]["target"][0]["price"]["input"] == "5"
    states = [row["state"] for row in control.admin.get("/api/v1/prices").json()["items"]]
    assert states == ["current", "past"]


def test_the_history_is_listed_and_audited(control: Running) -> None:
    endpoint(control, "up")
    first = add(control, currency="USD", source="contract")
    second = add(control, price={"input": "3"}, effective_from=later(days=2))
    add(control, endpoint=None, provider="dummy", model="other")
    listed = control.as_("engineer").get("/api/v1/prices", params={"endpoint": "up", "model": "m"}).json()
    assert [row["number"] for row in listed["items"]] == [second["number"], first["number"]]
    assert (first["currency"], first["source"], first["created_by"], first["state"]) == (
        "USD", "contract", "operator", "current",
    )  # fmt: skip
    for state, count in (("current", 2), ("future", 1), ("past", 0)):
        assert control.admin.get("/api/v1/prices", params={"state": state}).json()["total"] == count
    assert control.admin.get("/api/v1/prices", params={"search": "OTHE"}).json()["total"] == 1
    audit = control.admin.get("/api/v1/audit", params={"resource_kind": "price"}).json()["items"]
    assert [entry["resource"] for entry in audit] == ["provider dummy: other", "endpoint up: m", "endpoint up: m"]
    assert control.as_("member").get("/api/v1/prices").status_code == 403
    assert control.as_("engineer").post("/api/v1/prices", json={}).status_code == 403


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ({"endpoint": "none"}, "body.endpoint"),
        ({"endpoint": None, "provider": "none"}, "body.provider"),
        ({"endpoint": None}, "body"),
        ({"provider": "dummy"}, "body"),
        ({"effective_from": "2020-01-01T00:00:00Z"}, "body.effective_from"),
        ({"effective_from": "9999-12-31T23:59:59-12:00"}, "body.effective_from"),
        ({"effective_from": "0001-01-01T00:00:00+12:00"}, "body.effective_from"),
        ({"price": {"input": "-1"}}, "body.price.input"),
        ({"price": {"input": "1", "extra": 1}}, "body.price.extra"),
        ({"model": ""}, "body.model"),
        ({"model": "m" * 161}, "body.model"),
        ({"model": "a\nb"}, "body.model"),
        ({"currency": "U" * 17}, "body.currency"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_kept(control: Running, more: dict[str, Any], at: str) -> None:
    endpoint(control, "up")
    answer = add(control, 422, **more)
    assert any(error["at"].startswith(at) for error in answer["errors"]), answer
    assert control.sql("SELECT count(*) FROM price") == [(0,)]


def test_nobody_is_served_for_nothing_unknowingly(control: Running) -> None:
    endpoint(control, "up")
    endpoint(control, "off")
    route(control, "a", to("up", model="gpt-4o"), to("up", model="spare", weight=0), to("off", model="x"))
    route(control, "b/*", to("up", model=""))
    route(control, "free", to("up", model="own", price={"input": "0"}))
    route(control, "paid", to("up", model="own"), price={"output": "1"})
    version = control.admin.get("/api/v1/endpoints/off").json()["row_version"]
    control.admin.patch("/api/v1/endpoints/off", json={"row_version": version, "enabled": False})
    found = control.as_("engineer").get("/api/v1/prices/unpriced").json()["items"]
    assert [(one["route"], one["endpoint"], one["model"]) for one in found] == [
        ("a", "up", "gpt-4o"),
        ("b/*", "up", ""),
    ]
    assert found[0]["suggestion"]["price"]["input"] == "2.5"
    assert found[1]["suggestion"] is None
    add(control, model="gpt-4o", price={})
    assert [one["route"] for one in control.admin.get("/api/v1/prices/unpriced").json()["items"]] == ["b/*"]


def test_what_something_would_cost(control: Running) -> None:
    endpoint(control, "up")
    route(control, "r", to("up", model="m"), to("up", model="n"))
    add(control, price={"input": "2.5", "cached_input": "1", "output": "10"})
    question = {"route": "r", "input_tokens": 1000, "cache_read_tokens": 100, "output_tokens": 10}
    answer = control.as_("operator").post("/api/v1/prices/costs", json=question).json()
    assert [(one["model"], one["origin"], one["cost_nano"]) for one in answer["targets"]] == [
        ("m", "endpoint", 2_500_000 + 100_000 + 100_000), ("n", "none", 0),
    ]  # fmt: skip
    assert control.admin.post("/api/v1/prices/costs", json={"route": "none"}).status_code == 404
    assert control.as_("engineer").post("/api/v1/prices/costs", json=question).status_code == 200
