"""The first schema: people, teams, keys, endpoints, routes, ledger, audit."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from control.models.base import BigId, LongText, Utc

BINARY: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
"""Names differ by case on every database, not only on those where that is the default."""

WHO = {"key": 250, "team": 120, "owner": 120}
PLACE = {"route": 120, "endpoint": 120, "upstream_model": 160, "operation": 16}
ROLLUPS = (
    ("usage_hour", "hour", WHO | PLACE, ("key", *PLACE)),
    ("usage_place_hour", "hour", PLACE, tuple(PLACE)),
    ("usage_owner_shift", "shift", {"team": 120, "owner": 120}, ("team", "owner")),
    ("usage_caller_day", "day", WHO, ("key",)),
    ("shadow_hour", "hour", PLACE, tuple(PLACE)),
)

BESIDE = {"usage_caller_day": ["cost_nano", "requests"]}
"""Columns that the index of the unique constraint holds, too."""

COUNTERS = ("config", "usage", "audit", "retention", "prices")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "access_grant",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("resource_kind", sa.String(length=16), nullable=False),
        sa.Column("resource", sa.String(length=120), nullable=False),
        sa.Column("principal_kind", sa.String(length=16), nullable=False),
        sa.Column("principal", sa.String(length=250), nullable=False),
        sa.Column("permission", sa.String(length=8), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_grant")),
        sa.UniqueConstraint(
            "resource_kind", "resource", "principal_kind", "principal", name=op.f("uq_access_grant_resource_kind")
        ),
        **BINARY,
    )
    op.create_table(
        "api_key",
        sa.Column("seq", BigId, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("public_name", sa.String(length=250), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("owner_kind", sa.String(length=8), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("old_digest", sa.String(length=64), nullable=True),
        sa.Column("old_until", Utc(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("revoked_at", Utc(), nullable=True),
        sa.Column("expires_at", Utc(), nullable=True),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("cidrs", sa.JSON(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("budgets", sa.JSON(), nullable=False),
        sa.Column("log_bodies", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(length=1000), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_api_key")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_key_digest")),
        sa.UniqueConstraint("id", name=op.f("uq_api_key_id")),
        sa.UniqueConstraint("public_name", name=op.f("uq_api_key_public_name")),
        **BINARY,
    )
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.create_index("ix_api_key_owner", ["owner_kind", "owner"], unique=False)
        batch_op.create_index(batch_op.f("ix_api_key_revoked_at"), ["revoked_at"], unique=False)

    op.create_table(
        "audit_log",
        sa.Column("seq", BigId, autoincrement=False, nullable=False),
        sa.Column("ts", Utc(), nullable=False),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("resource_kind", sa.String(length=32), nullable=False),
        sa.Column("resource", sa.String(length=250), nullable=False),
        sa.Column("state_before", LongText, nullable=False),
        sa.Column("state_after", LongText, nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_log")),
        **BINARY,
    )
    with op.batch_alter_table("audit_log", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_log_action"), ["action"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_log_actor"), ["actor"], unique=False)
        batch_op.create_index("ix_audit_log_resource", ["resource_kind", "resource"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_log_ts"), ["ts"], unique=False)

    op.create_table(
        "counter",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counter")),
        **BINARY,
    )
    op.create_table(
        "endpoint",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoint")),
        sa.UniqueConstraint("name", name=op.f("uq_endpoint_name")),
        **BINARY,
    )
    op.create_table(
        "key_use",
        sa.Column("public_name", sa.String(length=250), nullable=False),
        sa.Column("last_used_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("public_name", name=op.f("pk_key_use")),
        **BINARY,
    )
    op.create_table(
        "route",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("draft", sa.Boolean(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route")),
        sa.UniqueConstraint("name", name=op.f("uq_route_name")),
        **BINARY,
    )
    op.create_table(
        "spent_token",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_spent_token")),
        **BINARY,
    )
    op.create_index(op.f("ix_spent_token_expires_at"), "spent_token", ["expires_at"], unique=False)
    op.create_table(
        "service_token",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("last_used_at", Utc(), nullable=True),
        sa.Column("revoked_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_token")),
        sa.UniqueConstraint("digest", name=op.f("uq_service_token_digest")),
        sa.UniqueConstraint("name", name=op.f("uq_service_token_name")),
        **BINARY,
    )
    op.create_table(
        "spend",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("span", sa.String(length=8), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("finish", sa.BigInteger(), nullable=False),
        sa.Column("nano", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spend")),
        sa.UniqueConstraint("scope", "name", "span", "timezone", "start", name="uq_spend"),
        **BINARY,
    )
    with op.batch_alter_table("spend", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_spend_changed"), ["changed"], unique=False)

    op.create_table(
        "team",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("budgets", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_team")),
        sa.UniqueConstraint("name", name=op.f("uq_team_name")),
        **BINARY,
    )
    _beside_the_ledger()
    op.create_table(
        "usage_event",
        sa.Column("seq", BigId, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("ts", Utc(), nullable=False),
        sa.Column("received_at", Utc(), nullable=False),
        sa.Column("gateway", sa.String(length=200), nullable=False),
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("team", sa.String(length=120), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("operation", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("route", sa.String(length=255), nullable=False),
        sa.Column("endpoint", sa.String(length=200), nullable=False),
        sa.Column("upstream_model", sa.String(length=255), nullable=False),
        sa.Column("snapshot", sa.String(length=200), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("ended", sa.String(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(length=64), nullable=False),
        sa.Column("usage_source", sa.String(length=16), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.Column("ttft_ms", sa.Double(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("attempts", sa.JSON(), nullable=False),
        sa.Column("retrieval", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("cache", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("shadow_of", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_usage_event")),
        sa.UniqueConstraint("id", name=op.f("uq_usage_event_id")),
        **BINARY,
    )
    with op.batch_alter_table("usage_event", schema=None) as batch_op:
        batch_op.create_index("ix_usage_event_key", ["key", "ts", "seq"], unique=False)
        batch_op.create_index("ix_usage_event_owner", ["owner", "ts", "seq"], unique=False)
        batch_op.create_index(batch_op.f("ix_usage_event_request_id"), ["request_id"], unique=False)
        batch_op.create_index("ix_usage_event_team", ["team", "ts", "seq"], unique=False)
        batch_op.create_index("ix_usage_event_ts", ["ts", "seq"], unique=False)

    _create_prices()
    _create_rollups()
    op.create_table(
        "usage_quarantine",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("received_at", Utc(), nullable=False),
        sa.Column("gateway", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("event", LongText, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_quarantine")),
        **BINARY,
    )
    op.create_table(
        "user_account",
        sa.Column("username", sa.String(length=120), nullable=False),
        sa.Column("display_name", sa.String(length=120), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.String(length=100), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("must_change_password", sa.Boolean(), nullable=False),
        sa.Column("token_version", sa.Integer(), nullable=False),
        sa.Column("failed_logins", sa.Integer(), nullable=False),
        sa.Column("locked_until", Utc(), nullable=True),
        sa.Column("last_login_at", Utc(), nullable=True),
        sa.Column("sso_issuer", sa.String(length=255), nullable=True),
        sa.Column("sso_subject", sa.String(length=255), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_account")),
        sa.UniqueConstraint("sso_issuer", "sso_subject", name=op.f("uq_user_account_sso_issuer")),
        sa.UniqueConstraint("username", name=op.f("uq_user_account_username")),
        **BINARY,
    )
    _chat()
    op.create_table(
        "credential",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("endpoint_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("sealed", LongText, nullable=False),
        sa.Column("wrapped_key", sa.String(length=255), nullable=False),
        sa.Column("kek_id", sa.String(length=16), nullable=False),
        sa.Column("masked", sa.String(length=32), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoint.id"], name=op.f("fk_credential_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credential")),
        sa.UniqueConstraint("endpoint_id", "name", name=op.f("uq_credential_endpoint_id")),
        **BINARY,
    )
    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credential_kek_id"), ["kek_id"], unique=False)

    op.create_table(
        "membership",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("team_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("manager", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name=op.f("fk_membership_team_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_membership_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership")),
        sa.UniqueConstraint("team_id", "user_id", name=op.f("uq_membership_team_id")),
        **BINARY,
    )
    with op.batch_alter_table("membership", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_membership_user_id"), ["user_id"], unique=False)

    op.create_table(
        "refresh_session",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("family", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("ends_at", Utc(), nullable=True),
        sa.Column("used_at", Utc(), nullable=True),
        sa.Column("revoked_at", Utc(), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("sso_session", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_refresh_session_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_refresh_session")),
        **BINARY,
    )
    with op.batch_alter_table("refresh_session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_refresh_session_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_refresh_session_family"), ["family"], unique=False)
        batch_op.create_index(batch_op.f("ix_refresh_session_sso_session"), ["sso_session"], unique=False)
        batch_op.create_index(batch_op.f("ix_refresh_session_user_id"), ["user_id"], unique=False)

    op.create_table(
        "route_version",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("route_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("note", sa.String(length=1000), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(["route_id"], ["route.id"], name=op.f("fk_route_version_route_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route_version")),
        sa.UniqueConstraint("route_id", "number", name=op.f("uq_route_version_route_id")),
        **BINARY,
    )
    op.bulk_insert(
        sa.table("counter", sa.column("name"), sa.column("value"), sa.column("text")),
        [{"name": name, "value": 1 if name == "config" else 0, "text": ""} for name in COUNTERS],
    )


def _chat() -> None:
    """What people keep of their chats."""
    op.create_table(
        "chat_session",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("sealed_title", sa.String(length=1200), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("sealed", LongText, nullable=False),
        sa.Column("wrapped_key", sa.String(length=255), nullable=False),
        sa.Column("kek_id", sa.String(length=16), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_chat_session_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_session")),
        **BINARY,
    )
    with op.batch_alter_table("chat_session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_chat_session_kek_id"), ["kek_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_chat_session_user_id"), ["user_id"], unique=False)


def _create_prices() -> None:
    op.create_table(
        "price",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("model", sa.String(length=160), nullable=False),
        sa.Column("effective_from", Utc(), nullable=False),
        sa.Column("price", sa.JSON(), nullable=False),
        sa.Column("currency", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=1000), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price")),
        **BINARY,
    )
    with op.batch_alter_table("price", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_price_effective_from"), ["effective_from"], unique=False)
        batch_op.create_index("ix_price_what", ["kind", "name", "model", "effective_from"], unique=False)


def _create_rollups() -> None:
    for rollup, time, parts, unique in ROLLUPS:
        op.create_table(
            rollup,
            sa.Column("id", BigId, autoincrement=True, nullable=False),
            sa.Column(time, sa.Integer(), nullable=False),
            *(sa.Column(name, sa.String(length=length), nullable=False) for name, length in parts.items()),
            sa.Column("requests", sa.BigInteger(), nullable=False),
            sa.Column("failed", sa.BigInteger(), nullable=False),
            sa.Column("input_tokens", sa.BigInteger(), nullable=False),
            sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
            sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
            sa.Column("output_tokens", sa.BigInteger(), nullable=False),
            sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
            sa.Column("cost_nano", sa.BigInteger(), nullable=False),
            sa.Column("cached", sa.BigInteger(), nullable=False),
            sa.Column("saved_nano", sa.BigInteger(), nullable=False),
            sa.Column("ttft_count", sa.BigInteger(), nullable=False),
            sa.Column("duration_ms", sa.Double(), nullable=False),
            sa.Column("ttft_ms", sa.Double(), nullable=False),
            *(sa.Column(f"duration_{n}", sa.Integer(), nullable=True) for n in range(18)),
            *(sa.Column(f"ttft_{n}", sa.Integer(), nullable=True) for n in range(18)),
            sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{rollup}")),
            sa.UniqueConstraint(time, *unique, name=f"uq_{rollup}", postgresql_include=BESIDE.get(rollup, [])),
            **BINARY,
        )
    with op.batch_alter_table("usage_hour", schema=None) as batch_op:
        batch_op.create_index("ix_usage_hour_key", ["key", "hour"], unique=False)
        batch_op.create_index("ix_usage_hour_owner", ["owner", "hour"], unique=False)
        batch_op.create_index("ix_usage_hour_team", ["team", "hour"], unique=False)

    with op.batch_alter_table("usage_caller_day", schema=None) as batch_op:
        batch_op.create_index("ix_usage_caller_day_key", ["key", "day", "cost_nano", "requests"], unique=False)
        batch_op.create_index("ix_usage_caller_day_owner", ["owner", "day"], unique=False)
        batch_op.create_index("ix_usage_caller_day_team", ["team", "day"], unique=False)


def _beside_the_ledger() -> None:
    """What gateways tell that is not money: bodies, how they do."""
    op.create_table(
        "request_body",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("gateway", sa.String(length=200), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("expires_at", Utc(), nullable=False),
        sa.Column("sealed", LongText, nullable=False),
        sa.Column("wrapped_key", sa.String(length=255), nullable=False),
        sa.Column("kek_id", sa.String(length=16), nullable=False),
        sa.Column("request_cut", sa.Boolean(), nullable=False),
        sa.Column("response_cut", sa.Boolean(), nullable=False),
        sa.Column("redacted", sa.JSON(), nullable=False),
        sa.Column("erased_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_body")),
        **BINARY,
    )
    with op.batch_alter_table("request_body", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_request_body_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_request_body_kek_id"), ["kek_id"], unique=False)

    _gateways()


def _gateways() -> None:
    """What gateways tell of themselves."""
    op.create_table(
        "gateway_status",
        sa.Column("gateway", sa.String(length=200), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("snapshot", sa.String(length=200), nullable=True),
        sa.Column("started_at", Utc(), nullable=False),
        sa.Column("reported_at", Utc(), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("gateway", name=op.f("pk_gateway_status")),
        **BINARY,
    )
    op.create_table(
        "breaker_span",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("gateway", sa.String(length=200), nullable=False),
        sa.Column("endpoint", sa.String(length=200), nullable=False),
        sa.Column("target", sa.String(length=500), nullable=False),
        sa.Column("credential", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.String(length=40), nullable=False),
        sa.Column("began_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("ended", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_breaker_span")),
        **BINARY,
    )
    with op.batch_alter_table("breaker_span", schema=None) as batch_op:
        batch_op.create_index("ix_breaker_span_endpoint", ["endpoint", "began_at"], unique=False)
        batch_op.create_index("ix_breaker_span_ended_at", ["ended_at", "gateway"], unique=False)


def downgrade() -> None:
    """Take back: whole tables, their indexes with them (MySQL refuses to drop an index that a key needs)."""
    for table in (
        "route_version",
        "refresh_session",
        "membership",
        "credential",
        "chat_session",
        "user_account",
        "usage_quarantine",
        "price",
        "usage_caller_day",
        "usage_owner_shift",
        "usage_place_hour",
        "usage_hour",
        "usage_event",
        "team",
        "spend",
        "shadow_hour",
        "spent_token",
        "service_token",
        "request_body",
        "gateway_status",
        "breaker_span",
        "route",
        "key_use",
        "endpoint",
        "counter",
        "audit_log",
        "api_key",
        "access_grant",
    ):
        op.drop_table(table)
