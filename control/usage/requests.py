"""`/api/v1/usage/requests/{id}`: one request with its copies, and its bodies for those who may read them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.deps import Db, Parts, allow
from control.errors import Problem, not_found
from control.kit.audit import note
from control.kit.membership import teams_of
from control.kit.permissions import Person
from control.models import RequestBody, UsageRow
from control.usage import bodies
from control.usage.endpoints import LedgerRow
from control.usage.sources import visible_to

router = APIRouter(prefix="/usage/requests", tags=["usage"])
Reader = Annotated[Person, Depends(allow("usage:own"))]
BodyReader = Annotated[Person, Depends(allow("requests:bodies"))]
Id = Annotated[str, Path(max_length=36, description="`id` of the row, not the client's `request_id`.")]


class LoggedRequest(BaseModel):
    """A row of the ledger, and whether its bodies are there."""

    row: LedgerRow
    bodies: Literal["none", "kept", "erased"]
    """`none`: the route did not keep them, they were lost on their way, or their days are over."""
    kept_until: datetime | None


class RequestDetail(LoggedRequest):
    """A request, and next to it the copies that its route's shadow got."""

    shadows: list[LoggedRequest]


class RevealedBodies(BaseModel):
    """What was asked and answered, as the gateway redacted it."""

    id: str
    request: str | None
    """Null: it was not to be kept. Of a copy, it is the original's."""
    response: str | None
    """What the client was sent; of a stream, one JSON object put together from its events."""
    request_cut: bool
    response_cut: bool
    redacted: dict[str, int]
    """What was replaced, and how often."""
    kept_until: datetime


class Revealed(BaseModel):
    """Bodies of a request and of its copies; the request's own first, if they are kept."""

    items: list[RevealedBodies]


@router.get("/{id}")
async def get_request(id: Id, session: Db, person: Reader) -> RequestDetail:
    """One request. Says whether bodies are kept, and never shows them."""
    rows = await _rows(session, person, id)
    held = await bodies.states(session, [row.id for row in rows])
    first, *copies = (_described(row, held.get(row.id)) for row in rows)
    return RequestDetail(**dict(first), shadows=copies)


@router.post("/{id}/reveal")
async def reveal_bodies(id: Id, session: Db, parts: Parts, person: BodyReader) -> Revealed:
    """Read the bodies of a request and of its copies. That you did is in the audit log before you have them."""
    rows = await _rows(session, person, id)
    held = await bodies.find(session, [row.id for row in rows])
    items = [_revealed(parts, held[row.id]) for row in rows if row.id in held]
    if not items:
        raise Problem(404, "no_bodies", f"no bodies of the request {id!r} are kept")
    for item in items:
        note(session, person.actor, "reveal", "request_body", item.id)
    return Revealed(items=items)


@router.delete("/{id}/bodies", status_code=204)
async def erase_bodies(id: Id, session: Db, person: BodyReader) -> None:
    """Forget the bodies of a request and of its copies for good; the ledger's rows stay."""
    rows = await _rows(session, person, id)
    await bodies.erase(session, rows)
    for row in rows:
        note(session, person.actor, "erase", "request_body", row.id)


async def _rows(session: AsyncSession, person: Person, id: str) -> list[UsageRow]:
    """The request and its copies, which have the same request id."""
    visible = visible_to(person, await teams_of(session, person.id), UsageRow.team, UsageRow.owner)
    row = await session.scalar(select(UsageRow).where(UsageRow.id == id, visible))
    if row is None:
        raise not_found("request", id)
    same = select(UsageRow).where(UsageRow.request_id == row.request_id, UsageRow.shadow_of == row.id)
    return [row, *await session.scalars(same.order_by(UsageRow.seq))]


def _described(row: UsageRow, held: tuple[datetime, bool] | None) -> LoggedRequest:
    shown = LedgerRow.model_validate(row, from_attributes=True)
    if held is None:
        return LoggedRequest(row=shown, bodies="none", kept_until=None)
    until, erased = held
    return LoggedRequest(row=shown, bodies="erased" if erased else "kept", kept_until=None if erased else until)


def _revealed(parts: Parts, body: RequestBody) -> RevealedBodies:
    request, response = bodies.opened(parts.vault, body)
    return RevealedBodies(
        id=body.id, request=request, response=response, request_cut=body.request_cut, response_cut=body.response_cut,
        redacted=body.redacted, kept_until=body.expires_at,
    )  # fmt: skip
