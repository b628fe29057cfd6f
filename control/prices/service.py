"""The price book: versions are added and never changed; what of it is missing; what something would cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from control.db import lock
from control.errors import FieldError, invalid
from control.kit.audit import note
from control.kit.permissions import Person
from control.models import Endpoint, PriceVersion, Route
from control.models.base import now
from control.prices import defaults
from control.prices.schemas import CostQuestion, PriceCreate, TargetCost, UnpricedTarget
from control.snapshots.book import Book, take_effect
from gateway.contract.providers import KINDS
from gateway.contract.snapshot import Price

State = Literal["past", "current", "future"]
FARTHEST = timedelta(days=3660)
_NANO_PER_MILLION = 10**9
_MILLION = 10**6


async def add(session: AsyncSession, person: Person, body: PriceCreate) -> PriceVersion:
    """Add a version. One from now on is published with this transaction, a later one when its time comes."""
    await lock(session, "config")
    moment = now()
    if problems := [*await _places(session, body), *_times(body.effective_from, moment)]:
        raise invalid(problems)
    kind, name = ("endpoint", body.endpoint) if body.endpoint is not None else ("provider", body.provider or "")
    version = PriceVersion(
        kind=kind, name=name, model=body.model, effective_from=body.effective_from or moment,
        price=body.price.model_dump(mode="json"), currency=body.currency, source=body.source, created_at=moment,
        created_by=person.username,
    )  # fmt: skip
    session.add(version)
    await session.flush()
    if body.effective_from is None:
        await take_effect(session, moment)
    after = {"price": version.price, "effective_from": version.effective_from.isoformat(), "source": body.source}
    note(session, person.actor, "create", "price", f"{kind} {name}: {body.model}"[:250], after=after)
    return version


async def _places(session: AsyncSession, body: PriceCreate) -> list[FieldError]:
    if body.provider is not None and body.provider not in KINDS:
        return [FieldError(at="body.provider", message=f"there is no provider {body.provider!r}")]
    query = select(Endpoint.id).where(Endpoint.name == body.endpoint)
    if body.endpoint is not None and await session.scalar(query) is None:
        return [FieldError(at="body.endpoint", message=f"there is no endpoint {body.endpoint!r}")]
    return []


def _times(asked: datetime | None, moment: datetime) -> list[FieldError]:
    if asked is not None and asked <= moment:
        return [FieldError(at="body.effective_from", message="is in the past: leave it out for a price from now on")]
    if asked is not None and asked > moment + FARTHEST:
        return [FieldError(at="body.effective_from", message="is more than ten years away")]
    return []


def in_state(state: State, moment: datetime) -> ColumnElement[bool]:
    """Condition on versions; `moment` is that up to which they are in effect."""
    if state == "future":
        return PriceVersion.effective_from > moment
    later = aliased(PriceVersion)
    newer = or_(
        later.effective_from > PriceVersion.effective_from,
        and_(later.effective_from == PriceVersion.effective_from, later.id > PriceVersion.id),
    )
    same = [getattr(later, name) == getattr(PriceVersion, name) for name in ("kind", "name", "model")]
    replaced = exists().where(*same, later.effective_from <= moment, newer)
    return and_(PriceVersion.effective_from <= moment, replaced if state == "past" else ~replaced)


async def unpriced(session: AsyncSession) -> list[UnpricedTarget]:
    """Targets of enabled routes at enabled endpoints, with a weight, that cost nothing because nobody said a price."""
    book = await Book.load(session)
    providers = {row.name: row.provider for row in await session.scalars(select(Endpoint).where(Endpoint.enabled))}
    found = []
    for route in await session.scalars(select(Route).where(Route.enabled).order_by(Route.name)):
        for target in route.spec["target"]:
            endpoint, model = target["endpoint"], target.get("model") or ""
            if endpoint in providers and target.get("weight", 1):
                _, origin = book.price_of(route.spec, target, providers[endpoint])
                if origin == "none":
                    suggestion = defaults.of_model(model)
                    found.append(
                        UnpricedTarget(route=route.name, endpoint=endpoint, model=model, suggestion=suggestion)
                    )
    return found


async def costs(session: AsyncSession, route: Route, asked: CostQuestion) -> list[TargetCost]:
    """What tokens cost now at each target of a route."""
    book = await Book.load(session)
    names = [target["endpoint"] for target in route.spec["target"]]
    rows = await session.scalars(select(Endpoint).where(Endpoint.name.in_(names)))
    providers = {row.name: row.provider for row in rows}
    found = []
    for target in route.spec["target"]:
        endpoint = target["endpoint"]
        said, origin = book.price_of(route.spec, target, providers.get(endpoint, ""))
        price = Price.model_validate(said or {})
        found.append(
            TargetCost(
                endpoint=endpoint, model=target.get("model") or "", price=price, origin=origin,
                cost_nano=cost(price, asked),
            )
        )  # fmt: skip
    return found


def cost(price: Price, asked: CostQuestion) -> int:
    """Nano-units, rounded once and half up, as gateways do."""
    tokens = (
        asked.input_tokens, asked.cache_read_tokens, asked.cache_write_tokens, asked.output_tokens,
        asked.reasoning_tokens,
    )  # fmt: skip
    cached = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    reasoning = price.output if price.reasoning is None else price.reasoning
    prices: Sequence[Decimal] = (price.input, cached, written, price.output, reasoning)
    total = sum(count * int(one * _NANO_PER_MILLION) for count, one in zip(tokens, prices, strict=True))
    return (total + _MILLION // 2) // _MILLION
