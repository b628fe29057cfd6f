"""What people are told that budgets have been spent: as the ledger says, on every database, and to whom it may be."""

from __future__ import annotations

import time

from sqlalchemy import update

from control.db import Database
from control.kit.permissions import Person
from control.models import ApiKey, Team
from control.usage import daily
from control.usage.budgets import nearly_spent, spending
from tests.control.test_ledger import add_key, event, run, send

ADMIN = Person("1", "root", "admin", "")
ALICE = Person("2", "alice", "member", "")
MONTH = {"amount": "0.000000100", "window": "month", "timezone": "Asia/Shanghai"}
TOTAL = {"amount": "1", "window": "total", "timezone": "UTC"}
CLOSED = {"amount": "0", "window": "day", "timezone": "UTC"}


async def filled(db: Database) -> None:
    await add_key(db, "full@alice", budgets=[MONTH, TOTAL])
    await add_key(db, "unused@alice", budgets=[MONTH, CLOSED])
    await add_key(db, "free@alice")
    await add_key(db, "of@lab", team="lab", budgets=[CLOSED])
    async with db.write() as session:
        session.add(Team(name="lab", budgets=[MONTH]))
    await send(
        db, event(key="full@alice", cost_nano=91), event(key="free@alice", cost_nano=1000),
        event(key="full@alice", cost_nano=4000, ts=time.time() - 40 * 86_400),
        event(key="of@lab", team="lab", cost_nano=150), event(key="full@alice", cost_nano=3, shadow_of="x"),
    )  # fmt: skip


def test_each_budget_is_told_with_its_running_window(database_url: str) -> None:
    async def work(db: Database) -> None:
        await filled(db)
        async with db.read() as session:
            keys = await spending(
                session, "key", {"full@alice": [MONTH, TOTAL], "unused@alice": [MONTH], "free@alice": []}
            )
            teams = await spending(session, "team", {"lab": [MONTH]})
        month, total = keys["full@alice"]
        assert (month.amount_nano, month.spent_nano) == (100, 91)
        assert month.since is not None
        assert month.resets_at is not None
        assert month.since.timestamp() <= time.time() < month.resets_at.timestamp()
        assert month.since.hour == 16  # midnight in Shanghai
        assert (total.spent_nano, total.since, total.resets_at) == (4091, None, None)
        assert [one.spent_nano for one in keys["unused@alice"]] == [0]
        assert keys["free@alice"] == []
        assert [one.spent_nano for one in teams["lab"]] == [150]

    run(database_url, work)


def test_nearly_spent_budgets_are_told_to_whom_they_concern(database_url: str) -> None:
    async def work(db: Database) -> None:
        await filled(db)
        async with db.read() as session:
            every = await nearly_spent(session, ADMIN, [], 0.9)
            own = await nearly_spent(session, ALICE, [], 0.9)
            member = await nearly_spent(session, ALICE, ["lab"], 0.9)
            full = await nearly_spent(session, ADMIN, [], 1.0)
        async with db.write() as session:
            await session.execute(update(ApiKey).where(ApiKey.public_name == "full@alice").values(enabled=False))
        async with db.read() as session:
            enabled = await nearly_spent(session, ADMIN, [], 0.9)
        assert [(one.kind, one.name) for one in every] == [("team", "lab"), ("key", "full@alice")]
        assert [one.name for one in own] == ["full@alice"]
        assert [one.name for one in member] == ["lab", "full@alice"]
        assert [one.name for one in full] == [one.name for one in enabled] == ["lab"]

    run(database_url, work)


def test_the_days_of_keys_are_those_of_the_ledger(database_url: str) -> None:
    async def work(db: Database) -> None:
        await filled(db)
        await send(db, event(key="free@alice", ts=time.time() - 3 * 86_400, cost_nano=5), event(key="other@bob"))
        asked = ["free@alice", "unused@alice", "of@lab", "other@bob", "no@such"]
        async with db.read() as session:
            whole = await daily.of_keys(session, ADMIN, [], asked, 7)
            own = await daily.of_keys(session, ALICE, [], asked, 7)
        by_key = {one.key: one for one in whole.items}
        assert list(by_key) == asked
        assert (sum(by_key["free@alice"].cost_nano), by_key["free@alice"].requests.count(1)) == (1005, 2)
        assert [sum(by_key[key].requests) for key in asked[1:]] == [0, 1, 1, 0]
        assert all(len(one.requests) == len(one.cost_nano) == 7 for one in whole.items)
        assert [sum(one.requests) for one in own.items] == [2, 0, 0, 0, 0]

    run(database_url, work)
