"""`/api/v1/service-tokens`: what gateways show on the internal API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sqlalchemy import select

from control import models
from control.deps import Db, allow
from control.internal.tokens import new_service_token, revoke_service_token
from control.kit.pages import Page, Paging, paginate
from control.kit.permissions import Person
from control.kit.schemas import A_MOMENT, Body, Slug, example

router = APIRouter(prefix="/service-tokens", tags=["service tokens"])
Admin = Annotated[Person, Depends(allow("tokens:write"))]


class ServiceTokenCreate(Body):
    """A new service token."""

    model_config = example(name="gateway-1")

    name: Slug
    """Which gateway it is for."""


class ServiceToken(BaseModel):
    """A service token, without its secret."""

    model_config = example(
        name="gateway-1", prefix="st-tg-1a2b3c", created_at=A_MOMENT, created_by="alice", revoked_at=None,
    )  # fmt: skip

    name: str
    prefix: str
    created_at: datetime
    created_by: str
    revoked_at: datetime | None


class NewServiceToken(BaseModel):
    """A service token's secret, shown this once."""

    name: str
    secret: str


@router.get("")
async def list_service_tokens(session: Db, _: Admin, paging: Paging) -> Page[ServiceToken]:
    """Service tokens by name."""
    query = select(models.ServiceToken).order_by(models.ServiceToken.name)
    return await paginate(session, query, paging, lambda row: ServiceToken.model_validate(row, from_attributes=True))


@router.post("", status_code=201)
async def create_service_token(body: ServiceTokenCreate, session: Db, person: Admin) -> NewServiceToken:
    """Make a service token."""
    return NewServiceToken(name=body.name, secret=await new_service_token(session, person.actor, body.name))


@router.delete("/{name}", status_code=204)
async def revoke_token(name: str, session: Db, person: Admin) -> None:
    """End a service token: its gateway keeps serving what it has, and gets nothing new."""
    await revoke_service_token(session, person.actor, name)
