"""Knowledge bases: their documents, the indexes of these, chunks and vectors, and test sets with their runs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from control.models.base import LongText, Utc

BINARY: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

TABLES = (
    "knowledge_answer",
    "knowledge_run",
    "knowledge_question",
    "knowledge_test_set",
    "knowledge_vector",
    "knowledge_chunk",
    "knowledge_entry",
    "knowledge_document",
    "knowledge_index",
    "knowledge_base",
)
"""In an order in which they may be dropped."""

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "knowledge_base",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("readers", sa.JSON(), nullable=False),
        sa.Column("retrieval", sa.JSON(), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("changed_at", Utc(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("owner_kind", sa.String(length=8), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_knowledge_base")),
        sa.UniqueConstraint("name", name=op.f("uq_knowledge_base_name")),
        **BINARY,
    )
    op.create_index("ix_knowledge_base_owner", "knowledge_base", ["owner_kind", "owner"], unique=False)
    op.create_table(
        "knowledge_document",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("base_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("readers", sa.JSON(), nullable=True),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(
            ["base_id"], ["knowledge_base.id"], name=op.f("fk_knowledge_document_base_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_knowledge_document")),
        **BINARY,
    )
    op.create_index(op.f("ix_knowledge_document_deleting"), "knowledge_document", ["deleting"], unique=False)
    op.create_index("ix_knowledge_document_name", "knowledge_document", ["base_id", "name"], unique=False)
    op.create_table(
        "knowledge_index",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("base_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("embedding", sa.JSON(), nullable=False),
        sa.Column("chunking", sa.JSON(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("live_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["base_id"], ["knowledge_base.id"], name=op.f("fk_knowledge_index_base_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_knowledge_index")),
        sa.UniqueConstraint("base_id", "number", name=op.f("uq_knowledge_index_base_id")),
        **BINARY,
    )
    op.create_table(
        "knowledge_vector",
        sa.Column("base_id", sa.String(length=36), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("vector", sa.LargeBinary(length=65535), nullable=False),
        sa.ForeignKeyConstraint(
            ["base_id"], ["knowledge_base.id"], name=op.f("fk_knowledge_vector_base_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("base_id", "sha256", name=op.f("pk_knowledge_vector")),
        **BINARY,
    )
    op.create_table(
        "knowledge_chunk",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("index_id", sa.String(length=36), nullable=False),
        sa.Column("document_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("section", sa.String(length=500), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column(
            "text",
            LongText,
            nullable=False,
        ),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"], ["knowledge_document.id"], name=op.f("fk_knowledge_chunk_document_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["index_id"], ["knowledge_index.id"], name=op.f("fk_knowledge_chunk_index_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_knowledge_chunk")),
        sa.UniqueConstraint("index_id", "document_id", "number", name=op.f("uq_knowledge_chunk_index_id")),
        **BINARY,
    )
    op.create_index(op.f("ix_knowledge_chunk_document_id"), "knowledge_chunk", ["document_id"], unique=False)
    op.create_table(
        "knowledge_entry",
        sa.Column("index_id", sa.String(length=36), nullable=False),
        sa.Column("document_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("reused", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("message", sa.String(length=1000), nullable=False),
        sa.Column("not_before", Utc(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"], ["knowledge_document.id"], name=op.f("fk_knowledge_entry_document_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["index_id"], ["knowledge_index.id"], name=op.f("fk_knowledge_entry_index_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("index_id", "document_id", name=op.f("pk_knowledge_entry")),
        **BINARY,
    )
    op.create_index("ix_knowledge_entry_state", "knowledge_entry", ["state", "not_before"], unique=False)
    _test_sets()


def _test_sets() -> None:
    op.create_table(
        "knowledge_test_set",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("base_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("questions", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(
            ["base_id"], ["knowledge_base.id"], name=op.f("fk_knowledge_test_set_base_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_knowledge_test_set")),
        sa.UniqueConstraint("base_id", "name", name=op.f("uq_knowledge_test_set_base_id")),
        **BINARY,
    )
    op.create_table(
        "knowledge_question",
        sa.Column("set_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.String(length=4000), nullable=False),
        sa.Column("expected", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(
            ["set_id"], ["knowledge_test_set.id"], name=op.f("fk_knowledge_question_set_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("set_id", "number", name=op.f("pk_knowledge_question")),
        **BINARY,
    )
    op.create_table(
        "knowledge_run",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("set_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("index_number", sa.Integer(), nullable=False),
        sa.Column("index_facts", sa.JSON(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("message", sa.String(length=1000), nullable=False),
        sa.Column("not_before", Utc(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("finished_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["set_id"], ["knowledge_test_set.id"], name=op.f("fk_knowledge_run_set_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_knowledge_run")),
        sa.UniqueConstraint("set_id", "number", name=op.f("uq_knowledge_run_set_id")),
        **BINARY,
    )
    op.create_index("ix_knowledge_run_state", "knowledge_run", ["state", "not_before"], unique=False)
    op.create_table(
        "knowledge_answer",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.String(length=4000), nullable=False),
        sa.Column("expected", sa.JSON(), nullable=False),
        sa.Column("ranks", sa.JSON(), nullable=True),
        sa.Column("took_ms", sa.Double(), nullable=True),
        sa.Column("rerank", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["knowledge_run.id"], name=op.f("fk_knowledge_answer_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_knowledge_answer")),
        **BINARY,
    )


def downgrade() -> None:
    """Take back."""
    for table in TABLES:
        op.drop_table(table)
