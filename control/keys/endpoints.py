"""`/api/v1/keys`: API keys. People without `keys:read` see their own and their teams'."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control import models
from control.deps import Db, allow
from control.errors import answers
from control.keys import service
from control.keys.schemas import (
    ApiKey,
    ApiKeyCreate,
    ApiKeyRotate,
    ApiKeysRevoke,
    ApiKeyUpdate,
    ApiKeyWithSecret,
)
from control.kit.membership import teams_of
from control.kit.pages import Page, Paging, Search, contains, paginate
from control.kit.permissions import Person
from control.models import KeyUse

router = APIRouter(prefix="/keys", tags=["keys"])
User = Annotated[Person, Depends(allow("keys:own"))]
Reader = Annotated[Person, Depends(allow("keys:list"))]


class ApiKeysRevoked(BaseModel):
    """How many keys have ended."""

    revoked: int


@router.get("")
async def list_keys(
    session: Db,
    person: Reader,
    paging: Paging,
    search: Search = None,
    owner: Annotated[str | None, Query(max_length=120)] = None,
    state: Literal["active", "disabled", "revoked", "all"] = "all",
) -> Page[ApiKey]:
    """Keys, the newest first."""
    query = select(models.ApiKey).where(service.visible_to(person, await teams_of(session, person.id)))
    if search:
        query = query.where(contains(search, [models.ApiKey.public_name, models.ApiKey.prefix, models.ApiKey.note]))
    if owner:
        query = query.where(models.ApiKey.owner == owner)
    if state == "revoked":
        query = query.where(models.ApiKey.revoked_at.is_not(None))
    elif state != "all":
        query = query.where(models.ApiKey.revoked_at.is_(None), models.ApiKey.enabled.is_(state == "active"))
    page = await paginate(session, query.order_by(models.ApiKey.seq.desc()), paging, lambda row: row)
    last = await _last_used(session, [row.public_name for row in page.items])
    items = [_shown(row, last.get(row.public_name)) for row in page.items]
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("", status_code=201)
async def create_key(body: ApiKeyCreate, session: Db, person: User) -> ApiKeyWithSecret:
    """Mint a key. Its secret is in this answer and nowhere else."""
    key, secret = await service.create(session, person, body)
    return ApiKeyWithSecret(**_shown(key, None).model_dump(), secret=secret)


@router.post("/revoke", responses=answers(404))
async def revoke_keys(body: ApiKeysRevoke, session: Db, person: User) -> ApiKeysRevoked:
    """End several keys for good: all or none."""
    return ApiKeysRevoked(revoked=await service.revoke(session, person, body.names))


@router.get("/{public_name}")
async def get_key(public_name: str, session: Db, person: Reader) -> ApiKey:
    """One key."""
    key = await service.find(session, person, public_name)
    return _shown(key, (await _last_used(session, [public_name])).get(public_name))


@router.patch("/{public_name}")
async def update_key(public_name: str, body: ApiKeyUpdate, session: Db, person: User) -> ApiKey:
    """Change a key; gateways know within two seconds."""
    key = await service.update(session, person, public_name, body)
    return _shown(key, (await _last_used(session, [public_name])).get(public_name))


@router.post("/{public_name}/rotate")
async def rotate_key(public_name: str, body: ApiKeyRotate, session: Db, person: User) -> ApiKeyWithSecret:
    """Give a key a new secret, shown this once."""
    key, secret = await service.rotate(session, person, public_name, body)
    last = (await _last_used(session, [public_name])).get(public_name)
    return ApiKeyWithSecret(**_shown(key, last).model_dump(), secret=secret)


@router.delete("/{public_name}")
async def revoke_key(public_name: str, session: Db, person: User) -> ApiKeysRevoked:
    """End a key for good; gateways refuse it within a second."""
    return ApiKeysRevoked(revoked=await service.revoke(session, person, [public_name]))


async def _last_used(session: AsyncSession, names: Sequence[str]) -> dict[str, datetime]:
    query = select(KeyUse.public_name, KeyUse.last_used_at).where(KeyUse.public_name.in_(names))
    return {row.public_name: row.last_used_at for row in await session.execute(query)}


def _shown(key: models.ApiKey, last_used_at: datetime | None) -> ApiKey:
    fields = {name: getattr(key, name) for name in ApiKey.model_fields if name != "last_used_at"}
    return ApiKey.model_validate(fields | {"last_used_at": last_used_at})
