"""Bodies of sign-in."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, StringConstraints

from control.kit.permissions import Role
from control.kit.schemas import Body

Password = Annotated[str, StringConstraints(min_length=10, max_length=1024)]
"""A new password: length is what counts."""


class Login(Body):
    """Name and password."""

    username: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    """Case counts."""
    password: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """As typed."""


class PasswordChange(Body):
    """Old and new password."""

    current: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """The password until now."""
    new: Password
    """At least 10 characters."""


class SingleSignOn(BaseModel):
    """Signing in at the identity provider: the browser goes to `start`."""

    name: str
    start: str = "/api/v1/auth/oidc/start"


class Methods(BaseModel):
    """Ways of signing in, for the login page."""

    password: bool
    """false: the form is for the break-glass account only."""
    oidc: SingleSignOn | None


class Tokens(BaseModel):
    """An access token; the refresh token travels as an HttpOnly cookie."""

    access_token: str
    token_type: str = "bearer"
    expires_in: int


class Me(BaseModel):
    """Who is signed in, and what the role permits."""

    username: str
    role: Role | None
    """null: one that this version does not know; it permits nothing."""
    must_change_password: bool
    permissions: list[str]
    teams: list[str]
