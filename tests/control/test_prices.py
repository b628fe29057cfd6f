"""The price book on every database: which price counts, and that a version takes effect once, at its moment."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from control.db import Database
from control.kit.permissions import Person
from control.models import Counter, Endpoint, PriceVersion, Route
from control.models.base import now
from control.prices import service
from control.prices.schemas import CostQuestion, PriceCreate
from control.security import open_vault
from control.settings import ConsoleTable, Settings
from control.snapshots.book import Book, in_effect, take_effect
from control.snapshots.publisher import Publisher
from gateway.contract.snapshot import Price
from gateway.protocols.canonical import Usage
from gateway.snapshot.compile import _prices
from tests.control.test_ledger import run

PERSON = Person("1", "root", "admin", "")
ZERO = {"input": "0", "cached_input": None, "cache_write": None, "output": "0", "reasoning": None}


async def add(db: Database, price: str, moment: datetime | None = None, **place: str) -> int:
    place = place or {"endpoint": "up"}
    body = {"model": "m", "price": {"input": price}, "effective_from": moment and moment.isoformat()} | place
    async with db.write() as session:
        return (await service.add(session, PERSON, PriceCreate.model_validate(body))).id


async def charged(db: Database, spec: dict[str, Any] | None = None, **target: Any) -> str | None:
    async with db.read() as session:
        price, _ = (await Book.load(session)).price_of(spec or {}, {"endpoint": "up", "model": "m"} | target, "openai")
    return None if price is None else price["input"]


async def with_endpoint(db: Database) -> None:
    async with db.write() as session:
        session.add(Endpoint(name="up", provider="openai", spec={}))


def test_the_nearest_price_counts(database_url: str) -> None:
    async def work(db: Database) -> None:
        await with_endpoint(db)
        assert await charged(db) is None
        await add(db, "1", provider="openai")
        assert await charged(db) == "1"
        assert await charged(db, model="M") is None, "names differ by case"
        await add(db, "2", endpoint="up")
        assert await charged(db) == "2"
        assert await charged(db, endpoint="other") == "1"
        assert await charged(db, {"price": ZERO}) == "2", "a route's zero says nothing"
        assert await charged(db, {"price": ZERO | {"output": "9"}}) == "0"
        assert await charged(db, {"price": ZERO | {"input": "3"}}) == "3"
        assert await charged(db, {"price": ZERO | {"input": "3"}}, price=ZERO) == "0", "a target's zero is a price"
        await add(db, "0", endpoint="up")
        assert await charged(db) == "0", "the book's zero is a price"

    run(database_url, work)


def test_a_version_takes_effect_at_its_moment_and_once(database_url: str) -> None:
    async def work(db: Database) -> None:
        await with_endpoint(db)
        await add(db, "1")
        moment = now()
        await add(db, "3", moment + timedelta(hours=2))
        await add(db, "2", moment + timedelta(hours=1))
        await add(db, "2.5", moment + timedelta(hours=1))  # a correction: of two, the later written counts
        assert await charged(db) == "1"
        async with db.read() as session:
            assert (await Book.load(session)).next_change == moment + timedelta(hours=1)
            before = await session.scalar(select(Counter.value).where(Counter.name == "config"))

        async def publish(after: timedelta) -> bool:
            async with db.write() as session:
                return await take_effect(session, moment + after)

        assert not await publish(timedelta(minutes=59))
        assert sorted(await asyncio.gather(*(publish(timedelta(hours=1)) for _ in range(4)))) == [False] * 3 + [True]
        assert await charged(db) == "2.5"
        async with db.read() as session:
            assert await session.scalar(select(Counter.value).where(Counter.name == "config")) == (before or 0) + 1
            assert await in_effect(session) == moment + timedelta(hours=1)
        assert await publish(timedelta(days=9))
        assert await charged(db) == "3"
        async with db.read() as session:
            assert (await Book.load(session)).next_change is None

    run(database_url, work)


def test_what_came_due_while_control_was_down_is_published_at_its_start(database_url: str, tmp_path: Path) -> None:
    async def work(db: Database) -> None:
        async with db.write() as session:
            session.add(Endpoint(name="up", provider="dummy", spec={"base_url": ""}))
            spec = {"target": [{"endpoint": "up", "model": "m"}]}
            session.add(Route(name="r", version=1, spec=spec))
        await add(db, "1")
        await add(db, "2", now() + timedelta(seconds=0.3))
        await asyncio.sleep(0.4)  # nobody publishes meanwhile
        publishers = [Publisher(db, open_vault(Settings(console=ConsoleTable(data_dir=tmp_path)))) for _ in range(2)]
        tasks = [asyncio.create_task(publisher.run()) for publisher in publishers]
        for publisher in publishers:
            etag, price = None, ""
            async with asyncio.timeout(5):
                while price != "2":
                    rendered = await publisher.get(etag, 5)
                    assert rendered is not None
                    etag, price = rendered.etag, rendered.head["route"][0]["target"][0]["price"]["input"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(database_url, work)


def test_each_version_is_past_current_or_future(database_url: str) -> None:
    async def work(db: Database) -> None:
        await with_endpoint(db)
        old, current = await add(db, "1"), await add(db, "2")
        other, future = await add(db, "5", provider="openai"), await add(db, "3", now() + timedelta(days=1))
        found = {}
        async with db.read() as session:
            for state in ("past", "current", "future"):
                condition = service.in_state(state, await in_effect(session))  # type: ignore[arg-type]
                found[state] = set(await session.scalars(select(PriceVersion.id).where(condition)))
        assert found == {"past": {old}, "current": {current, other}, "future": {future}}

    run(database_url, work)


@pytest.mark.parametrize(
    "price",
    [
        {"input": "2.5", "output": "10"}, {"input": "0.000000001", "cached_input": "0", "output": "0.1"},
        {"input": "1", "cache_write": "1.25", "output": "3", "reasoning": "7.000000001"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("tokens", [(1, 0, 0, 0, 0), (1000, 500, 300, 700, 11), (10**12, 3, 1, 10**9, 0), (0,) * 5])
def test_costs_are_rounded_as_the_gateway_rounds(price: dict[str, str], tokens: tuple[int, ...]) -> None:
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    asked = CostQuestion.model_validate({"route": "r", **dict(zip(names, tokens, strict=True))})
    wire = Price.model_validate({name: Decimal(amount) for name, amount in price.items()})
    assert service.cost(wire, asked) == _prices(wire).cost(Usage(*tokens))
