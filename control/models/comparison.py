"""Comparisons: suites of cases in versions that never change, runs of them over several routes, and every answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import NAME, Base, LongText, Versioned
from control.models.training import Owned


class Suite(Owned, Versioned, Base):
    """A named collection of cases and what scores their answers. Its content is in its versions."""

    __tablename__ = "suite"
    __table_args__ = (Index("ix_suite_owner", "owner_kind", "owner"),)

    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    description: Mapped[str] = mapped_column(String(1000), default="")
    latest: Mapped[int] = mapped_column(default=0)
    """Number of the last version: numbers are never reused."""


class SuiteVersion(Base):
    """One state of a suite: it never changes, and no other version of the suite has the same content."""

    __tablename__ = "suite_version"
    __table_args__ = (
        UniqueConstraint("suite_id", "number"),
        UniqueConstraint("suite_id", "sha256", name="uq_suite_version_content"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    suite_id: Mapped[str] = mapped_column(ForeignKey("suite.id", ondelete="CASCADE"))
    number: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    """Of prompts, parameters, scorers and cases."""
    content: Mapped[dict[str, Any]]
    """`control.comparisons.schemas.Content`."""
    cases: Mapped[int]
    """How many."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))


class SuiteCase(Base):
    """A case of a version."""

    __tablename__ = "suite_case"

    version_id: Mapped[str] = mapped_column(ForeignKey("suite_version.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 1."""
    content: Mapped[dict[str, Any]]
    """`control.comparisons.schemas.SuiteCase`."""


class SuiteSchedule(Versioned, Base):
    """That a suite is asked by itself (`control.comparisons.schedules`)."""

    __tablename__ = "suite_schedule"
    __table_args__ = (Index("ix_suite_schedule_due", "enabled", "next_at"),)

    suite_id: Mapped[str] = mapped_column(ForeignKey("suite.id", ondelete="CASCADE"), unique=True)
    times: Mapped[dict[str, Any]]
    """`control.comparisons.schedule_schemas.Times`."""
    run: Mapped[dict[str, Any]]
    """`control.comparisons.run_schemas.RunCreate`."""
    enabled: Mapped[bool]
    next_at: Mapped[datetime]
    last_run: Mapped[str | None] = mapped_column(String(36))
    """The newest run that it has begun; runs may be deleted."""
    judged: Mapped[str | None] = mapped_column(String(36))
    """The newest run that was compared."""
    baseline: Mapped[str | None] = mapped_column(String(36))
    """Run with which the next one is compared."""
    regressions: Mapped[list[Any]]
    """`control.comparisons.report_schemas.Change` with the verdict `worse`, of `judged` against `baseline`."""
    message: Mapped[str] = mapped_column(String(1000), default="")
    """Why the last run did not begin, or has no whole result."""
    created_by: Mapped[str] = mapped_column(String(NAME))
    """In whose name runs begin."""


class ComparisonRun(Base):
    """A version of a suite over several candidates. Its answers are cells; those that are not there are to be asked."""

    __tablename__ = "comparison_run"
    __table_args__ = (
        Index("ix_comparison_run_state", "state", "claimed_until"),
        Index("ix_comparison_run_suite", "suite_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    suite_id: Mapped[str] = mapped_column(ForeignKey("suite.id", ondelete="CASCADE"))
    version_id: Mapped[str] = mapped_column(ForeignKey("suite_version.id", ondelete="CASCADE"))
    note: Mapped[str] = mapped_column(String(1000), default="")
    key: Mapped[str] = mapped_column(String(250))
    """Name of the API key that pays."""
    candidates: Mapped[list[Any]]
    """`control.comparisons.schemas.Candidate` with the number of the route's version at the start."""
    settings: Mapped[dict[str, Any]]
    """`control.comparisons.schemas.RunSettings`."""
    estimate: Mapped[dict[str, Any]]
    """`control.comparisons.schemas.RunEstimate` at the start."""
    state: Mapped[str] = mapped_column(String(12))
    """queued, running, paused, done, partial, failed or canceled."""
    wanted: Mapped[str] = mapped_column(String(8), default="run")
    """run, pause or cancel: what people want, whatever its state."""
    code: Mapped[str] = mapped_column(String(32), default="")
    """Why it was paused or failed."""
    message: Mapped[str] = mapped_column(String(1000), default="")
    total: Mapped[int]
    """Cells that there are to be."""
    done: Mapped[int] = mapped_column(default=0)
    """Cells with an answer."""
    failed: Mapped[int] = mapped_column(default=0)
    """Cells for which every try failed."""
    reused: Mapped[int] = mapped_column(default=0)
    """Of the cells with an answer, those that were taken over from an earlier run."""
    pairs: Mapped[int] = mapped_column(default=0)
    """Pairs of answers that judges are to compare; known once all cells are there."""
    judged: Mapped[int] = mapped_column(default=0)
    """Those of which a judge was asked."""
    rate: Mapped[float] = mapped_column(default=0.0)
    """Cells and pairs a second, lately."""
    billed_nano: Mapped[int] = mapped_column(BigInteger, default=0)
    """What the ledger says that it has cost so far, failed tries and judges included."""
    scale: Mapped[str] = mapped_column(String(8), default="")
    """By which people rate its answers: points or passed; empty before the first rating."""
    claim: Mapped[str] = mapped_column(String(36), default="")
    """Of the process that works on it."""
    claimed_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class ComparisonCell(Base):
    """The answer of one candidate to one case, once for every repeat."""

    __tablename__ = "comparison_cell"

    run_id: Mapped[str] = mapped_column(ForeignKey("comparison_run.id", ondelete="CASCADE"), primary_key=True)
    case: Mapped[int] = mapped_column("case_number", primary_key=True, autoincrement=False)
    candidate: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Place in the run's candidates, from 0."""
    repeat: Mapped[int] = mapped_column("repeat_number", primary_key=True, autoincrement=False)
    """From 0."""
    ok: Mapped[bool]
    """False: every try failed."""
    request_id: Mapped[str] = mapped_column(String(120))
    """Of the last try."""
    request: Mapped[dict[str, Any]]
    """As it was sent."""
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Text, tool calls, finish reason, citations, tokens, headers and timings of what came back."""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Status, code and message of the last try."""
    scores: Mapped[dict[str, Any]]
    """By scorer: value, passed and note."""
    latency_ms: Mapped[float | None]
    """Until the end of the answer."""
    ttft_ms: Mapped[float | None]
    """Until the first of it; null where it was no stream."""
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    """As the answer's usage says."""
    tries: Mapped[int]
    limited: Mapped[int]
    """Those of them that were answered 429."""
    cost_nano: Mapped[int | None] = mapped_column(BigInteger)
    """What the ledger says of `request_id`; null until it has come."""
    snapshot: Mapped[str] = mapped_column(String(200), default="")
    """Of the gateway's configuration that answered, from the ledger."""
    digest: Mapped[str] = mapped_column(String(64), default="", index=True)
    """By which a later run finds it (`control.comparisons.reuse`); empty if it was taken over itself."""
    reused_from: Mapped[str] = mapped_column(String(120), default="")
    """Request id of the answer that was taken over; empty if it was asked for."""
    finished_at: Mapped[datetime]


class ComparisonVerdict(Base):
    """What a judge says of two candidates' answers to one case."""

    __tablename__ = "comparison_verdict"

    run_id: Mapped[str] = mapped_column(ForeignKey("comparison_run.id", ondelete="CASCADE"), primary_key=True)
    case: Mapped[int] = mapped_column("case_number", primary_key=True, autoincrement=False)
    first: Mapped[int] = mapped_column("first_candidate", primary_key=True, autoincrement=False)
    """Place in the run's candidates, from 0; the second is larger."""
    second: Mapped[int] = mapped_column("second_candidate", primary_key=True, autoincrement=False)
    repeat: Mapped[int] = mapped_column("repeat_number", primary_key=True, autoincrement=False)
    scorer: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Place in the version's scorers, from 0."""
    forward: Mapped[str | None] = mapped_column(String(8))
    """first, second or tie, asked with the first answer shown first; null: the judge did not say."""
    backward: Mapped[str | None] = mapped_column(String(8))
    """Likewise with the second answer shown first."""
    winner: Mapped[str | None] = mapped_column(String(8))
    """What both together say: a tie where they differ."""
    note: Mapped[str] = mapped_column(String(1000), default="")
    """Why the judge did not say."""
    finished_at: Mapped[datetime]


class ComparisonRating(Base):
    """What a person says of one answer, whose it is they did not know."""

    __tablename__ = "comparison_rating"

    run_id: Mapped[str] = mapped_column(ForeignKey("comparison_run.id", ondelete="CASCADE"), primary_key=True)
    case: Mapped[int] = mapped_column("case_number", primary_key=True, autoincrement=False)
    candidate: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    repeat: Mapped[int] = mapped_column("repeat_number", primary_key=True, autoincrement=False)
    rater: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    """Username."""
    points: Mapped[int]
    """From 1 to 5, or 0 and 1 where the run's scale is whether answers pass."""
    note: Mapped[str] = mapped_column(String(1000), default="")
    created_at: Mapped[datetime]


class ComparisonShare(Base):
    """A link to the report of a run, for whoever is signed in."""

    __tablename__ = "comparison_share"
    __table_args__ = (Index("ix_comparison_share_run", "run_id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("comparison_run.id", ondelete="CASCADE"))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of its secret."""
    created_by: Mapped[str] = mapped_column(String(NAME))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class ComparisonVote(Base):
    """What somebody said of several routes' answers to one dialogue."""

    __tablename__ = "comparison_vote"
    __table_args__ = (
        Index("ix_comparison_vote_voter", "voter", "created_at"),
        Index("ix_comparison_vote_at", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    voter: Mapped[str] = mapped_column(String(NAME))
    """Username."""
    blind: Mapped[bool]
    """Whether the names were hidden until the vote."""
    messages: Mapped[list[Any]]
    """What was asked, as in a request to chat completions."""
    answers: Mapped[list[Any]]
    """`control.comparisons.vote_schemas.VoteAnswer`, in the order in which they were shown."""
    outcome: Mapped[str] = mapped_column(String(8))
    """best, tie or bad."""
    best: Mapped[int | None]
    """Place of the best answer, from 0."""
    reasons: Mapped[list[Any]]
    ideal: Mapped[str | None] = mapped_column(LongText)
    """How the answer should have been, if somebody wrote it."""
    note: Mapped[str] = mapped_column(String(1000), default="")
    created_at: Mapped[datetime]
