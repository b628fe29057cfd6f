"""Comparisons: suites, their versions and cases, runs, and every answer. Jobs that were deleted."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from control.models.base import LongText, Utc

BINARY: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

TABLES = (
    "training_job_deleted", "adapter_gate", "suite_schedule", "comparison_share", "comparison_vote",
    "comparison_rating", "comparison_verdict", "comparison_cell", "comparison_run", "suite_case",
    "suite_version", "suite",
)  # fmt: skip
"""In an order in which they may be dropped."""

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "suite",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("owner_kind", sa.String(length=8), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suite")),
        sa.UniqueConstraint("name", name=op.f("uq_suite_name")),
        **BINARY,
    )
    op.create_index("ix_suite_owner", "suite", ["owner_kind", "owner"], unique=False)
    op.create_table(
        "suite_version",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("suite_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(["suite_id"], ["suite.id"], name=op.f("fk_suite_version_suite_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suite_version")),
        sa.UniqueConstraint("suite_id", "number", name=op.f("uq_suite_version_suite_id")),
        sa.UniqueConstraint("suite_id", "sha256", name="uq_suite_version_content"),
        **BINARY,
    )
    op.create_table(
        "comparison_run",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("suite_id", sa.String(length=36), nullable=False),
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("note", sa.String(length=1000), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("candidates", sa.JSON(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("estimate", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("wanted", sa.String(length=8), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("message", sa.String(length=1000), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("reused", sa.Integer(), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("judged", sa.Integer(), nullable=False),
        sa.Column("rate", sa.Double(), nullable=False),
        sa.Column("billed_nano", sa.BigInteger(), nullable=False),
        sa.Column("scale", sa.String(length=8), nullable=False),
        sa.Column("claim", sa.String(length=36), nullable=False),
        sa.Column("claimed_until", Utc(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("started_at", Utc(), nullable=True),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["suite_id"], ["suite.id"], name=op.f("fk_comparison_run_suite_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["suite_version.id"], name=op.f("fk_comparison_run_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparison_run")),
        **BINARY,
    )
    op.create_index("ix_comparison_run_state", "comparison_run", ["state", "claimed_until"], unique=False)
    op.create_index("ix_comparison_run_suite", "comparison_run", ["suite_id", "created_at"], unique=False)
    op.create_table(
        "suite_case",
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["suite_version.id"], name=op.f("fk_suite_case_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "number", name=op.f("pk_suite_case")),
        **BINARY,
    )
    op.create_table(
        "comparison_cell",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("case_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("candidate", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("repeat_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("request_id", sa.String(length=120), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("ttft_ms", sa.Double(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("limited", sa.Integer(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=True),
        sa.Column("snapshot", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("reused_from", sa.String(length=120), nullable=False),
        sa.Column("finished_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["comparison_run.id"], name=op.f("fk_comparison_cell_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "case_number", "candidate", "repeat_number", name=op.f("pk_comparison_cell")),
        **BINARY,
    )
    op.create_index(op.f("ix_comparison_cell_digest"), "comparison_cell", ["digest"], unique=False)
    op.create_table(
        "comparison_verdict",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("case_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_candidate", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("second_candidate", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("repeat_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("scorer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("forward", sa.String(length=8), nullable=True),
        sa.Column("backward", sa.String(length=8), nullable=True),
        sa.Column("winner", sa.String(length=8), nullable=True),
        sa.Column("note", sa.String(length=1000), nullable=False),
        sa.Column("finished_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["comparison_run.id"], name=op.f("fk_comparison_verdict_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "run_id",
            "case_number",
            "first_candidate",
            "second_candidate",
            "repeat_number",
            "scorer",
            name=op.f("pk_comparison_verdict"),
        ),
        **BINARY,
    )
    op.create_table(
        "comparison_rating",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("case_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("candidate", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("repeat_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rater", sa.String(length=120), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("note", sa.String(length=1000), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["comparison_run.id"], name=op.f("fk_comparison_rating_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "case_number", "candidate", "repeat_number", "rater", name=op.f("pk_comparison_rating")
        ),
        **BINARY,
    )
    op.create_table(
        "comparison_share",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("revoked_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["comparison_run.id"], name=op.f("fk_comparison_share_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparison_share")),
        sa.UniqueConstraint("digest", name=op.f("uq_comparison_share_digest")),
        **BINARY,
    )
    op.create_index("ix_comparison_share_run", "comparison_share", ["run_id"], unique=False)
    op.create_table(
        "comparison_vote",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("voter", sa.String(length=120), nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("best", sa.Integer(), nullable=True),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("ideal", LongText, nullable=True),
        sa.Column("note", sa.String(length=1000), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparison_vote")),
        **BINARY,
    )
    op.create_index("ix_comparison_vote_voter", "comparison_vote", ["voter", "created_at"], unique=False)
    op.create_index("ix_comparison_vote_at", "comparison_vote", ["created_at"], unique=False)
    op.create_table(
        "training_job_deleted",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("deleted_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_job_deleted")),
        **BINARY,
    )
    op.add_column("trainer", sa.Column("unknown_jobs", sa.JSON(), nullable=True))
    op.add_column("trainer", sa.Column("dashboard", sa.String(length=1024), nullable=True))
    op.create_table(
        "suite_schedule",
        sa.Column("suite_id", sa.String(length=36), nullable=False),
        sa.Column("times", sa.JSON(), nullable=False),
        sa.Column("run", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("next_at", Utc(), nullable=False),
        sa.Column("last_run", sa.String(length=36), nullable=True),
        sa.Column("judged", sa.String(length=36), nullable=True),
        sa.Column("baseline", sa.String(length=36), nullable=True),
        sa.Column("regressions", sa.JSON(), nullable=False),
        sa.Column("message", sa.String(length=1000), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["suite_id"], ["suite.id"], name=op.f("fk_suite_schedule_suite_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suite_schedule")),
        sa.UniqueConstraint("suite_id", name=op.f("uq_suite_schedule_suite_id")),
        **BINARY,
    )
    op.create_index("ix_suite_schedule_due", "suite_schedule", ["enabled", "next_at"], unique=False)
    op.add_column("adapter", sa.Column("gate", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "adapter_gate",
        sa.Column("adapter_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("served_name", sa.String(length=160), nullable=False),
        sa.Column("gate", sa.JSON(), nullable=False),
        sa.Column("goal", sa.JSON(), nullable=False),
        sa.Column("run", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.String(length=2000), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_adapter_gate_adapter_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapter_gate")),
        **BINARY,
    )
    op.create_index("ix_adapter_gate_state", "adapter_gate", ["state"], unique=False)
    op.create_index("ix_adapter_gate_adapter", "adapter_gate", ["adapter_id", "created_at"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_column("trainer", "dashboard")
    op.drop_column("trainer", "unknown_jobs")
    for table in TABLES:
        op.drop_table(table)
    op.drop_column("adapter", "gate")
