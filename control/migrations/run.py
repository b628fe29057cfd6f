"""Bring a database to a revision of the schema: `tunegate migrate`, and every start on the embedded SQLite.

SQLite and PostgreSQL run a migration in one transaction: killed half-way, nothing has happened. MySQL and MariaDB
commit every statement by itself, so there a marker says which migration was under way. Found at the next start, it is
removed if the migration had not begun or was done but for that, and else stops with what to do instead of guessing.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from control.errors import ConfigError

_MARKER = "tunegate_migrating"


async def migrate(engine: AsyncEngine, revision: str = "head") -> None:
    """Upgrade or downgrade to a revision (`head`, `base` or an id); a schema newer than this program is refused.

    Raises:
        ConfigError: the schema is of a newer Tunegate, or a migration was interrupted on MySQL/MariaDB.
    """
    async with engine.connect() as connection:
        await connection.run_sync(_migrate, revision)
        await connection.commit()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """The revision to which `migrate` brings a database."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "there is one migration at least"
    return head


def current(connection: Connection) -> str | None:
    """The revision that the database is at; None when it is empty."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _migrate(connection: Connection, revision: str) -> None:
    config = _config(connection)
    scripts = ScriptDirectory.from_config(config)
    at = current(connection)
    if at is not None and at not in {script.revision for script in scripts.walk_revisions()}:
        raise ConfigError(f"the database has schema {at}, which this Tunegate does not know: it is too old for it")
    target = scripts.get_current_head() if revision == "head" else None if revision == "base" else revision
    careful = connection.dialect.name in ("mysql", "mariadb")
    if careful:
        _settle(connection, at)
    if at == target:
        return
    if careful:
        connection.execute(text(f"CREATE TABLE {_MARKER} (step VARCHAR(200) NOT NULL)"))
        step = f"{at or 'base'} to {target or 'base'}"
        connection.execute(text(f"INSERT INTO {_MARKER} VALUES (:step)"), {"step": step})
        connection.commit()
    down = revision == "base" or (at is not None and revision in _ancestors(scripts, at))
    (command.downgrade if down else command.upgrade)(config, revision)
    if careful:
        connection.execute(text(f"DROP TABLE {_MARKER}"))


def _ancestors(scripts: ScriptDirectory, at: str) -> set[str]:
    return {script.revision for script in scripts.iterate_revisions(at, "base")} - {at}


def _settle(connection: Connection, at: str | None) -> None:
    """Remove the marker of a migration that left nothing half done; ConfigError for one that did."""
    if not connection.dialect.has_table(connection, _MARKER):
        return
    step = connection.scalar(text(f"SELECT step FROM {_MARKER}"))
    done = step is None or step.endswith(f" to {at or 'base'}")
    if not done:
        what = f"a migration ({step}) was interrupted, or still runs elsewhere, and this database keeps half of it: "
        if step.startswith("base "):
            raise ConfigError(
                f"{what}nothing of Tunegate was in it before, so drop the database, create it again empty, "
                "and run `tunegate migrate`"
            )
        raise ConfigError(
            f"{what}restore the backup taken before it, or finish it by hand, then DROP TABLE {_MARKER} "
            "and run `tunegate migrate`"
        )
    connection.execute(text(f"DROP TABLE {_MARKER}"))
    connection.commit()
