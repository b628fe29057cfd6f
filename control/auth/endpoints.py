"""`/api/v1/auth`: sign in, stay signed in, sign out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Cookie, Depends, Request, Response
from sqlalchemy import select

from control.auth import service
from control.auth.schemas import Login, Me, PasswordChange, Tokens
from control.deps import Control, Db, Parts, address, allow, public
from control.errors import Problem
from control.kit.permissions import Person
from control.models import Membership, Team

router = APIRouter(prefix="/auth", tags=["auth"])
COOKIE = "tunegate_refresh"
_PATH = "/api/v1/auth"
Myself = Annotated[Person, Depends(allow("self"))]
RefreshCookie = Annotated[str | None, Cookie(alias=COOKIE)]


@router.post("/login")
async def login(
    body: Login, request: Request, response: Response, parts: Parts, _: Annotated[None, Depends(public)]
) -> Tokens:
    """Sign in with a password."""
    return _answer(response, request, parts, await service.login(parts, body.username, body.password, address(request)))


@router.post("/refresh")
async def refresh(
    request: Request, response: Response, parts: Parts, _: Annotated[None, Depends(public)], token: RefreshCookie = None
) -> Tokens:
    """New tokens for the refresh cookie, which is used up by this."""
    signed_in = None
    if token:
        async with parts.db.write() as session:
            signed_in = await service.refresh(session, parts, token, address(request))
    if signed_in is None:
        raise Problem(401, "not_signed_in", "this login has ended: sign in again")
    return _answer(response, request, parts, signed_in)


@router.post("/logout", status_code=204)
async def logout(
    response: Response, session: Db, _: Annotated[None, Depends(public)], token: RefreshCookie = None
) -> None:
    """End this login."""
    if token:
        await service.logout(session, token)
    response.delete_cookie(COOKIE, path=_PATH)


@router.post("/password")
async def change_password(
    body: PasswordChange, request: Request, response: Response, parts: Parts, session: Db, me: Myself
) -> Tokens:
    """Change one's own password; every other login of the account ends."""
    user = await service.change_password(session, me.id, body.current, body.new, me.address)
    return _answer(response, request, parts, await service.sign_in_again(session, parts, user, me.address))


@router.get("/me")
async def get_me(session: Db, me: Myself) -> Me:
    """Who is signed in."""
    teams = select(Team.name).join(Membership, Membership.team_id == Team.id).where(Membership.user_id == me.id)
    return Me(
        username=me.username,
        role=me.role,
        must_change_password=me.must_change_password,
        permissions=sorted(me.permissions),
        teams=sorted(await session.scalars(teams)),
    )


def _answer(response: Response, request: Request, parts: Control, signed_in: service.SignedIn) -> Tokens:
    console = parts.settings.console
    response.set_cookie(
        COOKIE, signed_in.refresh, max_age=console.refresh_token_seconds, path=_PATH, httponly=True,
        samesite="strict", secure=request.url.scheme == "https",
    )  # fmt: skip
    response.headers["cache-control"] = "no-store"
    return Tokens(access_token=signed_in.access, expires_in=console.access_token_seconds)
