"""Calendar windows of budgets: when the one that holds a moment began and ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

FOREVER = 2**53
"""End of the window `total`, in Unix seconds."""


def window_of(span: str, timezone: str, moment: datetime) -> tuple[int, int]:
    """Unix seconds at which the window began and ends. Weeks begin on Monday; `total` began at 0."""
    if span == "total":
        return 0, FOREVER
    local = moment.astimezone(ZoneInfo(timezone))
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match span:
        case "day":
            start, end = day, day + timedelta(days=1)
        case "week":
            start = day - timedelta(days=day.weekday())
            end = start + timedelta(days=7)
        case "month":
            start = day.replace(day=1)
            end = (start + timedelta(days=32)).replace(day=1)
        case _:
            raise ValueError(f"{span!r} is not a budget window")
    # wall-clock arithmetic first, then to UTC: a day with a change of clocks has 23 or 25 hours
    return int(start.astimezone(UTC).timestamp()), int(end.astimezone(UTC).timestamp())
