"""Times the lists and reports of the control API on a full database: `python -m tests.load.control`.

A control process of its own, with a database of its own, seeded, called as admin over HTTP, thrown away.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from control import settings
from control.db import Database
from tests.fakes import databases
from tests.fakes.plane import Plane
from tests.load.seed import ROUTES, Row, make_event, make_keys, seed

BUDGET_MS = 200
OUT = Path("docs/bench/control.md")
KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is timed."""

    name: str
    path: str
    query: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """What a call took."""

    name: str
    p50: float
    p95: float
    kilobytes: float
    calls: int


def calls(deep: int, key: str, moment: datetime) -> list[Call]:
    """Everything that is measured."""
    found = [
        Call("keys, page 1", "/keys", {}),
        Call("keys, page 150", "/keys", {"page": 150}),
        Call("keys, search", "/keys", {"search": "key-0777"}),
        Call("keys of an owner", "/keys", {"owner": "team-03"}),
        Call("keys, revoked", "/keys", {"state": "revoked"}),
        Call("keys, active", "/keys", {"state": "active"}),
        Call("users", "/users", {}),
        Call("teams", "/teams", {}),
        Call("routes", "/routes", {}),
        Call("audit, page 1", "/audit", {}),
        Call("audit, page 30", "/audit", {"page": 30}),
    ]
    month = {"since": (moment - timedelta(days=30)).isoformat(), "until": moment.isoformat()}
    found += [
        Call("requests, newest", "/usage/requests", {}),
        Call("requests, 30 d, newest", "/usage/requests", month),
        Call("requests, 30 d, deep", "/usage/requests", month | {"before": deep}),
        Call("requests, 30 d, of a busy key", "/usage/requests", month | {"key": key}),
        Call("requests, 30 d, of an owner", "/usage/requests", month | {"owner": "person-007"}),
        Call("requests, 30 d, of a team", "/usage/requests", month | {"team": "team-03"}),
        Call("requests, 30 d, failed", "/usage/requests", month | {"end": "failed"}),
    ]
    reports = (("total", []), ("key", ["key"]), ("day", ["day"]), ("route and day", ["route", "day"]),
               ("hour", ["hour"]), ("team", ["team"]), ("team and day", ["team", "day"]))  # fmt: skip
    for label, days in (("24 h", 1), ("7 d", 7), ("30 d", 30)):
        time_asked = {"since": (moment - timedelta(days=days)).isoformat(), "until": moment.isoformat()}
        found += [Call(f"usage by {name}, {label}", "/usage", time_asked | {"by": by}) for name, by in reports]
        china = time_asked | {"timezone": "Asia/Shanghai"}
        found.append(Call(f"usage by team and day of China, {label}", "/usage", china | {"by": ["team", "day"]}))
        found.append(Call(f"usage of a key by day, {label}", "/usage", time_asked | {"by": ["day"], "key": key}))
        found.append(
            Call(f"usage of a team by key, {label}", "/usage", time_asked | {"by": ["key"], "team": "team-03"})
        )
    return found


def measure(plane: Plane, call: Call, seconds: float) -> Figure:
    """Call again and again for a while: at least 5 times, at most 100, after one that does not count."""
    size = len(plane.client.get(f"/api/v1{call.path}", params=call.query).content)
    took: list[float] = []
    begun = time.monotonic()
    while len(took) < 5 or (len(took) < 100 and time.monotonic() - begun < seconds):
        started = time.perf_counter()
        answer = plane.client.get(f"/api/v1{call.path}", params=call.query)
        took.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200, f"{call.name}: {answer.status_code} {answer.text[:300]}"
    took.sort()
    return Figure(call.name, took[len(took) // 2], took[min(len(took) - 1, len(took) * 95 // 100)], size / 1000,
                  len(took))  # fmt: skip


def measure_ingest(plane: Plane) -> list[float]:
    """Milliseconds that batches of 1,000 events of this hour took, sorted."""
    dice, moment, took = random.Random(1), datetime.now(UTC), []
    keys = make_keys(KEYS, moment, dice)
    headers = {"authorization": f"Bearer {plane.service_token}"}
    for _ in range(15):
        rows = [make_event(keys, moment, dice) for _ in range(1000)]
        body = {"gateway": "bench", "events": [_as_event(row) for row in rows]}
        started = time.perf_counter()
        answer = plane.client.post("/internal/v1/usage", json=body, headers=headers)
        took.append((time.perf_counter() - started) * 1000)
        assert answer.json()["stored"] == 1000, answer.text
    return sorted(took)


def _as_event(row: Row) -> dict[str, Any]:
    names = ("input", "cache_read", "cache_write", "output", "reasoning")
    same = ("id", "request_id", "key", "operation", "model", "route", "endpoint", "upstream_model", "snapshot",
            "stream", "end", "status", "error", "cost_nano", "ttft_ms", "duration_ms", "attempts")  # fmt: skip
    return {name: row[name] for name in same} | {
        "ts": row["ts"].timestamp(), "team": row["team"] or None, "usage_source": "provider",
        "tokens": {name: row[f"{name}_tokens"] for name in names},
    }  # fmt: skip


def table(figures: list[Figure]) -> str:
    """The figures in Markdown."""
    lines = ["| call | p50 ms | p95 ms | answer kB | calls | budget |", "|---|--:|--:|--:|--:|---|"]
    for one in figures:
        kept = "kept" if one.p95 <= BUDGET_MS else "**missed**"
        lines.append(f"| {one.name} | {one.p50:.0f} | {one.p95:.0f} | {one.kilobytes:.0f} | {one.calls} | {kept} |")
    return "\n".join(lines)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """URL of an empty database."""
    if kind == "sqlite":
        yield f"sqlite+aiosqlite:///{folder / 'tunegate.db'}"
        return
    with databases.server(kind) as server:
        yield server.new_url()


async def fill(plane: Plane, rows: int) -> tuple[float, int]:
    """Seed; how long it took, and how many hourly sums there are."""
    db = Database(settings.load(plane.config).database_url)
    started = time.monotonic()
    try:
        await seed(db, rows, KEYS)
        took = time.monotonic() - started
        async with db.engine.connect() as connection:
            hours = (await connection.execute(text("SELECT count(*) FROM usage_hour"))).scalar_one()
        if not db.is_sqlite:  # what the server does by itself within minutes
            async with db.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(text("VACUUM ANALYZE"))
    finally:
        await db.close()
    return took, int(hours)


def add_routes(plane: Plane) -> None:
    """Routes with the names that the seeded usage has."""
    plane.post("/endpoints", name="upstream", provider="openai", spec={"base_url": "http://127.0.0.1:9/v1"})
    plane.post("/endpoints/upstream/credentials", name="main", secret="sk-upstream-secret-0123456789")
    for number in range(ROUTES):
        spec: dict[str, Any] = {"target": [{"endpoint": "upstream", "model": f"upstream-{number:02}"}]}
        spec["price"] = {"input": "1", "output": "2"}
        plane.post("/routes", name=f"model-{number:02}", spec=spec, grants=[{"principal_kind": "everyone"}])


def main(argv: list[str]) -> int:
    """Measure, print, write the report; 1 when something misses the budget."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.control", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=2, help="how long each call is repeated")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="tunegate-") as name,
        database(asked.database, Path(name)) as url,
        Plane(Path(name), url) as plane,
    ):
        add_routes(plane)
        took, hours = asyncio.run(fill(plane, asked.rows))
        rows = plane.get("/usage/requests", per_page=1)["items"]
        month = (datetime.now(UTC) - timedelta(days=30)).isoformat()
        busiest = plane.get("/usage", by="key", since=month)["lines"][0]["group"]["key"]
        deep = rows[0]["seq"] - asked.rows * 9 // 10
        figures = [measure(plane, call, asked.seconds) for call in calls(deep, busiest, datetime.now(UTC))]
        ingest = measure_ingest(plane)
    shown = table(figures)
    head = (
        f"# Control API on a full database\n\n`python -m tests.load.control --database {asked.database} --rows "
        f"{asked.rows}` on {datetime.now(UTC):%Y-%m-%d}: {asked.database}, {asked.rows:,} ledger rows over 30 days, "
        f"{hours:,} hourly sums, {KEYS:,} keys, seeded in {took:.0f} s. Budget: p95 of {BUDGET_MS} ms, one caller over "
        "HTTP on loopback. Other programs may have run on the same cores: take the figures as upper "
        "bounds. A call is repeated for a while, at least 5 times; p95 of 5 to 19 calls is the slowest of them. "
        f"Storing a batch of 1,000 events of this hour took {ingest[len(ingest) // 2]:.0f} ms (median of "
        f"{len(ingest)}).\n\n"
    )
    sys.stdout.write(head + shown + "\n")
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    old = asked.out.read_text(encoding="utf-8") if asked.out.exists() else ""
    _, heading, remarks = old.partition("\n## ")  # written by people: they stay
    asked.out.write_text(head + shown + "\n" + heading + remarks, encoding="utf-8")
    return int(any(one.p95 > BUDGET_MS for one in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
