"""`/api/v1/auth`: sign in, stay signed in, sign out."""

from __future__ import annotations

import logging
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Cookie, Depends, Query, Request, Response
from sqlalchemy import select

from control.auth import service, sso
from control.auth.schemas import Login, Me, Methods, PasswordChange, SingleSignOn, Tokens
from control.deps import Control, Db, Parts, address, allow, public
from control.errors import Problem, answers
from control.kit.oidc import Flow, Provider, SsoError
from control.kit.permissions import Person
from control.models import Membership, Team

router = APIRouter(prefix="/auth", tags=["auth"])
COOKIE = "tunegate_refresh"
FLOW_COOKIE = "tunegate_sso"
_PATH = "/api/v1/auth"
_FLOW_PATH = "/api/v1/auth/oidc"
_LONGEST_FORM = 65_536
"""Bytes of a form with a logout token."""
log = logging.getLogger("tunegate.control.auth")
Myself = Annotated[Person, Depends(allow("self"))]
ReturnTo = Annotated[str, Query(max_length=500, pattern=r"^/(?:[!-.0-\[\]-~][!-\[\]-~]*)?$")]
"""A path of this host: with a second slash, or what browsers take for one, it would be another host's."""
RefreshCookie = Annotated[str | None, Cookie(alias=COOKIE)]


@router.get("/methods")
async def get_methods(parts: Parts, _: Annotated[None, Depends(public)]) -> Methods:
    """Which ways of signing in there are."""
    oidc = parts.settings.oidc
    return Methods(password=oidc.password_sign_in, oidc=SingleSignOn(name=oidc.name) if oidc.issuer else None)


@router.post("/login", responses=answers(401, 429, 503))
async def login(
    body: Login, request: Request, response: Response, parts: Parts, _: Annotated[None, Depends(public)]
) -> Tokens:
    """Sign in with a password."""
    return _answer(response, request, parts, await service.login(parts, body.username, body.password, address(request)))


@router.post("/refresh", responses=answers(401, 503))
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


@router.post("/logout", status_code=204, responses=answers(503))
async def logout(
    response: Response, session: Db, _: Annotated[None, Depends(public)], token: RefreshCookie = None
) -> None:
    """End this login."""
    if token:
        await service.logout(session, token)
    response.delete_cookie(COOKIE, path=_PATH)


@router.post("/password", responses=answers(429))
async def change_password(
    body: PasswordChange, request: Request, response: Response, parts: Parts, session: Db, me: Myself
) -> Tokens:
    """Change one's own password; every other login of the account ends."""
    user = await service.change_password(session, me.id, body.current, body.new, me.address)
    return _answer(response, request, parts, await service.new_login(session, parts, user, me.address))


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


_ELSEWHERE: dict[int | str, dict[str, Any]] = {303: {"description": "Where the browser goes on"}}


@router.get("/oidc/start", status_code=303, response_class=Response, responses=_ELSEWHERE)
async def start_oidc(
    request: Request, parts: Parts, _: Annotated[None, Depends(public)], return_to: ReturnTo = "/"
) -> Response:
    """Send the browser to the identity provider; afterwards it comes to `return_to`, a path of the console."""
    provider, flow = _provider(parts), Flow.begin(return_to)
    try:
        url = await provider.authorize_url(flow)
    except SsoError as exc:
        return _failed(exc)
    response = _go(url)
    response.set_cookie(
        FLOW_COOKIE, sso.sealed(parts, flow), max_age=sso.FLOW_SECONDS, path=_FLOW_PATH, httponly=True,
        samesite="lax", secure=_secure(request, parts),
    )  # fmt: skip
    return response


@router.get("/oidc/callback", status_code=303, response_class=Response, responses=_ELSEWHERE)
async def finish_oidc(
    request: Request,
    parts: Parts,
    _: Annotated[None, Depends(public)],
    code: Annotated[str, Query(max_length=8192)] = "",
    state: Annotated[str, Query(max_length=500)] = "",
    error: Annotated[str, Query(max_length=500)] = "",
    iss: Annotated[str | None, Query(max_length=2000)] = None,
    cookie: Annotated[str, Cookie(alias=FLOW_COOKIE)] = "",
) -> Response:
    """Where the provider sends the browser back. Sets the refresh cookie and nothing in the URL: the console calls
    `refresh`, as whenever it is opened. A failure goes to `/login?sso_error=CODE`.
    """
    provider, caller = _provider(parts), address(request)
    if parts.throttle.take("sso", caller):
        return _failed(SsoError("sso_paused", "too many failures from this network"))
    try:
        flow = sso.opened(parts, cookie, state)
        _check_answer(provider, code, error, iss)
        signed_in = await sso.sign_in(parts, await provider.identify(flow, code), caller)
    except SsoError as exc:
        await sso.refused(parts, exc, caller)
        return _failed(exc)
    parts.throttle.give_back("sso", caller)
    response = _go(flow.return_to)
    response.delete_cookie(FLOW_COOKIE, path=_FLOW_PATH)
    _remember(response, request, parts, signed_in)
    return response


_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["logout_token"],
                    "properties": {"logout_token": {"type": "string"}},
                },
                "examples": {"a token": {"value": {"logout_token": "eyJ…"}}},
            }
        },
    }
}


_ENDED: dict[int | str, dict[str, Any]] = {200: {"description": "What it names has ended, if there was any"}}


@router.post(
    "/oidc/backchannel-logout", response_class=Response, responses=_ENDED | answers(400, 429, 503),
    openapi_extra=_FORM,
)  # fmt: skip
async def end_oidc_sessions(request: Request, parts: Parts, _: Annotated[None, Depends(public)]) -> Response:
    """Where the identity provider tells that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0).
    Ends the logins of the session, or of the person, that its logout token names.
    """
    provider, caller = _provider(parts), address(request)
    if wait := parts.throttle.take("logout", caller):
        raise Problem(429, "login_paused", f"too many bad logout tokens: try again in {wait} s", retry_after=wait)
    body = await request.body()
    if len(body) > _LONGEST_FORM:
        raise Problem(413, "too_large", f"the body is larger than {_LONGEST_FORM} bytes")
    tokens = parse_qs(body.decode("ascii", "replace")).get("logout_token", [])
    if len(tokens) != 1:
        raise Problem(422, "logout_token_missing", "the body is not a form with one `logout_token`")
    try:
        gone = await provider.logged_out(tokens[0])
    except SsoError as exc:
        log.warning("back-channel logout failed: %s: %s", exc.code, exc.detail)
        if exc.code.startswith("sso_token"):
            raise Problem(400, "logout_token_invalid", exc.detail) from exc
        raise Problem(503, exc.code, "the provider's keys cannot be fetched now: try again", retry_after=5) from exc
    parts.throttle.give_back("logout", caller)
    async with parts.db.write() as session:
        await sso.log_out(session, gone, provider.client.issuer, caller)
    return Response(headers={"cache-control": "no-store"})


def _provider(parts: Control) -> Provider:
    if parts.oidc is None:
        raise Problem(404, "sso_off", "single sign-on is not configured here")
    return parts.oidc


def _check_answer(provider: Provider, code: str, error: str, iss: str | None) -> None:
    if iss is not None and iss != provider.client.issuer:
        raise SsoError("sso_state", "the answer says that it is from another issuer")
    if error == "access_denied":
        raise SsoError("sso_denied", "the sign-in was refused at the provider, by the person or by its rules")
    if error or not code:
        said = error if error.isascii() and error.isprintable() else "something unreadable"
        raise SsoError("sso_provider_refused", f"the provider answers with {said[:100]!r} instead of a code")


def _failed(error: SsoError) -> Response:
    """To the login page, which knows words for the code; the log keeps the details."""
    log.warning("single sign-on failed: %s: %s", error.code, error.detail)
    response = _go(f"/login?sso_error={error.code}")
    response.delete_cookie(FLOW_COOKIE, path=_FLOW_PATH)
    return response


def _go(url: str) -> Response:
    headers = {"location": url, "cache-control": "no-store", "referrer-policy": "no-referrer"}
    return Response(status_code=303, headers=headers)


def _secure(request: Request, parts: Control) -> bool:
    return request.url.scheme == "https" or parts.settings.console.public_url.startswith("https:")


def _remember(response: Response, request: Request, parts: Control, signed_in: service.SignedIn) -> None:
    response.set_cookie(
        COOKIE, signed_in.refresh, max_age=parts.settings.console.refresh_token_seconds, path=_PATH, httponly=True,
        samesite="strict", secure=_secure(request, parts),
    )  # fmt: skip
    response.headers["cache-control"] = "no-store"


def _answer(response: Response, request: Request, parts: Control, signed_in: service.SignedIn) -> Tokens:
    _remember(response, request, parts, signed_in)
    return Tokens(access_token=signed_in.access, expires_in=parts.settings.console.access_token_seconds)
