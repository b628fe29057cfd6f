"""`/api/v1/runs/{id}/shares` and `/api/v1/shared`: links to a run's report."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from control.comparisons import share_schemas as schemas, shares
from control.deps import Db, allow
from control.errors import answers
from control.kit.permissions import Person

router = APIRouter(tags=["comparisons"])
Reader = Annotated[Person, Depends(allow("comparisons:list"))]
Writer = Annotated[Person, Depends(allow("comparisons:own"))]
Anyone = Annotated[Person, Depends(allow("shared:read"))]


@router.get("/runs/{id}/shares")
async def list_shares(id: str, session: Db, person: Reader) -> schemas.Shares:
    """Links to the run's report, without their secrets, the newest first."""
    rows = await shares.listed(session, person, id)
    return schemas.Shares(items=[schemas.Share.model_validate(row, from_attributes=True) for row in rows])


@router.post("/runs/{id}/shares", status_code=201)
async def create_share(id: str, body: schemas.ShareCreate, session: Db, person: Writer) -> schemas.ShareMade:
    """Make a link by which whoever is signed in sees the run's report, and nothing else of it. Its secret is shown
    this once."""
    row, token = await shares.create(session, person, id, body)
    share = schemas.Share.model_validate(row, from_attributes=True)
    return schemas.ShareMade(**share.model_dump(), token=token)


@router.delete("/runs/{id}/shares/{share}", status_code=204)
async def revoke_share(id: str, share: str, session: Db, person: Writer) -> None:
    """End a link at once."""
    await shares.revoke(session, person, id, share)


@router.post("/shared", responses=answers(404))
async def open_shared(body: schemas.ShareOpen, session: Db, person: Anyone) -> schemas.SharedReport:
    """The report that a link leads to. The secret is in the body, since addresses are written to logs."""
    return await shares.opened(session, body.token)
