"""Usage events into the ledger: each exactly once, with rollups and spend in the same transaction.

Writers go one after another (the `usage` counter is locked), so "which of these ids are there already" and the sums
cannot race, and the cursor that gateways follow grows in order of commit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy import Table, case, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import lock
from control.kit.upsert import upsert
from control.models import ApiKey, KeyUse, Quarantine, UsageRow
from control.models.base import now
from control.models.rollups import shadow_hour
from control.usage import rollup, spend
from gateway.contract.internal import UsageAck, UsageBatch
from gateway.contract.usage import UsageEvent

_FUTURE = timedelta(days=1)


async def store(session: AsyncSession, batch: UsageBatch) -> UsageAck:
    """Store what is new of a batch; what is not a usage event goes into quarantine with the reason."""
    counter = await lock(session, "usage")
    received = now()
    events: dict[str, UsageEvent] = {}
    quarantined = repeated = 0
    for raw in batch.events:
        event = _parse(raw, received)
        if isinstance(event, str):
            quarantined += 1
            text = json.dumps(raw, ensure_ascii=False)[:65_536]
            session.add(Quarantine(received_at=received, gateway=batch.gateway, reason=event[:1000], event=text))
            continue
        repeated += event.id in events
        events[event.id] = event
    known = set(await session.scalars(select(UsageRow.id).where(UsageRow.id.in_(list(events)))))
    owners = await _owners(session, {event.key for event in events.values()})
    rows = [_row(event, batch.gateway, received, owners) for event in events.values() if event.id not in known]
    stored = len(rows)
    if rows:
        session.add_all(rows)
        await session.flush()
        counter.value += 1
        if copies := [row for row in rows if row.shadow_of is not None]:
            await rollup.add(session, copies, (shadow_hour,))
        rows = [row for row in rows if row.shadow_of is None]
        if rows:
            await rollup.add(session, rows)
            await spend.add(session, rows, counter.value)
            await _touch_keys(session, rows)
    return UsageAck(stored=stored, duplicates=len(known) + repeated, quarantined=quarantined)


def _parse(raw: dict[str, Any], received: datetime) -> UsageEvent | str:
    """The event, or why it is none."""
    try:
        event = UsageEvent.model_validate(raw)
        if not (math.isfinite(event.ts) and 0 <= event.ts <= (received + _FUTURE).timestamp()):
            return f"ts {event.ts} is not a Unix time up to now"
        limits = (
            ("id", event.id, 36),
            ("key", event.key, 250),
            ("route", event.route, 120),
            ("snapshot", event.snapshot, 200),
            ("shadow_of", event.shadow_of or "", 36),
        )
        for name, value, most in limits:
            if (not value and name == "id") or len(value) > most:
                return f"{name} is empty or longer than {most} characters"
        money = (event.cost_nano, event.cache.saved_nano if event.cache is not None else 0)
        if min(money) < 0 or max(money) >= 2**62 or min(event.tokens.model_dump().values()) < 0:
            return "cost or tokens are negative or too large"
    except ValidationError as exc:
        first = exc.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return event


async def _owners(session: AsyncSession, keys: set[str]) -> dict[str, str]:
    query = select(ApiKey.public_name, ApiKey.owner).where(ApiKey.public_name.in_(keys))
    return {row.public_name: row.owner for row in await session.execute(query)}


def _row(event: UsageEvent, gateway: str, received: datetime, owners: dict[str, str]) -> UsageRow:
    tokens = event.tokens
    return UsageRow(
        id=event.id,
        ts=datetime.fromtimestamp(event.ts, UTC),
        received_at=received,
        gateway=gateway,
        request_id=event.request_id[:255],
        key=event.key,
        team=(event.team or "")[:120],
        owner=owners.get(event.key, ""),
        operation=event.operation[:32],
        model=event.model[:255],
        route=event.route,
        endpoint=(event.endpoint or "")[:200],
        upstream_model=(event.upstream_model or "")[:255],
        snapshot=event.snapshot,
        stream=event.stream,
        end=event.end,
        status=event.status,
        error=event.error[:64],
        usage_source=event.usage_source,
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
        reasoning_tokens=tokens.reasoning,
        cost_nano=event.cost_nano,
        ttft_ms=event.ttft_ms,
        duration_ms=event.duration_ms,
        attempts=[attempt.model_dump() for attempt in event.attempts],
        retrieval=event.retrieval.model_dump() if event.retrieval is not None else None,
        cache=event.cache.model_dump() if event.cache is not None else None,
        shadow_of=event.shadow_of,
    )


async def _touch_keys(session: AsyncSession, rows: Sequence[UsageRow]) -> None:
    last: dict[str, datetime] = {}
    for row in rows:
        last[row.key] = max(row.ts, last.get(row.key, row.ts))
    uses = [{"public_name": name, "last_used_at": moment} for name, moment in last.items()]
    known = KeyUse.__table__.c.last_used_at
    await upsert(
        session,
        cast(Table, KeyUse.__table__),
        ["public_name"],
        uses,
        lambda new: {"last_used_at": case((known < new.last_used_at, new.last_used_at), else_=known)},
    )
