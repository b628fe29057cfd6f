"""What the response cache saved, from the upstream to the report: a real control, a real gateway, a real ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes import scripts
from tests.fakes.gateway import eventually
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Usage
from tests.integration.conftest import gateway_of
from tests.integration.test_session import works

FULL = 10_000_000
"""Nano-units of one answer."""
SHARES = {"free": 0.0, "third": 1 / 3, "full": 1.0}


def test_hits_are_billed_as_their_route_says_until_its_price_changes(upstream: Upstream, tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path}/tunegate.db"
    with Plane(tmp_path, database) as control, gateway_of(control, tmp_path / "g1") as gateway:
        control.post("/endpoints", name="up", provider="openai", spec={"base_url": f"{upstream.url}/v1"})
        control.post("/endpoints/up/credentials", name="main", secret="sk-upstream-secret-0123456789")
        control.post("/prices", endpoint="up", model="one", price={"input": "1000", "output": "1000"})
        upstream.on("one", scripts.chat(["once"], Usage(7, 3)))
        everyone = [{"principal_kind": "everyone"}]
        for name, share in {**SHARES, "gpt": 0.0}.items():
            spec = {"target": [{"endpoint": "up", "model": "one"}], "cache": {"billing": share}}
            control.post("/routes", name=name, spec=spec, grants=everyone)
        made = control.post("/keys", name="app")
        secret = made["secret"]
        eventually(lambda: works(gateway, secret), 5, "the routes are not live")

        def ask(name: str) -> str | None:
            reply = gateway.chat(name, secret=secret)
            assert reply.status == 200, reply.body
            return reply.header("x-tunegate-cache")

        for name in SHARES:
            assert [ask(name) for _ in range(3)] == ["miss", "hit", "hit"]

        def lines() -> dict[str, dict[str, Any]]:
            report = control.get("/usage", by="route")
            return {line["group"]["route"]: line for line in report["lines"]}

        eventually(lambda: sum(line["requests"] for name, line in lines().items() if name in SHARES) == 9, 10)
        for name, share in SHARES.items():
            line, part = lines()[name], int(FULL * share + 0.5)
            assert (line["cached"], line["cost_nano"]) == (2, FULL + 2 * part), name
            assert line["saved_nano"] == 2 * (FULL - part), name
            assert (line["requests"], line["total_tokens"]) == (3, 30), "the answer's tokens, whoever made them"
        row = next(one for one in control.get("/usage/requests", route="third")["items"])
        assert row["cache"]["result"] == "hit"
        assert (row["endpoint"], row["attempts"], row["usage_source"]) == ("", [], "provider")
        budget = control.get("/usage")["total"]
        assert budget["saved_nano"] == sum(line["saved_nano"] for line in lines().values())
        control.post("/prices", endpoint="up", model="one", price={"input": "2000", "output": "2000"})
        eventually(lambda: ask("full") == "miss", 5, "an answer at the old price is given still")
        assert ask("full") == "hit"
        control.delete(f"/keys/{made['public_name']}")
        eventually(lambda: gateway.chat("full", secret=secret).status == 401, 3, "a revoked key is answered")
