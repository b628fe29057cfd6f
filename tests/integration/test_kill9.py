"""kill -9 of control, gateway and database in turn, under load: every answer is in the ledger once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.databases import KINDS, Server, server
from tests.fakes.gateway import Gateway, eventually
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.integration.conftest import gateway_of
from tests.integration.test_session import serve, works


class Load(threading.Thread):
    """Asks one question after another until told to stop, and remembers which were answered."""

    def __init__(self, gateway: Gateway, secret: str, name: str) -> None:
        super().__init__()
        self.gateway, self.secret, self.prefix = gateway, secret, name
        self.answered: list[str] = []
        self.failures = 0
        self.done = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.done.is_set():
            number += 1
            rid = f"{self.prefix}-{number}"
            try:
                answer = self.gateway.chat("gpt", secret=self.secret, rid=rid)
            except (OSError, ValueError, AssertionError, EOFError):  # the gateway was killed this moment
                self.failures += 1
                time.sleep(0.05)
                continue
            if answer.status == 200:
                self.answered.append(rid)
            else:
                self.failures += 1
            time.sleep(0.01)


@pytest.fixture(params=KINDS)
def killable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Server | None]]:
    """A database of the test's own: URL, and the server that may be killed (none for SQLite)."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'test.db'}", None
        return
    with server(request.param) as running:
        yield running.new_url(), running


def test_nothing_is_lost_or_counted_twice(
    killable: tuple[str, Server | None], upstream: Upstream, tmp_path: Path
) -> None:
    url, database = killable
    with Plane(tmp_path, url) as control, gateway_of(control, tmp_path / "g1") as gateway:
        serve(control, upstream, price="3")
        secret = control.post("/keys", name="app")["secret"]
        eventually(lambda: works(gateway, secret), 10)
        loads = [Load(gateway, secret, f"load{n}") for n in range(3)]
        for load in loads:
            load.start()
        try:
            for _ in range(2):
                time.sleep(0.7)
                control.kill9()
                time.sleep(0.7)  # the gateway serves on, its spool keeps the events
                control.start()
                if database is not None:
                    time.sleep(0.5)
                    database.kill()
                    time.sleep(0.7)
                    database.start_again()
                time.sleep(0.7)
                gateway.kill9()
                gateway.start()
        finally:
            for load in loads:
                load.done.set()
            for load in loads:
                load.join(30)
        answered = sorted(rid for load in loads for rid in load.answered)
        assert len(answered) > 100

        def ledger() -> dict[str, list[int]]:
            rows: dict[str, list[int]] = {}
            before: int | None = None
            while True:
                page = control.get("/usage/requests", per_page=200, **({"before": before} if before else {}))
                for row in page["items"]:
                    if row["end"] == "success":
                        rows.setdefault(row["request_id"], []).append(row["cost_nano"])
                before = page["before"]
                if before is None:
                    return rows

        eventually(lambda: set(answered) <= set(ledger()), 20, "an answered request is not in the ledger")
        rows = ledger()
        assert {rid: costs for rid, costs in rows.items() if len(costs) != 1} == {}
        total = sum(line["cost_nano"] for line in control.get("/usage")["lines"])
        assert total == sum(cost for costs in rows.values() for cost in costs)
        assert control.get("/audit/verify")["intact"]
