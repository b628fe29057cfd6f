"""Trained adapters, and where they are served."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import NAME, Base, LongText, Versioned
from control.models.training import Owned


class Adapter(Owned, Versioned, Base):
    """A name under which trained weights are kept, version by version."""

    __tablename__ = "adapter"
    __table_args__ = (Index("ix_adapter_owner", "owner_kind", "owner"),)

    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    description: Mapped[str] = mapped_column(String(1000), default="")
    latest: Mapped[int] = mapped_column(default=0)
    """Number of the last version: numbers are never reused."""
    gate: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """`control.comparisons.gate.Gate` that each version passes before it is published."""


class AdapterVersion(Base):
    """Trained weights; immutable once they are `ready`."""

    __tablename__ = "adapter_version"
    __table_args__ = (UniqueConstraint("adapter_id", "number"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    adapter_id: Mapped[str] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(12))
    """uploading, ready or archived."""
    source: Mapped[str] = mapped_column(String(8))
    """job or upload."""
    kind: Mapped[str] = mapped_column(String(8))
    """lora, or full: all weights of a model."""
    folder: Mapped[str] = mapped_column(String(80))
    """Below the folder of `[training]`."""
    files: Mapped[dict[str, Any]]
    """path → {sha256, size}."""
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    base: Mapped[dict[str, Any]]
    """`trainer.contract.spec.BaseModelRef`."""
    base_sha256: Mapped[str] = mapped_column(String(64), default="")
    rank: Mapped[int] = mapped_column(default=0)
    problems: Mapped[list[Any]] = mapped_column(default=list)
    """Rules by which an engine refuses it; empty: it can be served."""
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    probes: Mapped[list[Any]] = mapped_column(default=list)
    """`trainer.contract.worker.Probe`: what it answered after training."""
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Versions of the libraries, hash of the template, and so on."""
    job: Mapped[str] = mapped_column(String(NAME), default="", index=True)
    """Name of the job that made it."""
    data: Mapped[list[Any]] = mapped_column(default=list)
    """Dataset versions that it has learned from: name, number, sha256."""
    card: Mapped[str] = mapped_column(LongText, default="")
    """Markdown."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))


class AdapterData(Base):
    """Which dataset versions an adapter version has learned from: asked when a row must be forgotten."""

    __tablename__ = "adapter_data"

    adapter_version_id: Mapped[str] = mapped_column(
        ForeignKey("adapter_version.id", ondelete="CASCADE"), primary_key=True
    )
    dataset: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class AdapterEvaluation(Base):
    """How an adapter version and its base model answered the questions of a dataset version."""

    __tablename__ = "adapter_evaluation"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Of the attempt that asked them."""
    adapter_version_id: Mapped[str] = mapped_column(ForeignKey("adapter_version.id", ondelete="CASCADE"), index=True)
    data: Mapped[str] = mapped_column(String(140))
    """`NAME@N` of the questions."""
    job: Mapped[str] = mapped_column(String(NAME))
    found: Mapped[dict[str, Any]]
    """`trainer.contract.evaluation.Evaluated`."""
    created_at: Mapped[datetime]


class Deployment(Versioned, Base):
    """That an engine should have an adapter version, and whether it has."""

    __tablename__ = "deployment"
    __table_args__ = (UniqueConstraint("adapter_version_id", "worker", "engine"),)

    adapter_version_id: Mapped[str] = mapped_column(ForeignKey("adapter_version.id", ondelete="RESTRICT"))
    served_name: Mapped[str] = mapped_column(String(160), index=True)
    """`name@vN`."""
    worker: Mapped[str] = mapped_column(String(NAME))
    engine: Mapped[str] = mapped_column(String(NAME))
    state: Mapped[str] = mapped_column(String(12))
    """placing, live, degraded, draining, retired or failed."""
    message: Mapped[str] = mapped_column(String(2000), default="")
    drain_until: Mapped[datetime | None]
    publish: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What to do once it is live: `route` and `share`; empty: nothing but its own route."""
    live_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(NAME))


class Rollout(Versioned, Base):
    """A version that takes over its adapter's name step by step, or goes (`control.deployments.rollout`)."""

    __tablename__ = "rollout"
    __table_args__ = (Index("ix_rollout_state", "state"), Index("ix_rollout_adapter", "adapter_id", "created_at"))

    adapter_id: Mapped[str] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    number: Mapped[int]
    served_name: Mapped[str] = mapped_column(String(160))
    state: Mapped[str] = mapped_column(String(12))
    """running, promoted, rolled_back or stopped."""
    reason: Mapped[str] = mapped_column(String(2000))
    """Of its end."""
    rule: Mapped[dict[str, Any]]
    """`control.adapters.schemas.RolloutRule`."""
    step: Mapped[int]
    """Index of the rule's step that is under way."""
    since: Mapped[datetime]
    """When that step began."""
    before: Mapped[list[Any]]
    """Targets of the route before it began."""
    endpoints: Mapped[list[Any]]
    """That have the version."""
    route_version: Mapped[int] = mapped_column(default=0)
    """Of the route, as the rollout has written it: another one is somebody else's."""
    figures: Mapped[dict[str, Any]]
    """What the last look has found: attempts, failed and p95_ms, of the `new` version and the `old` ones."""
    score: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What its scores have said so far (`control.deployments.canary`); null where its rule has none."""
    ended_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(NAME))


class AdapterGate(Versioned, Base):
    """That a version is asked a suite before it is published (`control.deployments.gates`)."""

    __tablename__ = "adapter_gate"
    __table_args__ = (
        Index("ix_adapter_gate_state", "state"),
        Index("ix_adapter_gate_adapter", "adapter_id", "created_at"),
    )

    adapter_id: Mapped[str] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    number: Mapped[int]
    served_name: Mapped[str] = mapped_column(String(160))
    gate: Mapped[dict[str, Any]]
    """`control.comparisons.gate.Gate`, with the number of the suite's version."""
    goal: Mapped[dict[str, Any]]
    """What waits for it: `share` and `price`, or `rule` of a rollout."""
    run: Mapped[str] = mapped_column(String(36))
    """The comparison run, which may be deleted."""
    state: Mapped[str] = mapped_column(String(12))
    """running, passed, failed or stopped."""
    reason: Mapped[str] = mapped_column(String(2000), default="")
    """Of its end."""
    ended_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(NAME))
