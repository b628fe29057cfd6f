"""`tunegate backup`: all of the database as of one moment, while everything goes on; files where they are asked for."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from control.backup import rows
from control.backup.archive import BackupError, Manifest, Writer
from control.db import Database
from control.migrations.run import current
from control.models.base import Base

AT_ONCE = 1000
"""Rows that are fetched at a time."""


async def save(db: Database, path: Path, folders: Mapping[str, Path], told: Callable[[str], None]) -> Manifest:
    """Write a backup to a file that is not there yet. `folders`: area → the folder whose files are to be in it.

    Rows are as of one moment. Files come after them: what was deleted meanwhile is missing.

    Raises:
        BackupError: it cannot be written, or the database is empty.
    """
    writer = Writer(path)
    try:
        async with db.engine.connect() as connection:
            if not db.is_sqlite:  # there, a transaction sees one moment anyway
                await connection.execution_options(isolation_level="REPEATABLE READ")
            revision = await connection.run_sync(current)
            if revision is None:
                raise BackupError("the database is empty: there is nothing to keep")
            for table in Base.metadata.sorted_tables:
                with tempfile.TemporaryFile(dir=path.parent) as lines:
                    count = await _rows(connection, table, lines)
                    size = lines.tell()
                    lines.seek(0)
                    writer.add(f"tables/{table.name}.jsonl", lines, size, count)
                told(f"{table.name}: {count} rows")
        for area, folder in folders.items():
            told(f"{area}: {_files(writer, area, folder)} files")
        version = importlib.metadata.version("tunegate")
        manifest = Manifest(
            version=version, schema_revision=revision, made_at=datetime.now(UTC), members=writer.members
        )
        writer.finish(manifest)
    except OSError as exc:
        raise BackupError(f"{path} cannot be written: {exc}") from exc
    finally:
        writer.give_up()
    return manifest


async def _rows(connection: AsyncConnection, table: Table, out: IO[bytes]) -> int:
    count = 0
    result = await connection.stream(select(table).order_by(*table.primary_key.columns))
    async for some in result.mappings().partitions(AT_ONCE):
        out.writelines(rows.written(table, dict(row)) for row in some)
        count += len(some)
    return count


def _files(writer: Writer, area: str, folder: Path) -> int:
    count = 0
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_symlink() or not path.is_file():
            continue
        try:
            with path.open("rb") as source:
                size = os.fstat(source.fileno()).st_size
                writer.add(f"files/{area}/{path.relative_to(folder).as_posix()}", source, size)
        except FileNotFoundError:  # it was deleted just now
            continue
        count += 1
    return count
