"""Sums of the ledger, written in its own transaction: what reports read instead of it.

Four tables with the same sums: `usage_hour` tells everything apart, the others leave something out and are many times
smaller. Their time is a whole number since 1970 in UTC, so that a day of any time zone is arithmetic in every database.

Percentiles come from counters of how many requests took how long. Counter n counts those that took less than
`BOUNDS[n]` and at least half of that; the last one counts the rest. NULL is none: most counters of a row are, and on
disk they then cost one bit.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from sqlalchemy import BigInteger, Column, Double, Index, Integer, String, Table, UniqueConstraint

from control.models.base import NAME, Base, BigId

BOUNDS = tuple(float(2**n) for n in range(3, 20))
"""Milliseconds: 8, 16, … 524,288."""
DURATIONS = tuple(f"duration_{n}" for n in range(len(BOUNDS) + 1))
TTFTS = tuple(f"ttft_{n}" for n in range(len(BOUNDS) + 1))
TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
TIMES = ("duration_ms", "ttft_ms")
HITS = ("cached", "saved_nano")
"""Requests that response caches answered, and what they would have cost beyond what they did."""
WHOLE = ("requests", "failed", *TOKENS, "cost_nano", *HITS, "ttft_count")
SUMS = (*WHOLE, *TIMES)
"""Columns that are never NULL."""
COUNTERS = (*DURATIONS, *TTFTS)


def counter(milliseconds: float) -> int:
    """Number of the counter that a time belongs to."""
    return bisect_right(BOUNDS, milliseconds)


def percentile(counts: list[int], part: float) -> float | None:
    """The time that `part` of the requests did not exceed, in milliseconds; None without requests.

    It lies in the right counter, between whose bounds it is guessed by rank: so it is off by less than a factor of
    two, or by less than 8 ms for times below 8 ms. Beyond the last bound (nearly 9 minutes) it is the bound.
    """
    rank = part * sum(counts)
    for number, count in enumerate(counts):
        if count and rank <= count:
            if number == 0:
                return round(BOUNDS[0] * rank / count, 3)
            if number == len(BOUNDS):
                return BOUNDS[-1]
            return round(BOUNDS[number - 1] * math.pow(2, rank / count), 3)
        rank -= count
    return None


def span_of(rollup: Table) -> int:
    """Hours that one row of a rollup sums up."""
    span: int = rollup.info["span"]
    return span


def unique_of(rollup: Table) -> tuple[str, ...]:
    """Columns whose values no two rows of a rollup share."""
    unique: tuple[str, ...] = rollup.info["unique"]
    return unique


def _rollup(
    name: str,
    time: str,
    span: int,
    parts: Sequence[str],
    *indexes: Index,
    unique: tuple[str, ...],
    beside: Sequence[str] = (),
) -> Table:
    """`beside`: columns that PostgreSQL keeps in the index of `unique`, too."""
    sums = [Column(one, Double if one in TIMES else BigInteger, nullable=False) for one in SUMS]
    return Table(
        name,
        Base.metadata,
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column(time, Integer, nullable=False),
        *(Column(part, String(LENGTHS[part]), nullable=False) for part in parts),
        *sums,
        *(Column(counter, Integer) for counter in COUNTERS),
        UniqueConstraint(time, *unique, name=f"uq_{name}", postgresql_include=list(beside)),
        *indexes,
        info={"time": time, "span": span, "unique": (time, *unique)},
    )


LENGTHS = {
    "key": 250, "team": NAME, "owner": NAME, "route": 120, "endpoint": 120, "upstream_model": 160, "operation": 16,
}  # fmt: skip
"""What sums may be told apart by, and the longest value."""
PLACE = ("route", "endpoint", "upstream_model", "operation")

usage_hour = _rollup(
    "usage_hour", "hour", 1, tuple(LENGTHS),
    Index("ix_usage_hour_key", "key", "hour"),
    Index("ix_usage_hour_owner", "owner", "hour"),
    Index("ix_usage_hour_team", "team", "hour"),
    unique=("key", *PLACE),
)  # fmt: skip
"""Everything."""
usage_place_hour = _rollup("usage_place_hour", "hour", 1, PLACE, unique=PLACE)
"""Without callers."""
usage_owner_shift = _rollup("usage_owner_shift", "shift", 8, ("team", "owner"), unique=("team", "owner"))
"""Without keys and places, by thirds of a day: of these, days of China are made as well as those of UTC."""
usage_caller_day = _rollup(
    "usage_caller_day", "day", 24, ("key", "team", "owner"),
    Index("ix_usage_caller_day_key", "key", "day", "cost_nano", "requests"),
    Index("ix_usage_caller_day_owner", "owner", "day"),
    Index("ix_usage_caller_day_team", "team", "day"),
    unique=("key",), beside=("cost_nano", "requests"),
)  # fmt: skip
"""Without places, by day. Two indexes hold all that it takes to find the most expensive keys: by key, as SQLite goes
through them, and by day, as PostgreSQL does, which otherwise reads whole rows, seven times as much."""
shadow_hour = _rollup("shadow_hour", "hour", 1, PLACE, unique=PLACE)
"""Of copies that went to shadow targets. They are nobody's usage, so no other sum has them."""
ROLLUPS = (usage_place_hour, usage_owner_shift, usage_caller_day, usage_hour)
"""Of requests, the smallest first."""
