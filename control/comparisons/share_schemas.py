"""Bodies of links to a run's report."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from control.comparisons.report_schemas import Report
from control.kit.schemas import A_MOMENT, Body, example


class ShareCreate(Body):
    """A link that is going to be given away."""

    model_config = example(days=30)

    days: Annotated[int, Field(strict=True, ge=1, le=365)] = 30
    """After so many days it ends by itself."""


class Share(BaseModel):
    """A link to the report of a run."""

    model_config = example(
        id="01936f3a-0000-7000-8000-000000000001", created_by="alice", created_at=A_MOMENT, expires_at=A_MOMENT,
        revoked_at=None,
    )  # fmt: skip

    id: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class Shares(BaseModel):
    """Links of a run."""

    model_config = example(items=[Share.model_config["json_schema_extra"]["examples"][0]])  # type: ignore[index]

    items: list[Share]


class ShareMade(Share):
    """A link with its secret, which is never shown again."""

    model_config = example(Share, token="sl-tg-0123456789abcdefghijklmnopqrstuvwxyzABCDEFG")

    token: str
    """The console's page `/shared#TOKEN` shows the report."""


class ShareOpen(Body):
    """A link that somebody was given."""

    model_config = example(token="sl-tg-0123456789abcdefghijklmnopqrstuvwxyzABCDEFG")

    token: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$")]


class SharedReport(BaseModel):
    """What a link shows: figures of a run, without questions and answers."""

    model_config = example(
        suite="support-questions", version=1, state="done", created_by="alice", created_at=A_MOMENT,
        expires_at=A_MOMENT, report=Report.model_config["json_schema_extra"]["examples"][0],  # type: ignore[index]
    )  # fmt: skip

    suite: str
    version: int
    state: str
    created_by: str
    """Who has begun the run."""
    created_at: datetime
    expires_at: datetime
    report: Report
