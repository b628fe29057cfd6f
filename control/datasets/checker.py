"""Checks datasets that have arrived, one at a time: `trainer.data.check` in a process of its own, with limits.

A file may be hostile, so nothing of it is parsed here. Which process of control checks a version is decided by a claim
that it renews; after a restart, or when it died, the next one begins again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import or_, select, update

from control.datasets import rows
from control.db import Database
from control.kit.files import Files
from control.kit.periodic import every
from control.models import DatasetVersion
from control.models.base import now
from control.settings import TrainingTable

log = logging.getLogger("tunegate.control.datasets")

LOOK = 0.5
"""Seconds between looks for something to check."""
CLAIM = timedelta(seconds=30)
"""How long a claim holds unless it is renewed."""
_LIMITED = (
    "import os, resource, sys; size = int(sys.argv[1]) << 20; resource.setrlimit(resource.RLIMIT_AS, (size, size)); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)
"""Run in the new process before the check: its memory is limited whatever it does."""


async def run(db: Database, files: Files, settings: TrainingTable) -> None:
    """Check what there is to check until cancelled."""
    checker = Checker(db, files, settings)
    await every(LOOK, checker.all_there_is, "datasets cannot be checked now")


class Checker:
    """Checks versions one after another."""

    def __init__(self, db: Database, files: Files, settings: TrainingTable) -> None:
        self._db, self._files, self._settings = db, files, settings

    async def all_there_is(self) -> None:
        """Check every version that waits."""
        while (version := await self._claim()) is not None:
            await self._check(version)

    async def _claim(self) -> DatasetVersion | None:
        waiting = (
            DatasetVersion.state == "checking",
            or_(DatasetVersion.claimed_until.is_(None), DatasetVersion.claimed_until < now()),
        )
        async with self._db.read() as session:
            query = select(DatasetVersion).where(*waiting).order_by(DatasetVersion.updated_at).limit(1)
            version: DatasetVersion | None = await session.scalar(query)
        if version is None:
            return None
        async with self._db.write() as session:
            mine = update(DatasetVersion).where(DatasetVersion.id == version.id, *waiting)
            done = await session.execute(mine.values(claimed_until=now() + CLAIM))
        return version if done.rowcount == 1 else None  # type: ignore[attr-defined]

    async def _check(self, version: DatasetVersion) -> None:
        folder = rows.folder(self._files, version)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", *self._argv(version, folder), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        watching = asyncio.create_task(self._watch(version, process))
        message = ""
        try:
            async with asyncio.timeout(self._settings.check_seconds):
                assert process.stderr is not None
                errors = await process.stderr.read()
                if await process.wait():
                    message = errors.decode(errors="replace").strip().splitlines()[-1:][0] if errors.strip() else ""
                    message = message or f"the check ended with status {process.returncode}"
        except TimeoutError:
            message = f"the check took longer than {self._settings.check_seconds:.0f} seconds"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        report = await asyncio.to_thread(_read, folder / "report.json") if not message else {}
        if not message and not report.get("accepted"):
            message = "no row was accepted: the report and the list of rejected rows say why"
        await self._settle(version, report, message[:1000])

    def _argv(self, version: DatasetVersion, folder: Path) -> list[str]:
        check = [
            "-m", "trainer.data.check", str(rows.source(self._files, version)), str(folder), "--format",
            version.asked_format,
        ]  # fmt: skip
        if os.name != "posix":
            return check
        return ["-c", _LIMITED, str(self._settings.check_memory_mib), *check]

    async def _watch(self, version: DatasetVersion, process: asyncio.subprocess.Process) -> None:
        """Renew the claim and keep how far the check is; its lines must be read in any case."""
        assert process.stdout is not None
        kept = 0.0
        renewing = asyncio.create_task(every(CLAIM.total_seconds() / 3, lambda: self._keep(version), "no claim"))
        try:
            async for line in process.stdout:
                if time.monotonic() - kept < 1:
                    continue
                kept = time.monotonic()
                with contextlib.suppress(ValueError):
                    await self._keep(version, {"progress": json.loads(line)})
        finally:
            renewing.cancel()

    async def _keep(self, version: DatasetVersion, report: dict[str, Any] | None = None) -> None:
        values: dict[str, Any] = {"claimed_until": now() + CLAIM} | ({} if report is None else {"report": report})
        async with self._db.write() as session:
            query = update(DatasetVersion).where(DatasetVersion.id == version.id, DatasetVersion.state == "checking")
            await session.execute(query.values(**values))

    async def _settle(self, version: DatasetVersion, report: dict[str, Any], message: str) -> None:
        async with self._db.write() as session:
            row = await session.get(DatasetVersion, version.id, with_for_update=True)
            if row is None or row.state != "checking":
                return
            row.state, row.message, row.claimed_until, row.updated_at = (
                "rejected" if message else "ready", message, None, now(),
            )  # fmt: skip
            row.report, row.rows = report, int(report.get("accepted", 0))
            row.kind, row.sha256 = str(report.get("kind") or ""), str(report.get("sha256") or "")
        log.info("dataset version %s is %s: %s", version.id, "rejected" if message else "ready", message or "checked")


def _read(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report
