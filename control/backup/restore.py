"""`tunegate restore`: a backup into an empty database, all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Table, delete, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from control.backup import rows
from control.backup.archive import BackupError, Manifest, Reader
from control.db import Database
from control.migrations.run import migrate, newest
from control.models import Counter
from control.models.base import Base

AT_ONCE, BYTES = 500, 4_194_304
"""Rows, and bytes of them, in one statement."""


async def restore(db: Database, path: Path, folders: Mapping[str, Path], told: Callable[[str], None]) -> Manifest:
    """Check a backup, then write its rows in one transaction, and its files of these areas.

    Raises:
        BackupError: it is damaged or of another schema, or something is there already: nothing has changed then.
    """
    archive, revision = Reader(path), newest()
    if archive.manifest.schema_revision != revision:
        made = f"it is of schema {archive.manifest.schema_revision}, made by Tunegate {archive.manifest.version}"
        raise BackupError(f"{made}; this one has schema {revision}: restore it with that version, then upgrade")
    wanted = {area: folder for area, folder in folders.items() if _has(archive, area)}
    for folder in wanted.values():
        if folder.exists() and any(folder.iterdir()):
            raise BackupError(f"{folder} is not empty")
    await migrate(db.engine)
    async with db.engine.connect() as connection:
        tables = {table.name: table for table in Base.metadata.sorted_tables}
        await _check_empty(connection, tables)
        await connection.rollback()
        try:
            for area, folder in wanted.items():
                told(f"{area}: {_unpack(archive, area, folder)} files")
            await _write(connection, archive, tables, told)
        except BaseException as exc:
            for folder in wanted.values():
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(exc, SQLAlchemyError):
                raise BackupError(f"the database refuses it, and is empty as before: {exc}") from exc
            if isinstance(exc, OSError):
                raise BackupError(f"its files cannot be written: {exc}. Nothing was kept") from exc
            raise
    return archive.manifest


async def _write(
    connection: AsyncConnection, archive: Reader, tables: Mapping[str, Table], told: Callable[[str], None]
) -> None:
    """All rows, in one transaction."""
    async with connection.begin():
        await connection.execute(delete(Counter.__table__))  # type: ignore[arg-type]
        for name, source in archive.members():
            if name.startswith("tables/"):
                table = tables.get(Path(name).stem)
                if table is None:
                    raise BackupError(f"{name} is no table of this Tunegate")
                told(f"{table.name}: {await _fill(connection, table, source)} rows")
        if connection.dialect.name == "postgresql":
            await _count_on(connection, tables)


def _has(archive: Reader, area: str) -> bool:
    return any(name.startswith(f"files/{area}/") for name in archive.manifest.members)


async def _check_empty(connection: AsyncConnection, tables: Mapping[str, Table]) -> None:
    for table in tables.values():
        if table.name == Counter.__tablename__:  # a migration makes its rows
            continue
        if await connection.scalar(select(func.count()).select_from(select(table).limit(1).subquery())):
            raise BackupError(f"the database is not empty: {table.name} has rows. Nothing was changed")


async def _fill(connection: AsyncConnection, table: Table, source: IO[bytes]) -> int:
    count, size, some = 0, 0, list[dict[str, Any]]()
    for line in source:
        try:
            some.append(rows.read(table, line))
        except ValueError as exc:
            raise BackupError(f"row {count + len(some) + 1} of {table.name} is none: {exc}") from exc
        size += len(line)
        if len(some) == AT_ONCE or size > BYTES:
            await connection.execute(insert(table), some)
            count, size, some = count + len(some), 0, []
    if some:
        await connection.execute(insert(table), some)
    return count + len(some)


async def _count_on(connection: AsyncConnection, tables: Mapping[str, Table]) -> None:
    """Let PostgreSQL's sequences go on after the rows, which brought their numbers."""
    for table in tables.values():
        column = table.autoincrement_column
        if column is not None:
            last = f"(SELECT max({column.name}) FROM {table.name})"
            sequence = f"pg_get_serial_sequence('{table.name}', '{column.name}')"
            await connection.execute(text(f"SELECT setval({sequence}, {last}) WHERE {last} IS NOT NULL"))


def _unpack(archive: Reader, area: str, folder: Path) -> int:
    count, start = 0, f"files/{area}/"
    for name, source in archive.members():
        if not name.startswith(start):
            continue
        target = folder / name.removeprefix(start)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            shutil.copyfileobj(source, out)
        count += 1
    return count
