"""The gateways' reports on every database: one row each, the last one counts, gone ones are swept; their sums, and what
they tell of breakers over time.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from control.db import Database
from control.gateways import breakers, service
from control.models import BreakerSpan, GatewayRow
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


async def spans(db: Database, endpoint: str = "up", since: datetime | None = None) -> list[tuple[str, ...]]:
    async with db.read() as session:
        found = await breakers.history(session, endpoint, since or now() - timedelta(days=1), now() + timedelta(days=1))
    return [(one.gateway, one.target, one.state, one.error, one.ended or "") for one in reversed(found.items)]


async def silent(db: Database, gateway: str, ago: timedelta) -> None:
    """As if the gateway had last reported so long ago, and its breakers had opened a minute before."""
    async with db.write() as session:
        row = (await session.scalars(select(GatewayRow).where(GatewayRow.gateway == gateway))).one()
        row.reported_at = now() - ago
        for span in await session.scalars(select(BreakerSpan).where(BreakerSpan.gateway == gateway)):
            span.began_at = row.reported_at - timedelta(minutes=1)


def test_breakers_are_followed_from_report_to_report(database_url: str) -> None:
    async def work(db: Database) -> None:
        rest = {"breaker": "open", "error": "provider_timeout"}
        await report(db, "g/w0", target(), target("up+2"), target("other", **rest))
        await report(db, "g/w0", target(**rest), target("up+2"))
        await report(db, "g/w0", target(**rest), target("up+2", **rest | {"error": "provider_5xx"}))
        await report(db, "g/w0", target(**rest | {"breaker": "half_open"}), target("up+2"))
        await report(db, "g/w0", target(), target("up+2"))
        await report(db, "g/w1", target(**rest))
        assert await spans(db) == [
            ("g/w0", "up/one", "open", "provider_timeout", "half_open"),
            ("g/w0", "up/one", "open", "provider_5xx", "closed"),
            ("g/w0", "up/one", "half_open", "provider_timeout", "closed"),
            ("g/w1", "up/one", "open", "provider_timeout", ""),
        ]
        assert await spans(db, "other") == [("g/w0", "other/one", "open", "provider_timeout", "gone")]
        assert await spans(db, since=now() + timedelta(hours=1)) == [
            ("g/w1", "up/one", "open", "provider_timeout", ""),
        ], "what has not ended goes on"

    run(database_url, work)


def test_what_a_gateway_did_ends_when_it_is_gone(database_url: str) -> None:
    async def work(db: Database) -> None:
        for gateway in ("g/back", "g/away"):
            await report(db, gateway, target(breaker="open", error="provider_5xx"))
            await silent(db, gateway, timedelta(minutes=5))
        gone = [(f"g/{name}", "up/one", "open", "provider_5xx", "gone") for name in ("back", "away")]
        assert await spans(db) == gone, "nobody has swept yet"
        assert await spans(db, since=now() - timedelta(minutes=4)) == [], "it ended five minutes ago"
        await report(db, "g/back", target(breaker="open", error="provider_timeout"))
        await service.sweep(db, now() + timedelta(days=2))
        again = ("g/back", "up/one", "open", "provider_timeout", "gone")
        assert await spans(db) == [*gone, again], "the time between is nobody's"
        async with db.read() as session:
            assert not (await session.scalars(select(GatewayRow))).all()
            assert all(span.ended_at is not None for span in await session.scalars(select(BreakerSpan)))

    run(database_url, work)


def test_many_spans_are_not_all_told(database_url: str) -> None:
    async def work(db: Database) -> None:
        begin = now() - timedelta(hours=1)
        async with db.write() as session:
            session.add_all(
                BreakerSpan(
                    gateway="g", endpoint="up", target="up/one", credential="", state="open", error="",
                    began_at=begin + timedelta(seconds=n), ended_at=begin + timedelta(seconds=n + 1), ended="closed",
                )
                for n in range(breakers.MOST + 5)
            )  # fmt: skip
        async with db.read() as session:
            found = await breakers.history(session, "up", begin, now())
            assert (len(found.items), found.more) == (breakers.MOST, True)
            assert found.items[0].began_at == begin + timedelta(seconds=breakers.MOST + 4)
            assert not (await breakers.history(session, "up", begin + timedelta(seconds=50), now())).more

    run(database_url, work)
