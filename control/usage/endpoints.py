"""`/api/v1/usage`: what was used and what it cost."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, StringConstraints
from sqlalchemy import ColumnElement, and_, or_, select

from control.deps import Db, allow
from control.errors import Problem
from control.kit.membership import teams_of
from control.kit.permissions import Person
from control.kit.schemas import A_MOMENT, example
from control.kit.spans import Span
from control.models import UsageRow
from control.usage import budgets, daily, reports, shadows
from control.usage.budgets import BudgetsInUse
from control.usage.daily import DailyUsage
from control.usage.reports import Question, UsageReport
from control.usage.shadows import ShadowSums
from control.usage.sources import Dimension, Filters, visible_to
from gateway.contract.usage import CacheOutcome, End, GuardOutcome, RetrievalOutcome

router = APIRouter(prefix="/usage", tags=["usage"])
Reader = Annotated[Person, Depends(allow("usage:own"))]
Text = Annotated[str | None, Query(max_length=250)]
Top = Annotated[int, Query(ge=1, le=1000, description="Lines; the rest is summed in `others`.")]

CSV = {"text/csv": {"schema": {"type": "string"}}}


class LedgerRow(BaseModel):
    """One admitted request."""

    model_config = example(
        seq=1, id="01936f3a-0000-7000-8000-000000000001", ts=A_MOMENT, gateway="gateway-1/0", request_id="req-1",
        key="chatbot@support", team="support", owner="support", operation="chat", model="gpt-4o", route="gpt-4o",
        endpoint="openai-eu", upstream_model="gpt-4o", snapshot="c7", stream=True, end="success", status=200, error="",
        usage_source="provider", input_tokens=100, cache_read_tokens=0, cache_write_tokens=0, output_tokens=100,
        reasoning_tokens=0, cost_nano=1_250_000, ttft_ms=210.5, duration_ms=1800.0, attempts=[],
        retrieval=None, cache=None, guard=None, shadow_of=None,
    )  # fmt: skip

    seq: int
    id: str
    ts: datetime
    gateway: str
    request_id: str
    key: str
    team: str
    owner: str
    operation: str
    model: str
    route: str
    endpoint: str
    upstream_model: str
    snapshot: str
    stream: bool
    end: str
    status: int
    error: str
    usage_source: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nano: int
    ttft_ms: float | None
    duration_ms: float
    attempts: list[Any]
    retrieval: RetrievalOutcome | None
    """What was looked up in knowledge bases."""
    cache: CacheOutcome | None
    """What the route's response cache had; null where it has none."""
    guard: GuardOutcome | None
    """What the route's guard did."""
    shadow_of: str | None
    """Of a copy for a shadow target: the `id` of the request that was copied."""


class ShadowReport(BaseModel):
    """What shadow targets did in the time asked for; in no other report."""

    since: datetime
    until: datetime
    lines: list[ShadowSums]


class LedgerPage(BaseModel):
    """Rows, the newest first. `before` of the next page; null when there is none."""

    items: list[LedgerRow]
    before: int | None


async def _asked(
    span: Span,
    by: Annotated[list[Dimension] | None, Query(max_length=3)] = None,
    timezone: Annotated[str, Query(max_length=64)] = "UTC",
    key: Text = None,
    owner: Text = None,
    team: Text = None,
    route: Text = None,
    endpoint: Text = None,
    upstream_model: Text = None,
    operation: Text = None,
) -> Question:
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise Problem(422, "unknown_timezone", f"{timezone!r} is not a time zone name, such as Asia/Shanghai") from exc
    filters = Filters(
        since=span[0], until=span[1], key=key, owner=owner, team=team, route=route, endpoint=endpoint,
        upstream_model=upstream_model, operation=operation,
    )  # fmt: skip
    return Question(filters=filters, by=list(dict.fromkeys(by or [])), timezone=timezone)


Asked = Annotated[Question, Depends(_asked)]


@router.get("")
async def get_usage(session: Db, person: Reader, asked: Asked, top: Top = 100) -> UsageReport:
    """Sums by up to three dimensions: of the `top` most expensive, which come first, or, if time is among the
    dimensions, in its order.
    """
    return await reports.report(session, person, await teams_of(session, person.id), asked, top)


@router.get("/export", response_class=Response, responses={200: {"content": CSV}})
async def export_usage(session: Db, person: Reader, asked: Asked) -> Response:
    """The same as CSV, with every line."""
    lines = await reports.complete(session, person, await teams_of(session, person.id), asked)
    headers = {"content-disposition": 'attachment; filename="usage.csv"'}
    return Response(reports.as_csv(asked.by, lines), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/requests")
async def list_requests(
    session: Db,
    person: Reader,
    asked: Asked,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    per_page: Annotated[int, Query(ge=1, le=200)] = 50,
    request_id: Text = None,
    end: Literal["success", "failed"] | End | None = None,
    status: Annotated[int | None, Query(ge=0, le=999)] = None,
    shadow: bool = False,
) -> LedgerPage:
    """Rows of the ledger, the newest first; with `shadow`, the copies for shadow targets and nothing else."""
    filters = asked.filters
    teams = await teams_of(session, person.id)
    query = select(UsageRow).where(visible_to(person, teams, UsageRow.team, UsageRow.owner))
    last = filters.until - timedelta(microseconds=1)  # one upper bound: SQLite looks at no more than one
    if before is not None:
        moment = await session.scalar(select(UsageRow.ts).where(UsageRow.seq == before))
        query = query.where(UsageRow.seq < before if moment is None else _older_than(moment, before))
        last = min(last, moment or last)
    query = query.where(UsageRow.ts >= filters.since, UsageRow.ts <= last)
    for name, value in filters.given.items():
        query = query.where(getattr(UsageRow, name) == value)
    if request_id is not None:
        query = query.where(UsageRow.request_id == request_id)
    if end is not None:
        query = query.where(UsageRow.end != "success" if end == "failed" else UsageRow.end == end)
    if status is not None:
        query = query.where(UsageRow.status == status)
    query = query.where(UsageRow.shadow_of.is_not(None) if shadow else UsageRow.shadow_of.is_(None))
    rows = (await session.scalars(query.order_by(UsageRow.ts.desc(), UsageRow.seq.desc()).limit(per_page + 1))).all()
    items = [LedgerRow.model_validate(row, from_attributes=True) for row in rows[:per_page]]
    return LedgerPage(items=items, before=items[-1].seq if len(rows) > per_page else None)


@router.get("/shadows")
async def get_shadows(session: Db, _: Annotated[Person, Depends(allow("usage:read"))], asked: Asked) -> ShadowReport:
    """Sums by shadow target. Only the time of the question counts."""
    lines = await shadows.report(session, asked.filters.since, asked.filters.until)
    return ShadowReport(since=asked.filters.since, until=asked.filters.until, lines=lines)


@router.get("/budgets")
async def list_budgets(
    session: Db,
    person: Reader,
    spent: Annotated[float, Query(ge=0, le=1000, description="Part of the amount, such as 0.9.")] = 0.9,
) -> BudgetsInUse:
    """Budgets of keys and teams that are spent to this part in their running window: the fullest, at most 100."""
    teams = await teams_of(session, person.id)
    return BudgetsInUse(items=await budgets.nearly_spent(session, person, teams, spent))


@router.get("/daily")
async def get_daily_usage(
    session: Db,
    person: Reader,
    key: Annotated[list[Annotated[str, StringConstraints(max_length=250)]], Query(min_length=1, max_length=200)],
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> DailyUsage:
    """What keys did on each of the last days of UTC, for small charts."""
    return await daily.of_keys(session, person, await teams_of(session, person.id), key, days)


def _older_than(moment: datetime, seq: int) -> ColumnElement[bool]:
    """Rows after this one in the order of the list, which is that of the indexes: by moment, then by number."""
    return or_(UsageRow.ts < moment, and_(UsageRow.ts == moment, UsageRow.seq < seq))
