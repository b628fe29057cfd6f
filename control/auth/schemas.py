"""Bodies of sign-in."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, StringConstraints

from control.kit.permissions import Role
from control.kit.schemas import Body, example

Password = Annotated[str, StringConstraints(min_length=10, max_length=1024)]
"""A new password: length is what counts."""


class Login(Body):
    """Name and password."""

    model_config = example(username="alice", password="correct horse battery")

    username: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    """Case counts."""
    password: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """As typed."""


class PasswordChange(Body):
    """Old and new password."""

    model_config = example(current="correct horse battery", new="nine purple elephants")

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

    model_config = example(access_token="eyJhbGciOiJIUzI1NiJ9.…", token_type="bearer", expires_in=900)

    access_token: str
    token_type: str = "bearer"
    expires_in: int


class Me(BaseModel):
    """Who is signed in, and what the role permits."""

    model_config = example(
        username="alice", role="member", must_change_password=False, permissions=["keys:own", "self"],
        teams=["support"],
    )  # fmt: skip

    username: str
    role: Role | None
    """null: one that this version does not know; it permits nothing."""
    must_change_password: bool
    permissions: list[str]
    teams: list[str]
