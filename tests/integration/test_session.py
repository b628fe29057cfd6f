"""A day of a platform admin, on every database: from an empty installation to a report that sums to the ledger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes.gateway import Gateway, eventually
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.integration.conftest import gateway_of

QUESTION: list[Any] = [{"role": "user", "content": "Who are you?"}]


def ask(gateway: Gateway, secret: str, model: str = "gpt") -> Any:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=secret, max_retries=0, timeout=20) as client:
        return client.chat.completions.create(model=model, messages=QUESTION)


def works(gateway: Gateway, secret: str) -> bool:
    try:
        ask(gateway, secret)
    except openai.APIStatusError:
        return False
    return True


def refused(gateway: Gateway, secret: str, error: type[openai.APIStatusError]) -> bool:
    try:
        ask(gateway, secret)
    except error:
        return True
    except openai.APIStatusError:
        return False
    return False


def serve(control: Plane, upstream: Upstream, price: str = "1000") -> None:
    """An endpoint with a credential, and the route `gpt` for everyone."""
    control.post("/endpoints", name="up", provider="openai", spec={"base_url": f"{upstream.url}/v1"})
    control.post("/endpoints/up/credentials", name="main", secret="sk-upstream-secret-0123456789")
    spec = {"target": [{"endpoint": "up", "model": "one"}], "price": {"input": price, "output": price}}
    control.post("/routes", name="gpt", spec=spec, grants=[{"principal_kind": "everyone"}])


def test_from_an_empty_installation_to_the_bill(control: Plane, upstream: Upstream, tmp_path: Path) -> None:
    with gateway_of(control, tmp_path / "g1") as first, gateway_of(control, tmp_path / "g2") as second:
        serve(control, upstream)
        budget = {"amount": "0.05", "window": "day", "timezone": "UTC"}
        secret = control.post("/keys", name="app", budgets=[budget])["secret"]
        for gateway in (first, second):
            eventually(lambda g=gateway: works(g, secret), 2, "a new key and route are not live after 2 s")
        assert upstream.requests[-1].header("authorization") == "Bearer sk-upstream-secret-0123456789"

        eventually(lambda: refused(first, secret, openai.RateLimitError), 20, "the budget does not run out")
        with pytest.raises(openai.RateLimitError) as spent:
            ask(first, secret)
        assert "budget" in str(spent.value).lower()
        eventually(lambda: refused(second, secret, openai.RateLimitError), 5, "the other gateway never hears of it")

        control.patch("/keys/app@admin", budgets=[budget | {"amount": "1000"}])
        for gateway in (first, second):
            eventually(lambda g=gateway: works(g, secret), 2, "a raised budget is not live after 2 s")

        before = time.monotonic()
        control.delete("/keys/app@admin")
        for gateway in (first, second):
            eventually(lambda g=gateway: refused(g, secret, openai.AuthenticationError), 1, "revoked, and goes on")
        assert time.monotonic() - before < 2

    rows = control.get("/usage/requests", per_page=200)
    assert rows["before"] is None
    for by in ("key", "route", "day", "hour", "endpoint"):
        lines = control.get("/usage", by=by)["lines"]
        assert sum(line["cost_nano"] for line in lines) == sum(row["cost_nano"] for row in rows["items"]) > 0
        assert sum(line["requests"] for line in lines) == len(rows["items"])
    answered = [seen for seen in upstream.requests if seen.model == "one"]
    assert len(rows["items"]) == len(answered), "each answer is in the ledger once"
    assert control.get("/audit/verify")["intact"]
    assert {entry["action"] for entry in control.get("/audit")["items"]} >= {"create", "update", "revoke"}


def test_a_route_is_rolled_back_with_one_call(control: Plane, upstream: Upstream, tmp_path: Path) -> None:
    with gateway_of(control, tmp_path / "g1") as gateway:
        serve(control, upstream)
        secret = control.post("/keys", name="app")["secret"]
        eventually(lambda: works(gateway, secret), 2)
        control.patch("/routes/gpt", spec={"target": [{"endpoint": "up", "model": "two"}]}, note="newer")
        eventually(lambda: works(gateway, secret) and upstream.requests[-1].model == "two", 2)
        version = control.get("/routes/gpt")["row_version"]
        control.post("/routes/gpt/rollback", number=1, row_version=version)
        eventually(lambda: works(gateway, secret) and upstream.requests[-1].model == "one", 2)
