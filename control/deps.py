"""What operations ask for: the session of their transaction, and the person that the route's permission lets in.

Every route carries `allow("…")` (or `PUBLIC` / `SERVICE`); `app.build` refuses to start with one that does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.errors import Problem
from control.kit.caller import caller
from control.kit.files import Files
from control.kit.metrics import Metrics
from control.kit.oidc import Provider
from control.kit.outbound import Outbound
from control.kit.permissions import PUBLIC, SERVICE, Person, known_role
from control.kit.throttle import Throttle
from control.kit.tracing import Tracer
from control.models import ServiceToken, User
from control.security import Vault, sha256
from control.settings import Settings
from control.snapshots.publisher import Publisher

if TYPE_CHECKING:
    from control.knowledge.engine import Engine


@dataclass(slots=True)
class Control:
    """What the process is made of."""

    settings: Settings
    db: Database
    vault: Vault
    publisher: Publisher
    outbound: Outbound
    throttle: Throttle
    oidc: Provider | None
    """None: single sign-on is off."""
    files: Files
    """Datasets, logs of jobs, adapters."""
    knowledge: Engine | None
    """None: there is no Milvus, so there are no knowledge bases."""
    metrics: Metrics
    tracer: Tracer | None
    """None: nothing is traced."""


def control_of(request: Request) -> Control:
    """The process's parts."""
    return cast(Control, request.app.state.control)


async def _parts(request: Request) -> Control:
    """Every operation's dependencies are `async`: FastAPI walks to a thread and back for those that are not."""
    return control_of(request)


async def _session(request: Request) -> AsyncIterator[AsyncSession]:
    db = control_of(request).db
    async with db.read() if request.method in ("GET", "HEAD") else db.write() as session:
        yield session


Parts = Annotated[Control, Depends(_parts)]
Db = Annotated[AsyncSession, Depends(_session, scope="function")]
"""One transaction per request, committed before the answer is sent. A GET cannot write."""

_bearer = HTTPBearer(auto_error=False, description="Access token of POST /api/v1/auth/login")
Permitted = Callable[..., Awaitable[Person]]


def allow(permission: str) -> Permitted:
    """Dependency that lets in only people whose role has the permission, and says who it is."""

    async def permitted(request: Request, session: Db, _: Annotated[object, Depends(_bearer)]) -> Person:
        return await _permitted(request, session, permission)

    permitted.permission = permission  # type: ignore[attr-defined]  # read by `permission_of`
    return permitted


def allow_long(permission: str) -> Permitted:
    """The same for operations whose bodies are long: no transaction is open, and blocks others, while they arrive."""

    async def permitted(request: Request, parts: Parts, _: Annotated[object, Depends(_bearer)]) -> Person:
        async with parts.db.read() as session:
            return await _permitted(request, session, permission)

    permitted.permission = permission  # type: ignore[attr-defined]
    return permitted


async def _permitted(request: Request, session: AsyncSession, permission: str) -> Person:
    person = await _person(request, session)
    if person.must_change_password and permission != "self":
        raise Problem(403, "password_change_required", "change your password first: POST /api/v1/auth/password")
    if not person.may(permission):
        role = person.role or "unknown"
        raise Problem(403, "forbidden", f"your role {role!r} does not have the permission {permission!r}")
    return person


async def public() -> None:
    """Dependency of an operation that needs no login."""


public.permission = PUBLIC  # type: ignore[attr-defined]


async def service(request: Request, parts: Parts, _: Annotated[object, Depends(_bearer)]) -> tuple[str, str]:
    """Dependency of the internal API: name and secret of the service token that was shown."""
    secret = _token(request)
    async with parts.db.read() as session:
        return await _service(session, secret), secret


async def service_read(
    request: Request, parts: Parts, _: Annotated[object, Depends(_bearer)]
) -> AsyncIterator[AsyncSession]:
    """The same for operations that read: gives them the transaction in which the token was found. They close it before
    they wait for anybody else.
    """
    async with parts.db.read() as session:
        await _service(session, _token(request))
        yield session


service.permission = service_read.permission = SERVICE  # type: ignore[attr-defined]


async def _service(session: AsyncSession, secret: str) -> str:
    row = await session.scalar(select(ServiceToken).where(ServiceToken.digest == sha256(secret)))
    if row is None or row.revoked_at is not None:
        raise Problem(401, "bad_service_token", "this service token is unknown or revoked: `tunegate token new NAME`")
    return row.name


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(401, "not_signed_in", "send `Authorization: Bearer <token>`")
    return token.strip()


async def _person(request: Request, session: AsyncSession) -> Person:
    claims = control_of(request).vault.read_access_token(_token(request))
    user = await session.get(User, claims[0]) if claims is not None else None
    if claims is None or user is None or not user.enabled or user.token_version != claims[1]:
        raise Problem(401, "token_invalid", "this access token has expired or was revoked: refresh it or sign in")
    return Person(user.id, user.username, known_role(user.role), address(request), user.must_change_password)


def address(request: Request) -> str:
    """Address of the caller."""
    peer = request.client.host if request.client else ""
    trusted = control_of(request).settings.console.trusted_proxies
    return caller(peer, request.headers.getlist("x-forwarded-for"), trusted)
