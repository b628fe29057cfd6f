"""Lists: bounded pages with a total, and search text that means what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    total: int
    page: int
    per_page: int


class PageQuery(BaseModel):
    """Which page of a list."""

    page: int
    per_page: int


async def _page(
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=200)] = 50,
) -> PageQuery:
    return PageQuery(page=page, per_page=per_page)


Paging = Annotated[PageQuery, Depends(_page)]
Search = Annotated[str | None, Query(max_length=200, description="Part of a name.")]


async def paginate(
    session: AsyncSession, query: Select[Any], paging: PageQuery, to_item: Callable[[Any], T]
) -> Page[T]:
    """Run an ordered query of one entity for one page, and count what it matches."""
    total = await session.scalar(select(func.count()).select_from(query.order_by(None).subquery()))
    rows = await session.scalars(query.limit(paging.per_page).offset((paging.page - 1) * paging.per_page))
    return Page(items=[to_item(row) for row in rows], total=total or 0, page=paging.page, per_page=paging.per_page)


def contains(text: str, columns: Sequence[InstrumentedAttribute[Any]]) -> ColumnElement[bool]:
    """Whether any of the columns contains the text; `%` and `_` are ordinary characters."""
    return or_(*(column.icontains(text, autoescape=True) for column in columns))
