"""kill -9 in the middle of a migration: the next one does the rest, or says exactly what to do; that then works."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from control.db import Database
from control.migrations.run import current
from tests.control.test_migrations import differences
from tests.fakes.databases import Server
from tests.fakes.killed import Point, killed_at, run_command

LAST = "0004"
"""The newest schema."""
HALF = {
    "in the middle of the tables": ("after", "CREATE TABLE", 8),
    "in the middle of the indexes": ("after", "CREATE INDEX", 5),
    "before the first rows": ("before", "INSERT INTO counter", 1),
    "before the version is written": ("before", "INSERT INTO alembic_version", 1),
}
WHOLE = {
    "before the first table": ("before", "CREATE TABLE", 1),
    "after the first table": ("after", "CREATE TABLE", 1),
}
"""Where even MariaDB has nothing half done: its first table is the marker."""


@pytest.fixture
def config(database_url: str, tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(f'[console]\ndata_dir = "{tmp_path}"\n[database]\nurl = "{database_url}"\n')
    return file


def is_whole(url: str) -> None:
    """The schema is the newest, and like the models."""

    async def main() -> None:
        db = Database(url)
        try:
            async with db.engine.connect() as connection:
                assert await connection.run_sync(current) == LAST
                assert await connection.run_sync(differences) == []
            async with db.read() as session:
                counters = (await session.scalars(text("SELECT name FROM counter ORDER BY name"))).all()
                assert counters == ["audit", "config", "prices", "retention", "training", "usage"]
        finally:
            await db.close()

    asyncio.run(main())


def empty_again(url: str) -> None:
    """What the message tells: drop the database, create it again."""
    name = url.rpartition("/")[2].partition("?")[0]

    async def main() -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP DATABASE {name}"))
            await connection.execute(text(f"CREATE DATABASE {name}"))
        await engine.dispose()

    asyncio.run(main())


@pytest.mark.parametrize("point", [*HALF.values(), *WHOLE.values()], ids=[*HALF, *WHOLE])
def test_the_first_migration(database_url: str, config: Path, point: Point) -> None:
    killed_at(point, config, "migrate")
    again = run_command(config, "migrate")
    if database_url.startswith("mysql") and point in HALF.values():
        assert again.returncode == 2
        assert f"a migration (base to {LAST}) was interrupted" in again.stderr
        assert "drop the database, create it again empty, and run `tunegate migrate`" in again.stderr
        assert run_command(config, "serve").returncode == 2, "nothing is served from half a schema"
        empty_again(database_url)
        again = run_command(config, "migrate")
    assert again.returncode == 0, again.stderr
    is_whole(database_url)


@pytest.fixture
def mariadb(servers: dict[str, Server], tmp_path: Path) -> tuple[str, Path]:
    """URL of an empty database that commits every statement by itself, and a configuration with it."""
    url, file = servers["mariadb"].new_url(), tmp_path / "config.toml"
    file.write_text(f'[console]\ndata_dir = "{tmp_path}"\n[database]\nurl = "{url}"\n')
    return url, file


def test_a_migration_that_was_done_but_for_its_marker(mariadb: tuple[str, Path]) -> None:
    url, config = mariadb
    killed_at(("before", "DROP TABLE tunegate_migrating", 1), config, "migrate")
    again = run_command(config, "migrate")
    assert again.returncode == 0, again.stderr
    is_whole(url)


def test_a_downgrade_that_was_interrupted_is_not_taken_for_a_whole_schema(mariadb: tuple[str, Path]) -> None:
    _, config = mariadb
    assert run_command(config, "migrate").returncode == 0
    killed_at(("after", "DROP TABLE", 3), config, "migrate", "base")
    for command in (["migrate"], ["migrate", "base"], ["serve"]):
        again = run_command(config, *command)
        assert again.returncode == 2
        assert f"a migration ({LAST} to base) was interrupted" in again.stderr
        assert "restore the backup taken before it" in again.stderr
        assert "DROP TABLE tunegate_migrating" in again.stderr
