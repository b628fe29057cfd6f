"""Bodies of the price book."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from control.kit.schemas import A_MOMENT, Body, Moment, Note, Slug, example
from control.snapshots.book import Origin
from gateway.contract.snapshot import Price

UpstreamModel = Annotated[str, StringConstraints(min_length=1, max_length=160, pattern=r"^[^\x00-\x1f\x7f]+$")]
Tokens = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000_000)]


class PriceCreate(Body):
    """A new version of a price: for one endpoint, or for every endpoint of a provider that has none of its own."""

    model_config = example(
        endpoint="openai-eu", model="gpt-4o", price={"input": "2.5", "cached_input": "1.25", "output": "10"},
        effective_from="2027-01-01T00:00:00Z", currency="USD", source="contract of 2026-11-02",
    )  # fmt: skip

    endpoint: Slug | None = None
    """Name of the endpoint; or else give `provider`."""
    provider: Annotated[str, StringConstraints(min_length=1, max_length=40)] | None = None
    """Kind of upstream API, as `GET /api/v1/providers` lists them."""
    model: UpstreamModel
    """The upstream's name of the model."""
    price: Price
    """Per million tokens, in the account currency. Zero throughout says that it is free."""
    effective_from: Moment | None = None
    """From when on it counts; absent: from now on. It cannot be in the past: what was charged stays."""
    currency: Annotated[str, StringConstraints(max_length=16)] = ""
    """A note for people: nothing is converted."""
    source: Note = ""
    """Where the price was found."""

    @model_validator(mode="after")
    def _one_place(self) -> PriceCreate:
        if (self.endpoint is None) == (self.provider is None):
            raise ValueError("give `endpoint` or `provider`, and not both")
        return self


class PriceVersion(BaseModel):
    """A version of a price in the book."""

    model_config = example(
        number=7, endpoint="openai-eu", provider=None, model="gpt-4o", price={"input": "2.5", "output": "10"},
        currency="USD", source="contract of 2026-11-02", state="current", effective_from=A_MOMENT, created_at=A_MOMENT,
        created_by="alice",
    )  # fmt: skip

    number: int
    endpoint: str | None
    provider: str | None
    model: str
    price: Price
    currency: str
    source: str
    state: Literal["past", "current", "future"]
    effective_from: datetime
    created_at: datetime
    created_by: str


class ListPrice(BaseModel):
    """What a vendor asks for a model, as far as this list knows."""

    model: str
    vendor: str
    currency: str
    price: Price
    source: str
    as_of: str


class ListPrices(BaseModel):
    """Prices to pick from."""

    items: list[ListPrice]


class UnpricedTarget(BaseModel):
    """A target of a route that is being served at no charge, because nobody has said a price."""

    route: str
    endpoint: str
    model: str
    """Empty where the caller names it: then only the target or the route can have a price."""
    suggestion: ListPrice | None
    """List price of a model of this name."""


class UnpricedTargets(BaseModel):
    """All of them."""

    items: list[UnpricedTarget]


class CostQuestion(Body):
    """What would this cost?"""

    model_config = example(route="gpt-4o", input_tokens=1000, output_tokens=500)

    route: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    """Name of the route."""
    input_tokens: Tokens = 0
    """Prompt tokens that no cache has."""
    cache_read_tokens: Tokens = 0
    """Prompt tokens read from a cache."""
    cache_write_tokens: Tokens = 0
    """Prompt tokens written to a cache."""
    output_tokens: Tokens = 0
    """Completion tokens without reasoning."""
    reasoning_tokens: Tokens = 0
    """Reasoning tokens."""


class TargetCost(BaseModel):
    """What it would cost at one target."""

    endpoint: str
    model: str
    price: Price
    origin: Origin
    """Who says the price; `none`: nobody, so it is zero."""
    cost_nano: int
    """In nano-units of the account currency."""


class Costs(BaseModel):
    """What it would cost now at each target of the route."""

    targets: list[TargetCost]
