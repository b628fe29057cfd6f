"""What a target costs: the one rule that snapshots and the API both follow.

A target's own price counts first, then its route's (unless that is zero throughout, which means: none), then the price
book's for the endpoint and the upstream's model, then the book's for every endpoint of the provider. The book is
append-only: of the versions in effect the one with the latest `effective_from` counts, of two such the later written.

Versions are in effect up to the moment that the counter `prices` holds, in microseconds, and not up to "now": so a
snapshot's number says which prices are in it. `take_effect` moves the moment on and makes a new snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import lock, publish
from control.models import Counter, PriceVersion

Origin = Literal["target", "route", "endpoint", "provider", "none"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Book:
    """The versions that are in effect."""

    prices: Mapping[tuple[str, str, str], PriceVersion]
    """(endpoint or provider, its name, the upstream's model) -> version."""
    next_change: datetime | None
    """When the next version takes effect."""

    @classmethod
    async def load(cls, session: AsyncSession) -> Book:
        """Read it."""
        moment = await in_effect(session)
        rows = await session.scalars(
            select(PriceVersion)
            .where(PriceVersion.effective_from <= moment)
            .order_by(PriceVersion.effective_from, PriceVersion.id)
        )
        upcoming = select(func.min(PriceVersion.effective_from)).where(PriceVersion.effective_from > moment)
        return cls({(row.kind, row.name, row.model): row for row in rows}, await session.scalar(upcoming))

    def price_of(
        self, spec: Mapping[str, Any], target: Mapping[str, Any], provider: str
    ) -> tuple[Mapping[str, Any] | None, Origin]:
        """Price of a target of a route's spec, and where it comes from; None if nobody has said any."""
        if target.get("price") is not None:
            return target["price"], "target"
        price: Mapping[str, Any] = spec.get("price") or {}
        if any(Decimal(amount) for amount in price.values() if amount is not None):
            return price, "route"
        for kind, name in (("endpoint", target["endpoint"]), ("provider", provider)):
            if version := self.prices.get((kind, name, target.get("model") or "")):
                return version.price, "endpoint" if kind == "endpoint" else "provider"
        return None, "none"

    def priced(self, spec: Mapping[str, Any], providers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Targets of a route's spec, with the book's prices where they have none of their own."""
        for target in spec["target"]:
            price, origin = self.price_of(spec, target, providers.get(target["endpoint"], ""))
            yield target | {"price": price} if origin in ("endpoint", "provider") else target


async def in_effect(session: AsyncSession) -> datetime:
    """The moment up to which versions are in effect."""
    micros = await session.scalar(select(Counter.value).where(Counter.name == "prices"))
    return _EPOCH + (micros or 0) * _MICROSECOND


async def take_effect(session: AsyncSession, moment: datetime) -> bool:
    """Put into effect what is due at a moment; whether there was anything. Safe to be done by several processes."""
    await lock(session, "config")
    counter = await lock(session, "prices")
    due = select(func.max(PriceVersion.effective_from)).where(
        PriceVersion.effective_from > _EPOCH + counter.value * _MICROSECOND, PriceVersion.effective_from <= moment
    )
    latest = await session.scalar(due)
    if latest is None:
        return False
    counter.value = (latest - _EPOCH) // _MICROSECOND
    publish(session)
    return True
