"""The gateways' reports on every database: one row each, the last one counts, gone ones are swept; and their sums."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from control.db import Database
from control.gateways import service
from control.models import GatewayRow
from control.models.base import now
from gateway.contract.internal import GatewayStatus
from tests.control.test_ledger import run


def target(endpoint: str = "up", model: str = "one", **changed: Any) -> dict[str, Any]:
    return {
        "id": f"{endpoint}/{model}", "endpoint": endpoint, "model": model, "breaker": "closed", "in_flight": 1,
        "first_content_ms": 100.0, "successes": 5, "failures": 1,
    } | changed  # fmt: skip


async def report(db: Database, gateway: str, *targets: dict[str, Any], snapshot: str | None = "c1") -> None:
    status = {"gateway": gateway, "version": "1", "snapshot": snapshot, "started": 1.5, "targets": targets}
    async with db.write() as session:
        await service.store(session, GatewayStatus.model_validate(status))


def test_the_last_report_of_each_gateway_is_kept_and_gone_ones_are_swept(database_url: str) -> None:
    async def work(db: Database) -> None:
        await report(db, "g/w0", target(), snapshot=None)
        await report(db, "g/w0", target("团队", "模型", failures=7), snapshot="c2")
        await report(db, "g/w1")
        async with db.read() as session:
            rows = await service.live(session)
        assert [(row.gateway, row.snapshot, len(row.targets)) for row in rows] == [("g/w0", "c2", 1), ("g/w1", "c1", 0)]
        assert rows[0].targets[0]["failures"] == 7
        async with db.write() as session:
            row = (await session.scalars(select(GatewayRow).where(GatewayRow.gateway == "g/w1"))).one()
            row.reported_at = now() - timedelta(hours=2)
        await service.sweep(db, now())
        async with db.read() as session:
            assert [row.gateway for row in await service.live(session)] == ["g/w0"]
            assert len((await session.scalars(select(GatewayRow))).all()) == 2, "still in the list"
        await service.sweep(db, now() + timedelta(hours=23))
        async with db.read() as session:
            assert [row.gateway for row in await session.scalars(select(GatewayRow))] == ["g/w0"]

    run(database_url, work)


def test_reports_at_the_same_time_hinder_nobody(database_url: str) -> None:
    async def work(db: Database) -> None:
        await asyncio.gather(*(report(db, f"g/w{n % 4}", target()) for n in range(16)))
        async with db.read() as session:
            assert len(await service.live(session)) == 4

    run(database_url, work)


def test_health_is_summed_over_gateways_and_credentials() -> None:
    rows = [
        GatewayRow(targets=[target(), target("up+2", breaker="open", first_content_ms=None)]),
        GatewayRow(targets=[target(first_content_ms=300.0, breaker="half_open"), target("other")]),
    ]
    first, second = service.merged(rows)
    assert (first.id, first.endpoint) == ("other/one", "other")
    assert (second.id, second.endpoint, second.model) == ("up/one", "up", "one")
    assert (second.closed, second.half_open, second.open) == (1, 1, 1)
    assert (second.in_flight, second.first_content_ms, second.successes, second.failures) == (3, 200.0, 15, 3)
