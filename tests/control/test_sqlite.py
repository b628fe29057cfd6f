"""SQLite with one walk to its thread for a statement: the same as SQLAlchemy's own dialect, with fewer walks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.knowledge.found import SHOWN
from control.models import KnowledgeChunk
from control.models.base import Base


@asynccontextmanager
async def notes(folder: Path) -> AsyncIterator[Database]:
    """A database with a table of two notes."""
    db = Database(f"sqlite+aiosqlite:///{folder / 'notes.db'}")
    async with db.write() as session:
        await session.execute(text("CREATE TABLE note (id INTEGER PRIMARY KEY, said TEXT UNIQUE)"))
        values: list[dict[str, Any]] = [{"said": "one"}, {"said": "two"}]
        assert (await session.execute(text("INSERT INTO note (said) VALUES (:said)"), values)).rowcount == 2  # type: ignore[attr-defined]
    try:
        yield db
    finally:
        await db.close()


async def said(session: AsyncSession) -> list[str]:
    return list(await session.scalars(text("SELECT said FROM note ORDER BY id")))


async def walks(session: AsyncSession) -> list[str]:
    """A list that grows by each walk to the thread of this session's connection."""
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    seen = list[str]()
    ours = driver._execute  # type: ignore[union-attr]

    async def counted(function: Any, *args: Any) -> Any:
        seen.append(getattr(function, "__name__", str(function)))
        return await ours(function, *args)

    driver._execute = counted  # type: ignore[union-attr]
    return seen


def test_a_statement_is_one_walk_and_a_transaction_without_one_is_none(tmp_path: Path) -> None:
    async def go() -> None:
        async with notes(tmp_path) as db:
            async with db.read() as session:
                seen = await walks(session)
                assert await said(session) == ["one", "two"]
                assert await said(session) == ["one", "two"]
                assert seen == ["_ran", "_ran"]
            assert seen == ["_ran", "_ran", "rollback"]
            async with db.read() as session:
                await session.connection()
            assert seen == ["_ran", "_ran", "rollback"]

    asyncio.run(go())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_reader_sees_one_state_from_its_first_statement_on(tmp_path: Path, streamed: bool) -> None:
    async def go() -> None:
        async with notes(tmp_path) as db, db.read() as reader:
            if streamed:
                rows = await reader.stream_scalars(text("SELECT said FROM note ORDER BY id"))
                assert [row async for row in rows] == ["one", "two"]
            else:
                assert await said(reader) == ["one", "two"]
            async with db.write() as writer:
                await writer.execute(text("DELETE FROM note"))
            assert await said(reader) == ["one", "two"]
            await reader.rollback()
            assert await said(reader) == []

    asyncio.run(go())


def test_the_read_of_a_search_begins_with_its_chunks_however_many_they_are(tmp_path: Path) -> None:
    async def go() -> list[str]:
        async with notes(tmp_path) as db:
            async with db.engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            read = SHOWN.where(KnowledgeChunk.id.in_([str(one) for one in range(80)]))
            how = read.compile(db.engine.sync_engine, compile_kwargs={"literal_binds": True})
            async with db.read() as session:
                return [row.detail for row in await session.execute(text(f"EXPLAIN QUERY PLAN {how}"))]

    plan = asyncio.run(go())
    assert plan[0].startswith("SEARCH knowledge_chunk USING INDEX sqlite_autoindex_knowledge_chunk_1")
    assert not [step for step in plan if step.startswith("SCAN")]


def test_what_fails_is_told_as_ever_and_leaves_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        async with notes(tmp_path) as db:

            async def fails(wrong: str) -> None:
                async with db.write() as session:
                    await session.execute(text("INSERT INTO note (said) VALUES ('three')"))
                    await session.execute(text(wrong))

            with pytest.raises(IntegrityError):
                await fails("INSERT INTO note (said) VALUES ('one')")
            with pytest.raises(OperationalError):
                await fails("SELECT nothing FROM nowhere")
            async with db.read() as session:
                assert await said(session) == ["one", "two"]

    asyncio.run(go())


def test_a_writer_that_is_cancelled_gives_its_place_to_the_next(tmp_path: Path) -> None:
    async def go() -> None:
        async with notes(tmp_path) as db:
            inside = asyncio.Event()

            async def forever() -> None:
                async with db.write() as session:
                    await session.execute(text("INSERT INTO note (said) VALUES ('three')"))
                    inside.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(forever())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with db.write() as session:
                added = await session.execute(text("INSERT INTO note (said) VALUES ('four') RETURNING id"))
                assert added.scalar_one() == 3
            async with db.read() as session:
                assert await said(session) == ["one", "two", "four"]

    asyncio.run(go())
