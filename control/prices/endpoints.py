"""`/api/v1/prices`: the price book, what it lacks, list prices to start from, and what something would cost."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy import select

from control import models
from control.deps import Db, allow
from control.errors import answers
from control.kit.pages import Page, Paging, Search, contains, paginate
from control.kit.permissions import Person
from control.prices import defaults, service
from control.prices.schemas import CostQuestion, Costs, ListPrices, PriceCreate, PriceVersion, UnpricedTargets
from control.routes.service import find
from control.snapshots.book import Book, in_effect

router = APIRouter(prefix="/prices", tags=["prices"])
Reader = Annotated[Person, Depends(allow("endpoints:read"))]
Writer = Annotated[Person, Depends(allow("routes:write"))]
Anyone = Annotated[Person, Depends(allow("routes:read"))]
Text = Annotated[str | None, Query(max_length=160)]


@router.get("")
async def list_prices(
    session: Db,
    _: Reader,
    paging: Paging,
    search: Search = None,
    endpoint: Text = None,
    provider: Text = None,
    model: Text = None,
    state: service.State | None = None,
) -> Page[PriceVersion]:
    """Versions in the price book, the newest first. `state=current` is what counts now."""
    book, moment = await Book.load(session), await in_effect(session)
    current = {version.id for version in book.prices.values()}
    query = select(models.PriceVersion)
    for kind, name in (("endpoint", endpoint), ("provider", provider)):
        if name is not None:
            query = query.where(models.PriceVersion.kind == kind, models.PriceVersion.name == name)
    if model is not None:
        query = query.where(models.PriceVersion.model == model)
    if search:
        query = query.where(contains(search, [models.PriceVersion.name, models.PriceVersion.model]))
    if state is not None:
        query = query.where(service.in_state(state, moment))

    def shown(row: models.PriceVersion) -> PriceVersion:
        if row.effective_from > moment:
            return _shown(row, "future")
        return _shown(row, "current" if row.id in current else "past")

    return await paginate(session, query.order_by(models.PriceVersion.id.desc()), paging, shown)


@router.post("", status_code=201)
async def create_price(body: PriceCreate, session: Db, person: Writer) -> PriceVersion:
    """Add a version; gateways charge by it within two seconds of its moment. What was charged before stays."""
    return _shown(await service.add(session, person, body), "future" if body.effective_from else "current")


@router.get("/defaults")
async def list_default_prices(_: Anyone, search: Search = None) -> ListPrices:
    """List prices of well-known models, to start from: nothing is charged by them."""
    return ListPrices(items=defaults.find(search or ""))


@router.get("/unpriced")
async def list_unpriced_targets(session: Db, _: Reader) -> UnpricedTargets:
    """Targets that are being served at no charge, because nobody has said a price."""
    return UnpricedTargets(items=await service.unpriced(session))


@router.post("/costs", responses=answers(404))
async def calculate_costs(body: CostQuestion, session: Db, person: Reader) -> Costs:
    """What tokens would cost now at each target of a route."""
    return Costs(targets=await service.costs(session, await find(session, person, body.route), body))


def _shown(row: models.PriceVersion, state: service.State) -> PriceVersion:
    return PriceVersion.model_validate(
        {
            "number": row.id,
            "endpoint": row.name if row.kind == "endpoint" else None,
            "provider": row.name if row.kind == "provider" else None,
            "state": state,
        }
        | {name: getattr(row, name) for name in (
            "model", "price", "currency", "source", "effective_from", "created_at", "created_by"
        )}
    )  # fmt: skip
