"""Bodies about gateways: which there are, and how their targets do."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from control.kit.schemas import A_MOMENT, example


class Gateway(BaseModel):
    """One worker of a gateway, by its last report."""

    model_config = ConfigDict(use_attribute_docstrings=True) | example(
        gateway="gateway-1/w0", version="0.1.0", snapshot="c7", started_at=A_MOMENT, reported_at=A_MOMENT,
        age_seconds=2.5, live=True, snapshots_behind=0,
    )  # fmt: skip

    gateway: str
    version: str
    """Of its program."""
    snapshot: str | None
    """Configuration that it serves; null: none yet."""
    started_at: datetime
    """By its own clock."""
    reported_at: datetime
    age_seconds: float
    """Since its last report."""
    live: bool
    """It has reported within the last 15 seconds."""
    snapshots_behind: int | None
    """Versions of the configuration that it had not taken over when it reported; null: it serves none, or another's."""


class TargetHealth(BaseModel):
    """How a target does, over all gateways that run."""

    model_config = ConfigDict(use_attribute_docstrings=True) | example(
        id="openai-eu/gpt-4o", endpoint="openai-eu", model="gpt-4o", closed=2, half_open=0, open=0, in_flight=3,
        first_content_ms=210.5, successes=40, failures=0,
    )  # fmt: skip

    id: str
    """Endpoint and model; where the client says the model, endpoint and route."""
    endpoint: str
    model: str
    closed: int
    """Breakers that let requests through, one for each gateway and credential that has used it."""
    half_open: int
    """Breakers that let one request through to probe."""
    open: int
    """Breakers that let none through."""
    in_flight: int
    """Requests under way."""
    first_content_ms: float | None
    """Mean of the gateways' averages; null when no content came in the last half minute."""
    successes: int
    """In the gateways' last reports, each of about 5 seconds."""
    failures: int


class TargetsHealth(BaseModel):
    """Targets that a running gateway has sent requests to, by id."""

    gateways: int
    """How many run."""
    items: list[TargetHealth]


class BreakerSpan(BaseModel):
    """A stretch of time in which one gateway kept a target from requests."""

    gateway: str
    target: str
    """As in `GET /api/v1/health/targets`."""
    state: Literal["open", "half_open"]
    """Nothing was sent; or one request, to probe it, would have been."""
    error: str
    """What the target failed with before: a code, such as `provider_timeout`."""
    began_at: datetime
    """To about 5 seconds, as is the end: gateways report as often."""
    ended_at: datetime | None
    """null: not yet."""
    ended: Literal["closed", "half_open", "open", "gone"] | None
    """The state that came then; `gone`: the gateway stopped, or does not use the target any more."""


class EndpointHistory(BaseModel):
    """When gateways kept the targets of an endpoint from requests. At any other time their breakers were closed."""

    model_config = ConfigDict(use_attribute_docstrings=True) | example(
        since="2026-11-23T09:30:00Z", until=A_MOMENT, more=False,
        items=[{
            "gateway": "gateway-1/w0", "target": "openai-eu/gpt-4o", "state": "open", "error": "provider_timeout",
            "began_at": "2026-11-24T08:12:05Z", "ended_at": "2026-11-24T08:12:15Z", "ended": "half_open",
        }],
    )  # fmt: skip

    since: datetime
    until: datetime
    items: list[BreakerSpan]
    """The newest first."""
    more: bool
    """There are older ones in this time: ask for a shorter time."""
