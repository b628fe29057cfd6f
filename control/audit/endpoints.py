"""`/api/v1/audit`: who changed what, and whether the log is whole."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.deps import Db, allow
from control.kit.audit import GENESIS, digest
from control.kit.pages import Page, Paging, Search, contains, paginate
from control.kit.permissions import Person
from control.kit.schemas import A_MOMENT, example
from control.models import AuditRow, Counter

router = APIRouter(prefix="/audit", tags=["audit"])
Reader = Annotated[Person, Depends(allow("audit:read"))]
Text = Annotated[str | None, Query(max_length=250)]


class AuditEntry(BaseModel):
    """One change. `before` and `after` are canonical JSON, empty where there was nothing; secrets are masked."""

    model_config = example(
        seq=1, ts=A_MOMENT, actor="alice", action="create", resource_kind="team", resource="support", before="",
        after='{"enabled":true}', address="127.0.0.1", hash="0" * 64,
    )  # fmt: skip

    seq: int
    ts: datetime
    actor: str
    action: str
    resource_kind: str
    resource: str
    before: str
    after: str
    address: str
    hash: str


class AuditVerdict(BaseModel):
    """Whether every row follows from the one before."""

    rows: int
    intact: bool
    broken_at: int | None
    """Number of the first row that does not fit; null if all do."""


@router.get("")
async def list_audit(
    session: Db,
    _: Reader,
    paging: Paging,
    search: Search = None,
    actor: Text = None,
    resource_kind: Text = None,
    resource: Text = None,
) -> Page[AuditEntry]:
    """Changes, the newest first."""
    query = select(AuditRow)
    for column, value in (
        (AuditRow.actor, actor),
        (AuditRow.resource_kind, resource_kind),
        (AuditRow.resource, resource),
    ):
        if value is not None:
            query = query.where(column == value)
    if search:
        query = query.where(contains(search, [AuditRow.resource, AuditRow.action, AuditRow.actor]))
    return await paginate(
        session,
        query.order_by(AuditRow.seq.desc()),
        paging,
        lambda row: AuditEntry.model_validate(row, from_attributes=True),
    )


@router.get("/verify")
async def verify_audit(session: Db, _: Reader) -> AuditVerdict:
    """Compute the hash chain again, from the first row to the head."""
    return await verify(session)


async def verify(session: AsyncSession) -> AuditVerdict:
    """Walk the chain; a changed, missing or added row is where it breaks."""
    previous, count = GENESIS, 0
    rows = await session.stream_scalars(select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=1000))
    async for row in rows:
        count += 1
        if row.seq != count or row.previous_hash != previous or digest(row) != row.hash:
            return AuditVerdict(rows=count, intact=False, broken_at=count)
        previous = row.hash
    head = await session.get_one(Counter, "audit")
    intact = head.value == count and (head.text or GENESIS) == previous
    return AuditVerdict(rows=count, intact=intact, broken_at=None if intact else count + 1)
