"""INSERT of rows that may be there already: one statement for all of them, on every database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession


async def upsert(
    session: AsyncSession,
    table: Table,
    unique: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    changed: Callable[[Any], Mapping[str, Any]],
) -> None:
    """Insert rows; where `unique` says that one is there, `changed(new)` says its columns, `new` being the new row's.

    Rows of one call must differ in `unique`.
    """
    statement: Any
    dialect = session.get_bind().dialect.name
    if dialect in ("mysql", "mariadb"):
        statement = mysql.insert(table)
        statement = statement.on_duplicate_key_update(dict(changed(statement.inserted)))
    else:
        statement = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
        statement = statement.on_conflict_do_update(index_elements=list(unique), set_=changed(statement.excluded))
    await session.execute(statement, rows)
