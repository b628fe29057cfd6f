"""Datasets, training jobs and who runs them. Files lie beside the database, in the folder of `[training]`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import NAME, Base, BigId, LongText, Versioned


class Owned:
    """What belongs to a person or to a team."""

    owner_kind: Mapped[str] = mapped_column(String(8))
    """user or team."""
    owner: Mapped[str] = mapped_column(String(NAME))
    """Username or name of the team."""


class Dataset(Owned, Versioned, Base):
    """A named collection of rows to learn from. Its content is in its versions."""

    __tablename__ = "dataset"
    __table_args__ = (Index("ix_dataset_owner", "owner_kind", "owner"),)

    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    description: Mapped[str] = mapped_column(String(1000), default="")
    latest: Mapped[int] = mapped_column(default=0)
    """Number of the last version that was begun: numbers are never reused."""


class DatasetVersion(Base):
    """One state of a dataset; its rows never change once it is `ready`."""

    __tablename__ = "dataset_version"
    __table_args__ = (UniqueConstraint("dataset_id", "number"), Index("ix_dataset_version_state", "state"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Name of its folder, too."""
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(12))
    """uploading, checking, ready or rejected."""
    source: Mapped[str] = mapped_column(String(12))
    """upload, requests, chats or edit."""
    parent: Mapped[int | None]
    """Of an edit: the number of the version that was edited."""
    filename: Mapped[str] = mapped_column(String(255), default="")
    asked_format: Mapped[str] = mapped_column(String(16), default="auto")
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    """Bytes of the source that have arrived."""
    sha256: Mapped[str] = mapped_column(String(64), default="")
    """Of the checked rows."""
    kind: Mapped[str] = mapped_column(String(12), default="")
    """`trainer.contract.spec.RowKind`."""
    rows: Mapped[int] = mapped_column(default=0)
    """Accepted ones."""
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What `trainer.data.check` says: every row is accounted for."""
    message: Mapped[str] = mapped_column(String(1000), default="")
    """Why it was rejected."""
    claimed_until: Mapped[datetime | None]
    """A process checks it, and renews this as long as it lives."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))
    updated_at: Mapped[datetime]


class DatasetOrigin(Base):
    """Where a row of a source that was built here came from: a logged request, a chat session or a vote."""

    __tablename__ = "dataset_origin"

    version_id: Mapped[str] = mapped_column(ForeignKey("dataset_version.id", ondelete="CASCADE"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Of the source, from 1."""
    kind: Mapped[str] = mapped_column(String(12))
    """request, chat or vote."""
    origin: Mapped[str] = mapped_column(String(255), index=True)
    """Request id, or id of the session or vote."""
    consent: Mapped[str] = mapped_column(String(250))
    """What allowed it: the key whose bodies are kept, or the person whose session or vote it is."""


class TokenCount(Base):
    """How long the rows of a dataset version are in tokens of a base model: asked for, counted by a worker, kept."""

    __tablename__ = "token_count"
    __table_args__ = (UniqueConstraint("version_id", "base_hash"), Index("ix_token_count_state", "state"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("dataset_version.id", ondelete="CASCADE"))
    base: Mapped[dict[str, Any]]
    """`trainer.contract.spec.BaseModelRef`."""
    base_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 of it: its id is too long for an index."""
    state: Mapped[str] = mapped_column(String(12))
    """waiting, counting, done or failed."""
    worker: Mapped[str] = mapped_column(String(NAME), default="")
    """That counts, or has counted."""
    tried: Mapped[list[Any]] = mapped_column(default=list)
    """Workers that could not: the base model may be on another."""
    lengths: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`trainer.contract.worker.TokenLengths`."""
    message: Mapped[str] = mapped_column(String(1000), default="")
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))


class TrainingJob(Owned, Versioned, Base):
    """A request to train. Its state moves only by `control.jobs.states.move`."""

    __tablename__ = "training_job"
    __table_args__ = (
        Index("ix_training_job_owner", "owner_kind", "owner"),
        Index("ix_training_job_state", "state", "priority", "queued_at"),
    )

    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    spec: Mapped[dict[str, Any]]
    """`trainer.contract.spec.JobSpec`."""
    plan: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Values of `spec.training` that the plan after an out-of-memory failure has changed."""
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`train` and `validation`: id, name, number, sha256 and rows of the dataset version."""
    warnings: Mapped[list[Any]] = mapped_column(default=list)
    """Rules that would keep the result from being served."""
    estimate: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(String(12))
    wanted: Mapped[str] = mapped_column(String(8), default="run")
    """run, pause or cancel: what people want, whatever its state."""
    failure: Mapped[str] = mapped_column(String(12), default="")
    """`trainer.contract.events.Failure` of the last attempt that failed."""
    message: Mapped[str] = mapped_column(String(2000), default="")
    priority: Mapped[int] = mapped_column(default=0)
    """Higher goes first."""
    devices: Mapped[int]
    """How many it needs at a time."""
    attempts: Mapped[int] = mapped_column(default=0)
    retries: Mapped[int] = mapped_column(default=0)
    """Attempts that failed since somebody last asked for one."""
    max_retries: Mapped[int] = mapped_column(default=2)
    not_before: Mapped[datetime | None]
    """Back-off: not tried again until then."""
    worker: Mapped[str] = mapped_column(String(NAME), default="")
    """Of the last attempt: its checkpoints are there."""
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int] = mapped_column(default=0)
    latest: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The last value of each metric."""
    adapter_version_id: Mapped[str | None] = mapped_column(String(36))
    """What came out of it."""
    cloned_from: Mapped[str] = mapped_column(String(NAME), default="")
    trace: Mapped[str] = mapped_column(String(55), default="")
    """W3C's `traceparent` of the call that queued it; empty: it belongs to no recorded trace."""
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    """First step of its first attempt."""
    ended_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(NAME))


class DeletedJob(Base):
    """A job that was deleted here: its files on workers go. One of which there is no trace at all was made after the
    backup from which this database was restored, and its files stay.
    """

    __tablename__ = "training_job_deleted"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    deleted_at: Mapped[datetime]


class TrainingAttempt(Base):
    """One run of a job on a worker."""

    __tablename__ = "training_attempt"
    __table_args__ = (UniqueConstraint("job_id", "number"), Index("ix_training_attempt_state", "state", "worker"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("training_job.id", ondelete="CASCADE"))
    number: Mapped[int]
    worker: Mapped[str] = mapped_column(String(NAME))
    state: Mapped[str] = mapped_column(String(12))
    """ordered, preparing, running, finalizing, ended or lost."""
    devices: Mapped[list[Any]]
    spec: Mapped[dict[str, Any]]
    """As it was told: with the plan's changes."""
    resume: Mapped[bool]
    lease_until: Mapped[datetime]
    stop_asked_at: Mapped[datetime | None]
    events: Mapped[int] = mapped_column(default=0)
    """Lines taken."""
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    finished: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`trainer.contract.events.Finished`, if the run ended by itself."""
    started: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`trainer.contract.events.Started`."""
    exit_status: Mapped[int | None]
    failure: Mapped[str] = mapped_column(String(12), default="")
    message: Mapped[str] = mapped_column(String(2000), default="")
    files: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Of the adapter, as they arrived: path → {sha256, size}."""
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class DeviceClaim(Base):
    """A device that an attempt has for itself: the primary key is what makes a second claim impossible."""

    __tablename__ = "device_claim"

    worker: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    uuid: Mapped[str] = mapped_column(String(80), primary_key=True)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("training_attempt.id", ondelete="CASCADE"), index=True)


class JobEvent(Base):
    """What happened to a job: its states, and what people asked for. Written once."""

    __tablename__ = "training_event"
    __table_args__ = (Index("ix_training_event_job", "job_id", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("training_job.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    attempt: Mapped[int] = mapped_column(default=0)
    state_before: Mapped[str] = mapped_column(String(12))
    state: Mapped[str] = mapped_column(String(12))
    actor: Mapped[str] = mapped_column(String(NAME))
    """A person, `worker NAME` or `control`."""
    message: Mapped[str] = mapped_column(String(2000), default="")


class MetricPoint(Base):
    """The figures of a step. Of a step that came twice, after going on from a checkpoint, the later values."""

    __tablename__ = "training_metric"

    job_id: Mapped[str] = mapped_column(ForeignKey("training_job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    at: Mapped[datetime]
    values: Mapped[dict[str, Any]]


class Checkpoint(Base):
    """A state of a job from which it can go on, on the worker that made it."""

    __tablename__ = "training_checkpoint"

    job_id: Mapped[str] = mapped_column(ForeignKey("training_job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    at: Mapped[datetime]
    folder: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    files: Mapped[dict[str, Any]]


class TrainingSample(Base):
    """What the model said to one of the job's prompts while it learned."""

    __tablename__ = "training_sample"
    __table_args__ = (UniqueConstraint("job_id", "step", "number"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("training_job.id", ondelete="CASCADE"))
    step: Mapped[int]
    number: Mapped[int]
    """Of the prompt."""
    prompt: Mapped[str] = mapped_column(LongText)
    text: Mapped[str] = mapped_column(LongText)


class TrainerRow(Base):
    """What a worker said of itself last."""

    __tablename__ = "trainer"

    name: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    boot: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(40))
    recipes: Mapped[list[Any]]
    devices: Mapped[list[Any]]
    engines: Mapped[list[Any]]
    unknown_jobs: Mapped[list[Any] | None]
    """Ids of jobs whose files it keeps, and of which there is no trace here."""
    dashboard: Mapped[str | None] = mapped_column(String(1024))
    """URL of a tracker's pages about its jobs."""
    seen_at: Mapped[datetime]
