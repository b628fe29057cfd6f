"""A price that takes effect by itself: a real control, a real gateway, and what the ledger says afterwards."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.fakes.gateway import eventually
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.integration.conftest import gateway_of
from tests.integration.test_session import ask, works


def test_the_next_request_after_its_moment_is_charged_the_new_price(
    control: Plane, upstream: Upstream, tmp_path: Path
) -> None:
    with gateway_of(control, tmp_path / "g1") as gateway:
        control.post("/endpoints", name="up", provider="openai", spec={"base_url": f"{upstream.url}/v1"})
        control.post("/endpoints/up/credentials", name="main", secret="sk-upstream-secret-0123456789")
        spec = {"target": [{"endpoint": "up", "model": "one"}]}
        control.post("/routes", name="gpt", spec=spec, grants=[{"principal_kind": "everyone"}])
        assert [one["model"] for one in control.get("/prices/unpriced")["items"]] == ["one"]
        control.post("/prices", endpoint="up", model="one", price={"input": "100", "output": "100"})
        secret = control.post("/keys", name="app")["secret"]
        eventually(lambda: works(gateway, secret), 2, "the route is not live after 2 s")
        moment = datetime.now(UTC) + timedelta(seconds=3)
        control.post(
            "/prices", endpoint="up", model="one", price={"input": "300", "output": "300"},
            effective_from=moment.isoformat(),
        )  # fmt: skip
        ask(gateway, secret)
        assert datetime.now(UTC) < moment, "this machine is too slow for the test"
        time.sleep((moment - datetime.now(UTC)).total_seconds() + 2)
        ask(gateway, secret)

        def rows() -> list[tuple[int, str]]:
            items = control.get("/usage/requests")["items"]
            return [(row["cost_nano"], row["snapshot"]) for row in items if row["end"] == "success"]

        eventually(lambda: len(rows()) == 3, 5, "the ledger lacks a request")
        (new, after), (old, before), (first, _) = rows()
        assert (new, old) == (3 * first, first)
        assert first > 0
        assert before != after, "the ledger says by which version of the configuration each was charged"
        assert control.get("/prices/unpriced")["items"] == []
