"""Bodies of providers, endpoints and their credentials."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from control.kit.schemas import A_MOMENT, Body, EndpointSpec, Flag, RowVersion, Slug, example

Secret = Annotated[
    str,
    StringConstraints(min_length=1, max_length=8192, pattern=r"^[!-~]+$"),
    Field(json_schema_extra={"writeOnly": True, "format": "password"}),
]
"""Visible ASCII: anything else could not stand in a header, and would stop a whole snapshot."""


class Provider(BaseModel):
    """A kind of upstream API."""

    kind: str
    label: str
    base_url: str
    needs_base_url: bool
    needs_key: bool
    form: dict[str, Any]
    """JSON schema of an endpoint's `spec` of this kind."""


class Providers(BaseModel):
    """All kinds of upstream API."""

    items: list[Provider]


class CredentialCreate(Body):
    """A secret for an endpoint: written once, never shown again."""

    model_config = example(name="billing-account-2", secret="sk-proj-0123456789abcdefghij")

    name: Slug
    """What it is called, such as `billing-account-2`."""
    secret: Secret
    """What the upstream gave you."""


class CredentialUpdate(Body):
    """Whether a credential is used."""

    model_config = example(enabled=False)

    enabled: Flag
    """Targets are spread over the enabled credentials of their endpoint."""


class Credential(BaseModel):
    """A credential, without its secret."""

    name: str
    masked: str
    enabled: bool
    created_at: datetime
    created_by: str


class Credentials(BaseModel):
    """All credentials of an endpoint, in the order in which they were added."""

    items: list[Credential]


class EndpointCreate(Body):
    """A new endpoint."""

    model_config = example(name="openai-eu", provider="openai", spec={"base_url": "https://api.openai.com/v1"})

    name: Slug
    """Never changes."""
    provider: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    """Kind of upstream API, as `GET /api/v1/providers` lists them. Never changes."""
    spec: EndpointSpec
    """Its settings."""
    enabled: Flag = True
    """Targets of a disabled endpoint are left out of the rotation."""


class EndpointUpdate(Body):
    """Changes of an endpoint; what is absent stays."""

    model_config = example(row_version=1, enabled=False)

    row_version: RowVersion
    """From the last read."""
    spec: EndpointSpec | None = None
    """Replaces the settings as a whole."""
    enabled: Flag | None = None
    """Targets of a disabled endpoint are left out of the rotation."""
    drop_credentials: Flag = False
    """Delete every credential: needed when the endpoint moves to another host."""


class Endpoint(BaseModel):
    """One configured account or URL of a provider."""

    model_config = example(
        name="openai-eu", provider="openai", spec={"base_url": "https://api.openai.com/v1"}, enabled=True,
        credentials=[], created_at=A_MOMENT, updated_at=A_MOMENT, row_version=1,
    )  # fmt: skip

    name: str
    provider: str
    spec: EndpointSpec
    enabled: bool
    credentials: list[Credential]
    created_at: datetime
    updated_at: datetime
    row_version: int


Code = Literal[
    "", "auth", "bad_reply", "bad_url", "dns", "has_proxy", "no_list", "not_found", "rate_limited", "redirect",
    "refused_address", "timeout", "tls", "too_large", "unexpected_status", "unreachable",
]  # fmt: skip


class TestResult(BaseModel):
    """What came of asking the upstream for its models."""

    ok: bool
    code: Code
    detail: str
    """For people; nothing of the upstream's answer is in it."""
    status: int | None
    latency_ms: float | None
    models: list[str]
    """Names of its models, at most 1000."""
