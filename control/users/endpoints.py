"""`/api/v1/users`: the people of this installation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sqlalchemy import select

from control import models
from control.deps import Db, Parts, allow
from control.kit.pages import Page, Paging, Search, contains, paginate
from control.kit.permissions import Person, Role
from control.users import service
from control.users.schemas import SsoLink, User, UserCreate, UserCreated, UserUpdate

router = APIRouter(prefix="/users", tags=["users"])
Reader = Annotated[Person, Depends(allow("users:read"))]
Writer = Annotated[Person, Depends(allow("users:write"))]


class NewPassword(BaseModel):
    """A password, shown this once."""

    password: str


@router.get("")
async def list_users(
    session: Db, _: Reader, paging: Paging, search: Search = None, role: Role | None = None
) -> Page[User]:
    """People, by name."""
    query = select(models.User).order_by(models.User.username)
    if search:
        query = query.where(contains(search, [models.User.username, models.User.display_name, models.User.email]))
    if role:
        query = query.where(models.User.role == role)
    return await paginate(session, query, paging, _shown)


@router.post("", status_code=201)
async def create_user(body: UserCreate, session: Db, person: Writer) -> UserCreated:
    """Add a person."""
    user, password = await service.create(session, person, body)
    return UserCreated(**_shown(user).model_dump(), generated_password=password)


@router.get("/{username}")
async def get_user(username: str, session: Db, _: Reader) -> User:
    """One person."""
    return _shown(await service.find(session, username))


@router.patch("/{username}")
async def update_user(username: str, body: UserUpdate, session: Db, person: Writer) -> User:
    """Change a person."""
    return _shown(await service.update(session, person, username, body))


@router.post("/{username}/reset-password")
async def reset_password(username: str, session: Db, person: Writer) -> NewPassword:
    """Make a new password for a person; every login of theirs ends."""
    return NewPassword(password=await service.reset_password(session, person, username))


@router.put("/{username}/sso")
async def link_sso(username: str, body: SsoLink, parts: Parts, session: Db, person: Writer) -> User:
    """Let a person sign in at the identity provider, and no longer with a password; every login of theirs ends."""
    return _shown(await service.link(session, parts.settings.oidc, person, username, body))


@router.delete("/{username}/sso", status_code=204)
async def unlink_sso(username: str, session: Db, person: Writer) -> None:
    """End the link with the identity provider; every login of the person ends."""
    await service.unlink(session, person, username)


def _shown(user: models.User) -> User:
    return User.model_validate(user, from_attributes=True)
