"""Alembic's entry: runs the migrations on the connection that `control.migrations.run` hands over."""

from __future__ import annotations

from alembic import context

from control.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    transaction_per_migration=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
