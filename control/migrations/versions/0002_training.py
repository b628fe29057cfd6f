"""Datasets, training jobs, adapters and deployments."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from control.models.base import BigId, LongText, Utc

BINARY: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

TABLES = (
    "device_claim",
    "rollout",
    "deployment",
    "dataset_origin",
    "token_count",
    "adapter_data",
    "adapter_evaluation",
    "training_sample",
    "training_metric",
    "training_event",
    "training_checkpoint",
    "training_attempt",
    "dataset_version",
    "adapter_version",
    "training_job",
    "trainer",
    "dataset",
    "adapter",
)
"""In an order in which they may be dropped."""

COUNTER = sa.table("counter", sa.column("name"), sa.column("value"), sa.column("text"))

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "adapter",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("owner_kind", sa.String(length=8), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapter")),
        sa.UniqueConstraint("name", name=op.f("uq_adapter_name")),
        **BINARY,
    )
    op.create_index("ix_adapter_owner", "adapter", ["owner_kind", "owner"], unique=False)
    op.create_table(
        "dataset",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("owner_kind", sa.String(length=8), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
        sa.UniqueConstraint("name", name=op.f("uq_dataset_name")),
        **BINARY,
    )
    op.create_index("ix_dataset_owner", "dataset", ["owner_kind", "owner"], unique=False)
    op.create_table(
        "trainer",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("recipes", sa.JSON(), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("engines", sa.JSON(), nullable=False),
        sa.Column("seen_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trainer")),
        **BINARY,
    )
    op.create_table(
        "training_job",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("estimate", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("wanted", sa.String(length=8), nullable=False),
        sa.Column("failure", sa.String(length=12), nullable=False),
        sa.Column("message", sa.String(length=2000), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("not_before", Utc(), nullable=True),
        sa.Column("worker", sa.String(length=120), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("total_steps", sa.Integer(), nullable=False),
        sa.Column("latest", sa.JSON(), nullable=False),
        sa.Column("adapter_version_id", sa.String(length=36), nullable=True),
        sa.Column("cloned_from", sa.String(length=120), nullable=False),
        sa.Column("trace", sa.String(length=55), nullable=False),
        sa.Column("queued_at", Utc(), nullable=True),
        sa.Column("started_at", Utc(), nullable=True),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("owner_kind", sa.String(length=8), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_job")),
        sa.UniqueConstraint("name", name=op.f("uq_training_job_name")),
        **BINARY,
    )
    op.create_index("ix_training_job_owner", "training_job", ["owner_kind", "owner"], unique=False)
    op.create_index("ix_training_job_state", "training_job", ["state", "priority", "queued_at"], unique=False)
    op.create_table(
        "adapter_version",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("adapter_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("folder", sa.String(length=80), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("base", sa.JSON(), nullable=False),
        sa.Column("base_sha256", sa.String(length=64), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("problems", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("probes", sa.JSON(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("job", sa.String(length=120), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("card", LongText, nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_adapter_version_adapter_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapter_version")),
        sa.UniqueConstraint("adapter_id", "number", name=op.f("uq_adapter_version_adapter_id")),
        **BINARY,
    )
    op.create_index(op.f("ix_adapter_version_job"), "adapter_version", ["job"], unique=False)
    op.create_table(
        "dataset_version",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("dataset_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("asked_format", sa.String(length=16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("message", sa.String(length=1000), nullable=False),
        sa.Column("claimed_until", Utc(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["dataset.id"], name=op.f("fk_dataset_version_dataset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_version")),
        sa.UniqueConstraint("dataset_id", "number", name=op.f("uq_dataset_version_dataset_id")),
        **BINARY,
    )
    op.create_index("ix_dataset_version_state", "dataset_version", ["state"], unique=False)
    op.create_table(
        "token_count",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("base", sa.JSON(), nullable=False),
        sa.Column("base_hash", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("worker", sa.String(length=120), nullable=False),
        sa.Column("tried", sa.JSON(), nullable=False),
        sa.Column("lengths", sa.JSON(), nullable=False),
        sa.Column("message", sa.String(length=1000), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["dataset_version.id"], name=op.f("fk_token_count_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_count")),
        sa.UniqueConstraint("version_id", "base_hash", name=op.f("uq_token_count_version_id")),
        **BINARY,
    )
    op.create_index("ix_token_count_state", "token_count", ["state"], unique=False)
    op.create_table(
        "training_attempt",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=120), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("resume", sa.Boolean(), nullable=False),
        sa.Column("lease_until", Utc(), nullable=False),
        sa.Column("stop_asked_at", Utc(), nullable=True),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("log_bytes", sa.BigInteger(), nullable=False),
        sa.Column("finished", sa.JSON(), nullable=False),
        sa.Column("started", sa.JSON(), nullable=False),
        sa.Column("exit_status", sa.Integer(), nullable=True),
        sa.Column("failure", sa.String(length=12), nullable=False),
        sa.Column("message", sa.String(length=2000), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("started_at", Utc(), nullable=True),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["training_job.id"], name=op.f("fk_training_attempt_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_attempt")),
        sa.UniqueConstraint("job_id", "number", name=op.f("uq_training_attempt_job_id")),
        **BINARY,
    )
    op.create_index("ix_training_attempt_state", "training_attempt", ["state", "worker"], unique=False)
    op.create_table(
        "training_checkpoint",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("folder", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["training_job.id"], name=op.f("fk_training_checkpoint_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "step", name=op.f("pk_training_checkpoint")),
        **BINARY,
    )
    op.create_table(
        "training_event",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state_before", sa.String(length=12), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("message", sa.String(length=2000), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["training_job.id"], name=op.f("fk_training_event_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_event")),
        **BINARY,
    )
    op.create_index("ix_training_event_job", "training_event", ["job_id", "id"], unique=False)
    op.create_table(
        "training_metric",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["training_job.id"], name=op.f("fk_training_metric_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "step", name=op.f("pk_training_metric")),
        **BINARY,
    )
    op.create_table(
        "training_sample",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("prompt", LongText, nullable=False),
        sa.Column("text", LongText, nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["training_job.id"], name=op.f("fk_training_sample_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_sample")),
        sa.UniqueConstraint("job_id", "step", "number", name=op.f("uq_training_sample_job_id")),
        **BINARY,
    )
    op.create_table(
        "adapter_evaluation",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("adapter_version_id", sa.String(length=36), nullable=False),
        sa.Column("data", sa.String(length=140), nullable=False),
        sa.Column("job", sa.String(length=120), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_version_id"],
            ["adapter_version.id"],
            name=op.f("fk_adapter_evaluation_adapter_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapter_evaluation")),
        **BINARY,
    )
    op.create_index(
        op.f("ix_adapter_evaluation_adapter_version_id"), "adapter_evaluation", ["adapter_version_id"], unique=False
    )
    op.create_table(
        "adapter_data",
        sa.Column("adapter_version_id", sa.String(length=36), nullable=False),
        sa.Column("dataset", sa.String(length=120), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_version_id"],
            ["adapter_version.id"],
            name=op.f("fk_adapter_data_adapter_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("adapter_version_id", "dataset", "number", name=op.f("pk_adapter_data")),
        **BINARY,
    )
    op.create_table(
        "dataset_origin",
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("consent", sa.String(length=250), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["dataset_version.id"], name=op.f("fk_dataset_origin_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "line", name=op.f("pk_dataset_origin")),
        **BINARY,
    )
    op.create_index(op.f("ix_dataset_origin_origin"), "dataset_origin", ["origin"], unique=False)
    op.create_table(
        "deployment",
        sa.Column("adapter_version_id", sa.String(length=36), nullable=False),
        sa.Column("served_name", sa.String(length=160), nullable=False),
        sa.Column("worker", sa.String(length=120), nullable=False),
        sa.Column("engine", sa.String(length=120), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("message", sa.String(length=2000), nullable=False),
        sa.Column("drain_until", Utc(), nullable=True),
        sa.Column("publish", sa.JSON(), nullable=False),
        sa.Column("live_at", Utc(), nullable=True),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_version_id"],
            ["adapter_version.id"],
            name=op.f("fk_deployment_adapter_version_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
        sa.UniqueConstraint("adapter_version_id", "worker", "engine", name=op.f("uq_deployment_adapter_version_id")),
        **BINARY,
    )
    op.create_index(op.f("ix_deployment_served_name"), "deployment", ["served_name"], unique=False)
    op.create_table(
        "rollout",
        sa.Column("adapter_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("served_name", sa.String(length=160), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.String(length=2000), nullable=False),
        sa.Column("rule", sa.JSON(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("since", Utc(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("endpoints", sa.JSON(), nullable=False),
        sa.Column("route_version", sa.Integer(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("score", sa.JSON(), nullable=True),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"], name=op.f("fk_rollout_adapter_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout")),
        **BINARY,
    )
    op.create_index("ix_rollout_adapter", "rollout", ["adapter_id", "created_at"], unique=False)
    op.create_index("ix_rollout_state", "rollout", ["state"], unique=False)
    op.create_table(
        "device_claim",
        sa.Column("worker", sa.String(length=120), nullable=False),
        sa.Column("uuid", sa.String(length=80), nullable=False),
        sa.Column("attempt_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["training_attempt.id"], name=op.f("fk_device_claim_attempt_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("worker", "uuid", name=op.f("pk_device_claim")),
        **BINARY,
    )
    op.create_index(op.f("ix_device_claim_attempt_id"), "device_claim", ["attempt_id"], unique=False)
    op.add_column("team", sa.Column("gpu_quota", sa.Integer(), nullable=True))
    op.bulk_insert(COUNTER, [{"name": "training", "value": 0, "text": ""}])


def downgrade() -> None:
    """Take back."""
    op.execute(COUNTER.delete().where(COUNTER.c.name == "training"))
    op.drop_column("team", "gpu_quota")
    for table in TABLES:
        op.drop_table(table)
