"""SQLite for asyncio: SQLAlchemy's dialect for aiosqlite, with one walk to the connection's thread for each statement.

As it comes, a statement makes four: for its cursor, to run it, to fetch its rows and to close. On a database whose
statements take some microseconds, they are what it costs (docs/bench/what-paid.md). A `BEGIN`, which does nothing
before the first statement does, goes with that one.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import Any, NamedTuple

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite import aiosqlite
from sqlalchemy.util.concurrency import await_

REPLACED = "sqlite.aiosqlite"
"""The name by which SQLAlchemy finds the dialect of `sqlite+aiosqlite://`."""
BEGIN = "BEGIN"


class _Ended(NamedTuple):
    """What is left of a cursor whose rows have been fetched."""

    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    arraysize: int = 1

    def close(self) -> None:
        """Nothing is open."""


_Ran = tuple[_Ended, deque[Any]]


def _ran(connection: sqlite3.Connection, begin: bool, many: bool, statement: str, values: Any) -> _Ran:
    """In the connection's thread: run a statement to its end."""
    if begin:
        connection.execute(BEGIN)
    cursor = (connection.executemany if many else connection.execute)(statement, values)
    rows = deque(cursor.fetchall() if cursor.description else ())
    return _Ended(cursor.description, cursor.rowcount, cursor.lastrowid), rows


class _Cursor(aiosqlite.AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()
    _awaitable_cursor_close = False

    def _make_new_cursor(self, connection: Any) -> Any:
        return _Ended()

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        await self._run(False, operation, parameters or ())

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._run(True, operation, seq_of_parameters)

    async def _run(self, many: bool, statement: str, values: Any) -> None:
        driver: Any = self._connection
        to: Any = self._adapt_connection
        async with to._execute_mutex:
            if statement == BEGIN:
                to.begins = True
                return
            begin, to.begins, to.used = to.begins, False, True
            self._cursor, self._rows = await driver._execute(_ran, driver._conn, begin, many, statement, values)


class _Connection(aiosqlite.AsyncAdapt_aiosqlite_connection):
    __slots__ = ("begins", "used")
    _cursor_cls = _Cursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self.begins = False
        """Whether a transaction begins with the next statement."""
        self.used = False
        """Whether there were statements since the last end of a transaction: SQLAlchemy's pool ends each once more."""

    def cursor(self, server_side: bool = False) -> Any:
        """One whose rows are fetched at once; or one that fetches them as they are asked for, by walks of its own."""
        if server_side:
            self.used = True
            if self.begins:
                self.begins = False
                driver: Any = self._connection
                await_(driver.execute(BEGIN))
        return super().cursor(server_side)

    def rollback(self) -> None:
        """Of no statement, nothing."""
        if self._ends():
            super().rollback()

    def commit(self) -> None:
        """Of no statement, nothing."""
        if self._ends():
            super().commit()

    def _ends(self) -> bool:
        used, self.used, self.begins = self.used, False, False
        return used


class _Driver(aiosqlite.AsyncAdapt_aiosqlite_dbapi):
    def connect(self, *args: Any, **options: Any) -> _Connection:
        """A connection in a thread of its own."""
        made = super().connect(*args, **options)
        return _Connection(self, made._connection)


class Dialect(aiosqlite.SQLiteDialect_aiosqlite):
    """See the module."""

    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> _Driver:
        """The driver."""
        return _Driver(__import__("aiosqlite"), sqlite3)


def install() -> None:
    """Have SQLAlchemy take it for `sqlite+aiosqlite://`."""
    registry.register(REPLACED, __name__, Dialect.__name__)
