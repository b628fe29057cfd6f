"""Bodies of routes: their versions and grants."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from control.errors import FieldError
from control.kit.schemas import A_MOMENT, Body, Flag, Note, RouteSpec, RowVersion, example
from gateway.contract.snapshot import Price

_PARTS = frozenset({"versions", "grants", "diff", "rollback", "validate"})


def _no_part(name: str) -> str:
    if not _PARTS.isdisjoint(name.split("/")):
        raise ValueError(f"no part of a name may be one of the API's own paths: {', '.join(sorted(_PARTS))}")
    return name


RouteName = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=120, pattern=r"^[A-Za-z0-9\u4e00-\u9fff]([A-Za-z0-9_.\-/:@\u4e00-\u9fff]*\*?)$"
    ),
    AfterValidator(_no_part),
    Field(examples=["openai/gpt-4o"]),
]
"""A model name as callers write it, so `/`, `:` and `@` are allowed; a `*` at the end matches every longer name."""
Number = Annotated[int, Field(ge=1, le=2_147_483_647)]


class Grant(Body):
    """Who may use a route."""

    principal_kind: Literal["everyone", "user", "team", "key"]
    """What the principal is."""
    principal: Annotated[str, StringConstraints(max_length=250)] = ""
    """User name, name of the team, or `name@owner` of the key; empty for everyone."""


Grants = Annotated[tuple[Grant, ...], Field(max_length=500)]


class RouteCreate(Body):
    """A new route."""

    model_config = example(
        name="gpt-4o", spec={"target": [{"endpoint": "openai-eu", "model": "gpt-4o"}]},
        grants=[{"principal_kind": "everyone"}],
    )  # fmt: skip

    name: RouteName
    """Never changes."""
    spec: RouteSpec
    """What happens to its requests."""
    enabled: Flag = True
    """A disabled route is answered as if it were not there."""
    note: Note = ""
    """Why; kept with version 1."""
    grants: Grants = ()
    """Who may use it, nobody if empty."""


class RouteUpdate(Body):
    """Changes of a route; what is absent stays."""

    model_config = example(row_version=1, enabled=False)

    row_version: RowVersion
    """From the last read."""
    spec: RouteSpec | None = None
    """Replaces the settings as a whole; makes a new version if it differs."""
    enabled: Flag | None = None
    """A disabled route is answered as if it were not there."""
    note: Note = ""
    """Why; kept with the new version."""


class Rollback(Body):
    """Back to an old version."""

    model_config = example(row_version=3, number=1, note="the new prompt was worse")

    row_version: RowVersion
    """From the last read."""
    number: Annotated[Number, Field(strict=True)]
    """Version whose settings become a new version."""
    note: Note = ""
    """Why."""


class RouteCheck(Body):
    """A route that may be saved later."""

    model_config = example(name="gpt-4o", spec={"target": [{"endpoint": "openai-eu", "model": "gpt-4o"}]})

    name: Annotated[str, StringConstraints(max_length=250)]
    """Of the new or existing route."""
    spec: dict[str, Any]
    """Its settings, right or wrong."""
    new: Flag = True
    """Whether it is going to be created: then the name must be free."""


class Checked(BaseModel):
    """What saving it would answer."""

    ok: bool
    problems: list[FieldError]


class GrantsUpdate(Body):
    """Who may use a route, as a whole."""

    model_config = example(row_version=1, grants=[{"principal_kind": "team", "principal": "support"}])

    row_version: RowVersion
    """Of the route, from the last read."""
    grants: Grants
    """Replaces all grants."""


class RouteGrants(BaseModel):
    """Who may use a route."""

    grants: list[Grant]
    row_version: int


class Route(BaseModel):
    """A public model name. `spec` is null for people who may use the route but not write routes."""

    model_config = example(
        name="gpt-4o", aliases=["chat"], price={"input": "2.5", "output": "10"}, enabled=True, version=1,
        spec={"target": [{"endpoint": "openai-eu", "model": "gpt-4o"}]}, created_at=A_MOMENT, updated_at=A_MOMENT,
        row_version=1,
    )  # fmt: skip

    name: str
    aliases: list[str]
    price: Price
    enabled: bool
    version: int
    spec: RouteSpec | None
    created_at: datetime
    updated_at: datetime
    row_version: int


class RouteVersionSummary(BaseModel):
    """That a version was made."""

    number: int
    note: str
    created_at: datetime
    created_by: str


class RouteVersion(RouteVersionSummary):
    """What a route was. `spec` is as it was saved."""

    spec: dict[str, Any]


class Difference(BaseModel):
    """One value that differs; null where it is absent."""

    path: str = Field(examples=["target.0.weight"])
    before: Any
    after: Any


class Differences(BaseModel):
    """How one version differs from another."""

    items: list[Difference]
