"""Test sets of knowledge bases: questions with what should be found, and what each run of them has found."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import NAME, Base, new_id, now

QUESTION_CHARS = 4000


class KnowledgeTestSet(Base):
    """Questions that say how well a base finds."""

    __tablename__ = "knowledge_test_set"
    __table_args__ = (UniqueConstraint("base_id", "name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    base_id: Mapped[str] = mapped_column(ForeignKey("knowledge_base.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(NAME))
    questions: Mapped[int] = mapped_column(default=0)
    """Number of the last question: numbers are never reused."""
    runs: Mapped[int] = mapped_column(default=0)
    """Number of the last run, likewise."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str] = mapped_column(String(NAME))


class KnowledgeQuestion(Base):
    """A question of a set."""

    __tablename__ = "knowledge_question"

    set_id: Mapped[str] = mapped_column(ForeignKey("knowledge_test_set.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(QUESTION_CHARS))
    expected: Mapped[list[Any]]
    """`control.knowledge.evaluation.schemas.Expected`, each."""
    created_by: Mapped[str] = mapped_column(String(NAME))


class KnowledgeRun(Base):
    """All questions of a set, asked of one index with one way of looking."""

    __tablename__ = "knowledge_run"
    __table_args__ = (
        UniqueConstraint("set_id", "number"),
        Index("ix_knowledge_run_state", "state", "not_before"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    set_id: Mapped[str] = mapped_column(ForeignKey("knowledge_test_set.id", ondelete="CASCADE"))
    number: Mapped[int]
    index_number: Mapped[int]
    index_facts: Mapped[dict[str, Any]]
    """Embedding and chunking of that index, which may be gone."""
    settings: Mapped[dict[str, Any]]
    """`control.knowledge.evaluation.schemas.RunSettings`."""
    state: Mapped[str] = mapped_column(String(12))
    """waiting, running, done or failed."""
    code: Mapped[str] = mapped_column(String(32), default="")
    """Why it failed, or waits."""
    message: Mapped[str] = mapped_column(String(1000), default="")
    not_before: Mapped[datetime]
    """Not worked on until then: a pause, and the claim of the process that works on it."""
    tries: Mapped[int] = mapped_column(default=0)
    """Troubles in a row."""
    total: Mapped[int]
    """Questions."""
    done: Mapped[int] = mapped_column(default=0)
    """Of these, those that are asked."""
    figures: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """`control.knowledge.evaluation.schemas.Figures`, at the end."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str] = mapped_column(String(NAME))
    finished_at: Mapped[datetime | None]


class KnowledgeAnswer(Base):
    """A question of a run, as it was when the run began: rows without `ranks` are still to be asked."""

    __tablename__ = "knowledge_answer"

    run_id: Mapped[str] = mapped_column(ForeignKey("knowledge_run.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Of the question."""
    text: Mapped[str] = mapped_column(String(QUESTION_CHARS))
    expected: Mapped[list[Any]]
    ranks: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    """Of each expected passage, the place at which it was found, from 1; null: not among the first ten."""
    took_ms: Mapped[float | None]
    rerank: Mapped[str] = mapped_column(String(8), default="none")
    """`gateway.contract.retrieval.RerankOutcome`."""
