"""The time that a question is about."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Depends

from control.errors import Problem
from control.kit.schemas import Moment
from control.models.base import now


async def _span(since: Moment | None = None, until: Moment | None = None) -> tuple[datetime, datetime]:
    """The last 24 hours unless said otherwise."""
    end = until or now()
    try:
        start = since or end - timedelta(days=1)
    except OverflowError:
        start = end
    if start >= end:
        raise Problem(422, "empty_time", "`since` is not before `until`")
    return start, end


Span = Annotated[tuple[datetime, datetime], Depends(_span)]
"""(since, until) of an operation's query."""
