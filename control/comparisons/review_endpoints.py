"""`/api/v1/runs/{id}/review`: people rate answers of a run without knowing whose they are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from control.comparisons import review_schemas as schemas, reviews
from control.deps import Db, allow
from control.kit.permissions import Person

router = APIRouter(prefix="/runs/{id}/review", tags=["comparisons"])
Reader = Annotated[Person, Depends(allow("comparisons:list"))]
Rater = Annotated[Person, Depends(allow("comparisons:own"))]
Item = Annotated[str, Path(max_length=16)]


@router.get("")
async def get_review(id: str, session: Db, person: Rater) -> schemas.Review:
    """How many of the run's answers you have rated, and the next one, in an order of your own."""
    return await reviews.review(session, person, id)


@router.get("/report")
async def report_review(id: str, session: Db, person: Reader) -> schemas.ReviewReport:
    """What people say of the run's answers, how far they agree, and how far scorers agree with them."""
    return await reviews.report(session, person, id)


@router.post("/{item}", status_code=201)
async def rate_answer(id: str, item: Item, body: schemas.RatingCreate, session: Db, person: Rater) -> schemas.Review:
    """Rate an answer, once. The first rating of a run decides its scale. What comes back has the next answer."""
    return await reviews.rate(session, person, id, item, body)


@router.delete("/{item}")
async def take_rating_back(id: str, item: Item, session: Db, person: Rater) -> schemas.Review:
    """Take your own rating back; the answer is to be rated again."""
    return await reviews.take_back(session, person, id, item)
