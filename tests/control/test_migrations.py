"""Migrations on every database: up, down and up again with data in place; interrupted ones; the models agree."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from control.db import Database
from control.errors import ConfigError
from control.migrations.run import current, migrate
from control.models import Base, Team


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


def test_up_down_and_up_again_with_data_in_place(database_url: str) -> None:
    async def main() -> None:
        db = Database(database_url)
        try:
            await migrate(db.engine)
            await migrate(db.engine)  # there is nothing to do
            async with db.write() as session:
                session.add(Team(name="团队 🚀", limits={"rpm": 1}, budgets=[], description="x" * 1000))
            async with db.engine.connect() as connection:
                assert await connection.run_sync(differences) == []
            await migrate(db.engine, "base")
            async with db.engine.connect() as connection:
                left = await connection.run_sync(lambda c: inspect(c).get_table_names())
            assert set(left) <= {"alembic_version"}
            await migrate(db.engine)
            async with db.engine.connect() as connection:
                assert await connection.run_sync(current) == "0004"
        finally:
            await db.close()

    asyncio.run(main())


def test_the_schema_of_a_newer_program_is_refused(database_url: str) -> None:
    async def main() -> None:
        db = Database(database_url)
        try:
            await migrate(db.engine)
            async with db.engine.begin() as connection:
                await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            with pytest.raises(ConfigError, match="9999"):
                await migrate(db.engine)
        finally:
            await db.close()

    asyncio.run(main())


def test_a_migration_that_fails_half_way_leaves_nothing_or_says_what_to_do(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise KeyboardInterrupt  # as final as a kill for the code on the way

    async def main() -> None:
        db = Database(database_url)
        try:
            with monkeypatch.context() as patched:
                patched.setattr("alembic.op.bulk_insert", breaks)  # the last statement of the first migration
                with pytest.raises(KeyboardInterrupt):
                    await migrate(db.engine)
            await db.engine.dispose()
            if database_url.startswith("mysql"):
                with pytest.raises(ConfigError, match=r"drop the database"):
                    await migrate(db.engine)
            else:
                await migrate(db.engine)
        finally:
            await db.close()

    asyncio.run(main())
