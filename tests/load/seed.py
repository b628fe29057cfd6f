"""Fills a control database with people, keys and a month of usage: `python -m tests.load.seed --config F`.

What is written is what ingest would have written: every event in the ledger, its sums, the last use of its key. A few
keys do most of the work, and a key mostly asks for one model, as in real life.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import case, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from control import settings
from control.db import Database, lock, publish
from control.kit.audit import Actor, note
from control.migrations.run import migrate
from control.models import ROLLUPS, ApiKey, KeyUse, Membership, Team, UsageRow, User
from control.models.base import new_id, now
from control.models.rollups import HITS, SUMS
from control.security import sha256
from control.usage import rollup, spend

Row = dict[str, Any]
PEOPLE, TEAMS, ROUTES = 200, 20, 12
AUDITED = 2_000
"""Keys whose creation is in the audit log."""
BUDGETS = (
    [{"amount": "60", "window": "month", "timezone": "Asia/Shanghai"}, {"amount": "5", "window": "day"}],
    [{"amount": "20", "window": "month", "timezone": "Asia/Shanghai"}],
    [{"amount": "400", "window": "total"}],
    [{"amount": "15", "window": "week", "timezone": "UTC"}],
)
"""Of the first keys, which do most; and of the first teams."""
BATCH = 50_000


def make_keys(count: int, moment: datetime, dice: random.Random) -> list[Row]:
    """Rows of `api_key`: half belong to people, half to teams; some are disabled or revoked."""
    rows = []
    for number in range(count):
        kind = "team" if number % 2 else "user"
        owner = f"team-{number // 2 % TEAMS:02}" if number % 2 else f"person-{number // 2 % PEOPLE:03}"
        secret = sha256(f"seed {number}")
        rows.append({
            "id": new_id(), "public_name": f"key-{number:05}@{owner}", "name": f"key-{number:05}", "owner_kind": kind,
            "owner": owner, "digest": sha256(secret), "prefix": f"sk-tg-{secret[:6]}", "enabled": dice.random() > 0.05,
            "revoked_at": moment if dice.random() < 0.1 else None, "models": ["*"], "cidrs": [],
            "limits": {"rpm": 60}, "budgets": dict(enumerate(BUDGETS)).get(number, []),
            "note": f"service {number % 97}", "row_version": 1, "created_at": moment,
            "created_by": "admin", "updated_at": moment,
        })  # fmt: skip
    return rows


def make_hours(keys: list[Row], rows: int, since: datetime, hours: int, dice: random.Random) -> Iterator[list[Row]]:
    """Events, one list per hour, in order of time."""
    for number in range(hours):
        start = since + timedelta(hours=number)
        count = rows * (number + 1) // hours - rows * number // hours
        yield [make_event(keys, start + timedelta(seconds=3600 * place / count), dice) for place in range(count)]


def make_event(keys: list[Row], moment: datetime, dice: random.Random) -> Row:
    """An event of some key at a moment: columns of the ledger by name."""
    at = int(len(keys) * dice.random() ** 3)
    key, route = keys[at], (at if dice.random() < 0.9 else at + 1) % ROUTES
    draw = dice.getrandbits(32)
    failed = draw % 100 == 0
    prompt, answer = draw % 4_000, (draw >> 12) % 900
    return {
        "id": new_id(), "ts": moment, "received_at": moment, "gateway": "seed", "request_id": f"req-{draw:08x}",
        "key": key["public_name"], "team": key["owner"] if key["owner_kind"] == "team" else "", "owner": key["owner"],
        "operation": "chat", "model": f"model-{route:02}", "route": f"model-{route:02}",
        "endpoint": f"endpoint-{route % 5}", "upstream_model": f"upstream-{route:02}", "snapshot": "seed",
        "stream": draw % 2 == 0, "end": "upstream_error" if failed else "success", "status": 502 if failed else 200,
        "error": "upstream_error" if failed else "", "usage_source": "provider", "input_tokens": prompt,
        "cache_read_tokens": prompt // 3, "cache_write_tokens": 0, "output_tokens": answer,
        "reasoning_tokens": answer // 5, "cost_nano": prompt * 2_503 + answer * 10_007,
        "ttft_ms": None if failed else draw % 1_600 / 4, "duration_ms": draw % 40_000 / 4, "attempts": [],
        "cache": None,
    }  # fmt: skip


async def seed(db: Database, rows: int, keys: int, days: int = 30) -> None:
    """Fill a database, in one transaction.

    Raises:
        SystemExit: the database holds usage already.
        AssertionError: ledger and hourly sums do not agree.
    """
    await migrate(db.engine)
    dice = random.Random(20_260_101)
    since = now().replace(minute=0, second=0, microsecond=0) - timedelta(days=days)
    async with db.write() as session:
        counter = await lock(session, "usage")
        if await session.scalar(select(UsageRow.seq).limit(1)) is not None:
            raise SystemExit("this database holds usage already: nothing was changed")
        await _people(session)
        minted = make_keys(keys, since, dice)
        await session.execute(insert(ApiKey.__table__), minted)
        for key in minted[:AUDITED]:
            note(session, Actor("admin"), "create", "key", key["public_name"], after={"note": key["note"]})
        await _usage(session, make_hours(minted, rows, since, 24 * days, dice))
        counter.value += 1
        for number, budgets in enumerate(BUDGETS[:keys]):
            await spend.begin(session, ("key", minted[number]["public_name"]), budgets, counter.value)
            await spend.begin(session, ("team", f"team-{number:02}"), budgets, counter.value)
        publish(session)
        await check(session, rows)


async def _people(session: AsyncSession) -> None:
    people = [User(id=new_id(), username=f"person-{number:03}", role="member") for number in range(PEOPLE)]
    budgets = dict(enumerate(BUDGETS))
    teams = [Team(id=new_id(), name=f"team-{number:02}", budgets=budgets.get(number, [])) for number in range(TEAMS)]
    session.add_all([*people, *teams])
    await session.flush()
    for number, person in enumerate(people):
        session.add(Membership(team_id=teams[number % TEAMS].id, user_id=person.id))
    await session.flush()


async def _usage(session: AsyncSession, hours: Iterator[list[Row]]) -> None:
    batch: list[Row] = []
    used: dict[str, datetime] = {}
    for events in hours:
        batch += events
        used |= {event["key"]: event["ts"] for event in events}
        if len(batch) >= BATCH:
            await _store(session, batch)
            batch = []
    if batch:
        await _store(session, batch)
    if used:
        uses = [{"public_name": name, "last_used_at": moment} for name, moment in used.items()]
        await session.execute(insert(KeyUse.__table__), uses)


async def _store(session: AsyncSession, events: list[Row]) -> None:
    ledger = [{("ended" if name == "end" else name): event[name] for name in event} for event in events]
    await session.execute(insert(UsageRow.__table__), ledger)
    rows: Any = [SimpleNamespace(**event) for event in events]  # ORM rows would take minutes
    await rollup.add(session, rows)


async def check(session: AsyncSession, rows: int) -> None:
    """Requests, tokens, money and times of ledger and hourly sums are the same, to the last unit."""
    names = [name for name in SUMS if name not in ("requests", "failed", "ttft_count", *HITS)]
    failed = func.sum(case((UsageRow.end != "success", 1), else_=0))
    ledger = select(
        func.count(), failed, func.count(UsageRow.ttft_ms), *(func.sum(getattr(UsageRow, n)) for n in names)
    )
    there = tuple((await session.execute(ledger)).one())
    for table in ROLLUPS:
        sums = select(*(func.sum(table.c[name]) for name in ("requests", "failed", "ttft_count", *names)))
        summed = tuple((await session.execute(sums)).one())
        assert there == summed, f"the ledger has {there}, {table.name} {summed}"
    assert there[0] == rows, f"{there[0]} rows instead of {rows}"


async def main(argv: list[str]) -> None:
    """Fill the database of a configuration."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.seed", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    asked = parser.parse_args(argv)
    if min(asked.rows, asked.keys, asked.days) < 1:
        parser.error("--rows, --keys and --days are 1 or more")
    db = Database(settings.load(asked.config).database_url)
    started = time.monotonic()
    try:
        await seed(db, asked.rows, asked.keys, asked.days)
    finally:
        await db.close()
    sys.stdout.write(f"{asked.rows} events of {asked.keys} keys in {time.monotonic() - started:.1f} s\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
