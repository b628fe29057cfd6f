"""Pieces of request and response bodies that every domain uses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    create_model,
)

from gateway.contract.base import Wire
from gateway.contract.snapshot import Budget, Endpoint, Route

Slug = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9\u4e00-\u9fff][A-Za-z0-9_.\-\u4e00-\u9fff]*$"),
    Field(examples=["support"]),
]
"""A name that never changes: letters, digits, `_`, `.`, `-`."""
Flag = StrictBool
"""true or false, and not 0, 1 or "yes"."""
RowVersion = Annotated[
    int, Field(strict=True, ge=1, le=2_147_483_647, description="The version that this edit has seen.")
]


def _written_out(value: object) -> object:
    if not isinstance(value, str) or not value[:5].removesuffix("-").isdigit() or value[4:5] != "-":
        raise ValueError("write a moment as 2027-01-31T00:00:00Z")  # pydantic would take 0.5 for one, too
    return value


def _in_range(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("in UTC, this is before the year 1 or after 9999") from exc


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_range)]
"""A moment with its time zone, in ISO 8601."""
Note = Annotated[str, StringConstraints(max_length=1000)]
Budgets = Annotated[tuple[Budget, ...], Field(max_length=8)]


A_MOMENT = "2026-11-24T09:30:00Z"
"""In examples."""


def example(base: type[BaseModel] | None = None, /, **values: Any) -> ConfigDict:
    """`model_config` of a body: how one looks, with what the example of `base` says. A test checks that it is valid."""
    extra: Any = base.model_config["json_schema_extra"] if base is not None else {"examples": [{}]}
    return ConfigDict(json_schema_extra={"examples": [extra["examples"][0] | values]})


class Body(BaseModel):
    """Base of request bodies: strict types, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def _without(model: type[Wire], name: str, *left_out: str) -> Any:
    kept = {field: (info.annotation, info) for field, info in model.model_fields.items() if field not in left_out}
    return create_model(name, __base__=Wire, __doc__=f"{model.__doc__} Its settings.", **kept)  # type: ignore[call-overload]


if TYPE_CHECKING:

    class EndpointSpec(Wire):
        """`gateway.contract.snapshot.Endpoint` without name, provider and api_key."""

    class RouteSpec(Wire):
        """`gateway.contract.snapshot.Route` without name and draft."""

else:
    EndpointSpec = _without(Endpoint, "EndpointSpec", "name", "provider", "api_key")
    RouteSpec = _without(Route, "RouteSpec", "name", "draft")
