"""Bodies of user administration."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, StringConstraints

from control.auth.schemas import Password
from control.kit.permissions import Role, known_role
from control.kit.schemas import A_MOMENT, Body, Flag, RowVersion, Slug, example

Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^$|^[^@\s]+@[^@\s]+$")]
DisplayName = Annotated[str, StringConstraints(max_length=120)]


KnownRole = Annotated[Role | None, BeforeValidator(known_role)]


class UserCreate(Body):
    """A new person."""

    model_config = example(username="alice", role="member", display_name="Alice", email="alice@example.com")

    username: Slug
    """Never changes and is never reused."""
    role: Role
    """What the person may do."""
    password: Password | None = None
    """Absent: one is made, shown in the answer, and must be changed at the first login."""
    display_name: DisplayName = ""
    """For people to read."""
    email: Email = ""
    """For people to read; it links no single sign-on account."""


class UserUpdate(Body):
    """Changes of a person; what is absent stays."""

    model_config = example(row_version=1, role="operator")

    row_version: RowVersion
    """From the last read."""
    role: Role | None = None
    """Ends every login of the person when it changes."""
    enabled: Flag | None = None
    """A disabled person cannot sign in, and their personal keys are answered 401."""
    display_name: DisplayName | None = None
    """For people to read."""
    email: Email | None = None
    """E-mail address."""


class SsoLink(Body):
    """Whom the identity provider means by a subject."""

    model_config = example(row_version=1, subject="00u1a2b3c4d5e6f7g8h9")

    row_version: RowVersion
    """From the last read."""
    subject: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[!-~]([ -~]*[!-~])?$")]
    """The claim `sub`, as the audit log tells it of a refused sign-in."""


class User(BaseModel):
    """A person."""

    model_config = example(
        username="alice", role="member", display_name="Alice", email="alice@example.com", enabled=True,
        must_change_password=False, sso_subject=None, last_login_at=None, created_at=A_MOMENT, row_version=1,
    )  # fmt: skip

    username: str
    role: KnownRole
    """null: one that this version does not know; it permits nothing."""
    display_name: str
    email: str
    enabled: bool
    must_change_password: bool
    sso_subject: str | None
    """Who the person is at the identity provider; null: they sign in with a password."""
    last_login_at: datetime | None
    created_at: datetime
    row_version: int


class UserCreated(User):
    """A new person, and the password that was made for them: shown this once."""

    model_config = example(User, generated_password="nine purple elephants")

    generated_password: str | None
