"""`/api/v1/keys`: API keys. People without `keys:read` see their own and their teams'."""

from __future__ import annotations

from collections.abc import Sequence
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
from control.kit.schemas import Moment
from control.models import KeyUse
from control.models.base import now
from control.usage.budgets import spending

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
    expires_before: Moment | None = None,
) -> Page[ApiKey]:
    """Keys, the newest first; with `expires_before` those that have not expired yet and will have by then."""
    query = select(models.ApiKey).where(service.visible_to(person, await teams_of(session, person.id)))
    if search:
        query = query.where(contains(search, [models.ApiKey.public_name, models.ApiKey.prefix, models.ApiKey.note]))
    if owner:
        query = query.where(models.ApiKey.owner == owner)
    if state == "revoked":
        query = query.where(models.ApiKey.revoked_at.is_not(None))
    elif state != "all":
        query = query.where(models.ApiKey.revoked_at.is_(None), models.ApiKey.enabled.is_(state == "active"))
    if expires_before is not None:
        query = query.where(models.ApiKey.expires_at > now(), models.ApiKey.expires_at < expires_before)
    page = await paginate(session, query.order_by(models.ApiKey.seq.desc()), paging, lambda row: row)
    items = await _shown(session, page.items)
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("", status_code=201)
async def create_key(body: ApiKeyCreate, session: Db, person: User) -> ApiKeyWithSecret:
    """Mint a key. Its secret is in this answer and nowhere else."""
    key, secret = await service.create(session, person, body)
    return ApiKeyWithSecret(**(await _one(session, key)).model_dump(), secret=secret)


@router.post("/revoke", responses=answers(404))
async def revoke_keys(body: ApiKeysRevoke, session: Db, person: User) -> ApiKeysRevoked:
    """End several keys for good: all or none."""
    return ApiKeysRevoked(revoked=await service.revoke(session, person, body.names))


@router.get("/{public_name}")
async def get_key(public_name: str, session: Db, person: Reader) -> ApiKey:
    """One key."""
    return await _one(session, await service.find(session, person, public_name))


@router.patch("/{public_name}")
async def update_key(public_name: str, body: ApiKeyUpdate, session: Db, person: User) -> ApiKey:
    """Change a key; gateways know within two seconds."""
    return await _one(session, await service.update(session, person, public_name, body))


@router.post("/{public_name}/rotate")
async def rotate_key(public_name: str, body: ApiKeyRotate, session: Db, person: User) -> ApiKeyWithSecret:
    """Give a key a new secret, shown this once."""
    key, secret = await service.rotate(session, person, public_name, body)
    return ApiKeyWithSecret(**(await _one(session, key)).model_dump(), secret=secret)


@router.delete("/{public_name}")
async def revoke_key(public_name: str, session: Db, person: User) -> ApiKeysRevoked:
    """End a key for good; gateways refuse it within a second."""
    return ApiKeysRevoked(revoked=await service.revoke(session, person, [public_name]))


async def _one(session: AsyncSession, key: models.ApiKey) -> ApiKey:
    return (await _shown(session, [key]))[0]


async def _shown(session: AsyncSession, keys: Sequence[models.ApiKey]) -> list[ApiKey]:
    """Keys with their last use and what their budgets have been spent: two queries, however many keys."""
    query = select(KeyUse.public_name, KeyUse.last_used_at).where(KeyUse.public_name.in_([k.public_name for k in keys]))
    last = {row.public_name: row.last_used_at for row in await session.execute(query)}
    spent = await spending(session, "key", {key.public_name: key.budgets or () for key in keys})
    stored = [name for name in ApiKey.model_fields if name not in ("last_used_at", "spending")]
    return [
        ApiKey.model_validate(
            {name: getattr(key, name) for name in stored}
            | {"last_used_at": last.get(key.public_name), "spending": spent[key.public_name]}
        )
        for key in keys
    ]
