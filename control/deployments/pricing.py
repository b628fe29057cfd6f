"""What an adapter's answers cost: what was said at its publication, else what its base model costs there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.models import Endpoint, Route
from control.snapshots.book import Book


async def of_base(session: AsyncSession, endpoints: Sequence[str], bases: Sequence[str]) -> dict[str, Any] | None:
    """Price of a base model at these endpoints: that of the first enabled route, by name, that leads to it and has one,
    else the price book's; None if nobody has said any. `bases`: its name at each endpoint.
    """
    book = await Book.load(session)
    providers = {row.name: row.provider for row in await session.scalars(select(Endpoint))}
    places = set(zip(endpoints, bases, strict=True))
    routes = await session.scalars(select(Route).where(Route.enabled).order_by(Route.name))
    for spec, target in [
        *((route.spec, target) for route in routes for target in route.spec.get("target", ())),
        *(({}, {"endpoint": endpoint, "model": base}) for endpoint, base in sorted(places)),
    ]:
        if (target["endpoint"], target.get("model")) in places:
            price, _ = book.price_of(spec, target, providers.get(target["endpoint"], ""))
            if price is not None:
                return dict(price)
    return None
