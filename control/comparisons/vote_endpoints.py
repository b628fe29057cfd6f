"""`/api/v1/votes`: what people say of answers side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from control.comparisons import vote_schemas as schemas, votes
from control.deps import Db, allow
from control.kit.pages import Page, Paging, paginate
from control.kit.permissions import Person
from control.kit.schemas import Moment

router = APIRouter(prefix="/votes", tags=["comparisons"])
Reader = Annotated[Person, Depends(allow("comparisons:list"))]
Writer = Annotated[Person, Depends(allow("comparisons:own"))]
Since = Annotated[Moment | None, Query(description="Votes from this moment on.")]
Blind = Annotated[bool | None, Query(description="Only those in which names were hidden, or only the others.")]


@router.get("")
async def list_votes(
    session: Db, person: Reader, paging: Paging, since: Since = None, blind: Blind = None
) -> Page[schemas.Vote]:
    """Votes, the newest first: all with `comparisons:read`, yours without."""
    return await paginate(session, votes.visible(person, since, blind), paging, votes.shown)


@router.post("", status_code=201)
async def create_vote(body: schemas.VoteCreate, session: Db, person: Writer) -> schemas.Vote:
    """Say which answer is better."""
    return votes.shown(await votes.create(session, person, body))


@router.get("/report")
async def report_votes(session: Db, person: Reader, since: Since = None, blind: Blind = None) -> schemas.VoteReport:
    """How routes did in the votes that you may see: wins, and ratings with intervals."""
    return await votes.report(session, votes.visible(person, since, blind))


@router.delete("/{id}", status_code=204)
async def delete_vote(id: str, session: Db, person: Writer) -> None:
    """Take a vote back: yours, or with `comparisons:write` anybody's. Datasets made of it keep their rows."""
    await votes.delete(session, person, id)
