"""The filler of control databases: what it writes agrees with itself, and it never touches one that is in use."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import func, select

from control.db import Database
from control.models import ApiKey, UsageRow
from control.models.rollups import usage_hour
from tests.load.seed import seed


def test_it_fills_an_empty_database_and_refuses_a_full_one(tmp_path: Path) -> None:
    async def main() -> None:
        db = Database(f"sqlite+aiosqlite:///{tmp_path / 'control.db'}")
        try:
            await seed(db, rows=3_000, keys=50, days=2)
            with pytest.raises(SystemExit, match="holds usage already"):
                await seed(db, rows=10, keys=5)
            async with db.read() as session:
                assert await session.scalar(select(func.count()).select_from(ApiKey)) == 50
                assert await session.scalar(select(func.count()).select_from(UsageRow)) == 3_000
                spent = await session.scalar(select(func.sum(UsageRow.cost_nano)))
                assert spent == await session.scalar(select(func.sum(usage_hour.c.cost_nano)))
                assert await session.scalar(select(func.count()).select_from(usage_hour)) < 3_000
        finally:
            await db.close()

    asyncio.run(main())
