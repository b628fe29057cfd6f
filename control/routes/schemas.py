"""Bodies of routes: their versions and grants."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from control.errors import FieldError
from control.kit.schemas import A_MOMENT, Body, Flag, Note, RouteSpec, RowVersion, example
from control.usage.budgets import Spending
from gateway.contract.snapshot import Price

_PARTS = frozenset({"versions", "grants", "diff", "rollback", "validate", "explain"})


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
    draft: Flag = False
    """Not live yet: of those whom it is granted, only their comparisons may call it, by the key that these make for
    themselves. For everybody else it is not there."""
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
    draft: Flag | None = None
    """False: it is live from now on."""
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


class Granted(BaseModel):
    """Who may use a route, in numbers."""

    everyone: bool = False
    users: int = 0
    teams: int = 0
    keys: int = 0


class Route(BaseModel):
    """A public model name. `spec` is null for people who may use the route but not write routes."""

    model_config = ConfigDict(use_attribute_docstrings=True) | example(
        name="gpt-4o", aliases=["chat"], price={"input": "2.5", "output": "10"}, enabled=True, draft=False, version=1,
        spec={"target": [{"endpoint": "openai-eu", "model": "gpt-4o"}]}, granted={"everyone": True},
        created_at=A_MOMENT, updated_at=A_MOMENT, row_version=1,
    )  # fmt: skip

    name: str
    aliases: list[str]
    price: Price
    enabled: bool
    draft: bool
    """Only comparisons may call it."""
    version: int
    spec: RouteSpec | None
    granted: Granted | None
    """Null for people without `grants:write`."""
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


CheckName = Literal[
    "route_live", "key_active", "owner_active", "not_expired", "granted", "listed", "served", "budget_left"
]


class Check(BaseModel):
    """One thing that must be so for a key to use a route."""

    name: CheckName
    """route_live: gateways have the route. key_active: not disabled, not revoked. owner_active: nor is its owner
    disabled. granted: the route is granted to everyone, the owner, a team of the owner or the key. listed: the key's
    own list of models has it. served: gateways get the key with this route. budget_left: of each budget of the key and
    of its team."""
    ok: bool
    because: list[str]
    """What decided it: grants as `team:support`, patterns of the list, a moment, budgets that are spent."""


class ExplainedScope(BaseModel):
    """Limits that a request counts for; null is no limit."""

    kind: Literal["key", "team", "route"]
    name: str
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    budgets: list[Spending]


class ExplainedTarget(BaseModel):
    """A place that may answer."""

    endpoint: str
    model: str
    """Empty: the name that the client asked for."""
    tier: int
    """Tried from the lowest on."""
    weight: int
    """Of all credentials of the endpoint together."""
    share: float
    """Part of its tier's requests under the strategy `weighted`; 0: never used."""
    credentials: int


class ExplainedRoute(BaseModel):
    """One route of the way: where its requests go, in order."""

    name: str
    strategy: str
    max_attempts: int
    system_prompt: bool
    targets: list[ExplainedTarget]


class Explanation(BaseModel):
    """Whether a key may use a route, and where its requests would go."""

    model_config = example(
        route="gpt-4o", key="chatbot@support", snapshot="c7", allowed=True,
        checks=[{"name": "granted", "ok": True, "because": ["everyone"]}], networks=[],
        scopes=[
            {
                "kind": "key", "name": "chatbot@support", "rpm": 60, "tpm": None, "concurrency": None,
                "budgets": [
                    {
                        "amount_nano": 50_000_000_000, "spent_nano": 1_250_000, "window": "month", "timezone": "UTC",
                        "since": "2026-11-01T00:00:00Z", "resets_at": "2026-12-01T00:00:00Z",
                    }
                ],
            }
        ],
        way=[
            {
                "name": "gpt-4o", "strategy": "weighted", "max_attempts": 3, "system_prompt": False,
                "targets": [
                    {
                        "endpoint": "openai-eu", "model": "gpt-4o", "tier": 0, "weight": 1, "share": 1.0,
                        "credentials": 1,
                    }
                ],
            }
        ],
    )  # fmt: skip

    route: str
    key: str
    snapshot: str
    """Version of the configuration that this is about: the one that gateways get now."""
    allowed: bool
    """All checks are good."""
    checks: list[Check]
    networks: list[str]
    """Callers must come from one of them; empty: from anywhere."""
    scopes: list[ExplainedScope]
    """Limits of the key, its team and the route."""
    way: list[ExplainedRoute]
    """The route, then its fallback, its fallback's and so on; empty if gateways do not have the route."""
