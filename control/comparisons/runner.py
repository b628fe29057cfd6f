"""Works on runs in the background. Which process of control does is decided by a claim that it renews.

A cell that is finished is in the run's journal at once, and in the database a moment later, many in one transaction.
After kill -9 the next process first takes what the journal holds, and then asks for what is not there. So it is with
what judges of pairs say; they are asked when all cells are there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons import reuse
from control.comparisons.asking import Asker
from control.comparisons.engine import Answered, Cell, Engine, Hole, Plan
from control.comparisons.journal import Journal
from control.comparisons.matches import Match, Verdict
from control.comparisons.pricing import Pricing
from control.comparisons.reuse import Kept, digest_of
from control.comparisons.rows import asked_for, cell_row, verdict_row
from control.comparisons.scoring import Scoring
from control.comparisons.sources import contents
from control.db import Database
from control.kit.files import Files
from control.kit.periodic import every
from control.kit.upsert import upsert
from control.models import ApiKey, ComparisonCell, ComparisonRun, ComparisonVerdict, SuiteVersion, UsageRow
from control.models.base import new_id, now
from control.security import Vault

log = logging.getLogger("tunegate.control.comparisons")

LOOK = 0.5
"""Seconds between looks for a run that waits."""
CLAIM = timedelta(seconds=30)
"""How long a claim holds unless it is renewed."""
AT_ONCE = 4
"""Runs that one process works on at a time; those that only wait for the ledger are not among them."""
FLUSH = 0.25
"""Seconds between transactions that write cells."""
PRICED = 1.0
"""Seconds between looks into the ledger."""
SETTLE = 60.0
"""Seconds after its end in which a run still waits for the ledger."""
_TOKEN_SECONDS = 600
_RATE_OVER = 10.0
"""Seconds over which the rate is taken."""


async def run(db: Database, files: Files, vault: Vault, gateway_url: str) -> None:
    """Work on runs until cancelled."""
    runner = Runner(db, files, vault, gateway_url)
    try:
        await every(LOOK, runner.look, "runs of suites cannot be worked on now")
    finally:
        await runner.close()


class Runner:
    """Works on some runs at a time."""

    def __init__(self, db: Database, files: Files, vault: Vault, gateway_url: str) -> None:
        self._db, self._files, self._vault, self._url = db, files, vault, gateway_url
        self._works: dict[asyncio.Task[None], str] = {}
        """What works on which run."""
        self._settling: set[asyncio.Task[None]] = set()
        """What waits for the ledger, after the end of a run."""

    async def look(self) -> None:
        """Begin what waits."""
        while len(self._works) < AT_ONCE and (row := await self._claimed()) is not None:
            work = asyncio.create_task(self._work(row))
            self._works[work] = row.id
            work.add_done_callback(self._works.pop)

    async def close(self) -> None:
        """Stop at once; what is finished is in journals."""
        tasks = [*self._works, *self._settling]
        for work in tasks:
            work.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _claimed(self) -> ComparisonRun | None:
        waits = (
            ComparisonRun.state.in_(("queued", "running")),
            # a claim of this process runs out when the database is slow; its work goes on
            or_(
                ComparisonRun.claimed_until.is_(None),
                and_(ComparisonRun.claimed_until < now(), ComparisonRun.id.not_in(list(self._works.values()))),
            ),
        )
        async with self._db.read() as session:
            query = select(ComparisonRun).where(*waits).order_by(ComparisonRun.created_at).limit(1)
            row: ComparisonRun | None = await session.scalar(query)
        if row is None:
            return None
        row.claim, row.state, row.started_at = new_id(), "running", row.started_at or now()
        mine = {"claim": row.claim, "state": "running", "started_at": row.started_at, "claimed_until": now() + CLAIM}
        async with self._db.write() as session:
            done = await session.execute(update(ComparisonRun).where(ComparisonRun.id == row.id, *waits).values(**mine))
        return row if done.rowcount == 1 else None  # type: ignore[attr-defined]

    async def _work(self, row: ComparisonRun) -> None:
        work = Work(self._db, self._files, self._vault, self._url, row)
        try:
            if await work.run():
                settling = asyncio.create_task(work.settle())
                self._settling.add(settling)
                settling.add_done_callback(self._settling.discard)
        except SQLAlchemyError as exc:  # the claim runs out, and whoever reaches the database goes on
            log.error("run %s stands still: %s: %s", row.id, type(exc).__name__, exc)
        except Exception as exc:
            log.exception("run %s failed", row.id)
            code = "disk" if isinstance(exc, OSError) else "broken"
            values = {"state": "failed", "code": code, "message": f"{type(exc).__name__}: {exc}"[:1000]}
            async with self._db.write() as session:
                failed = update(ComparisonRun).where(ComparisonRun.id == row.id, ComparisonRun.claim == row.claim)
                await session.execute(failed.values(**values, ended_at=now(), claimed_until=None))


class Work:
    """One run, as long as this process works on it."""

    def __init__(self, db: Database, files: Files, vault: Vault, url: str, row: ComparisonRun) -> None:
        self._db, self._row, self._vault, self._url = db, row, vault, url
        self._journal = Journal(files.path("comparisons", row.id))
        self._pricing = Pricing(db, row)
        self._pending: list[Cell | Verdict] = []
        self._writing: list[Cell | Verdict] = []
        self._seen: dict[Hole | Match, int] = {}
        self._done = self._failed = self._reused = self._judged = 0
        self._pairs = row.pairs
        self._began = (time.monotonic(), 0)
        self._token = ("", 0.0)
        self._stopped = ("", "")
        self._engine: Engine

    async def run(self) -> bool:
        """Until every cell and verdict is there, or somebody or something stops it; False if another process has the
        run.
        """
        try:
            await self._take_over()
            plan, digest = await self._plan()
            if digest is None:
                said = f"the API key {self._row.key!r} was revoked, is disabled or has expired: begin with another one"
                await self._end("paused", "key", said)
                return True
            asker = Asker(
                f"{self._url.rstrip('/')}/v1", lambda: self._bearer(digest), self._row.settings["timeout_seconds"]
            )
            known = self._known if self._row.settings["reuse_days"] is not None else None
            self._engine = Engine(plan, asker, self._finished, lambda one: self._seen.get(one, 0), known)
            try:
                if not await self._through(self._engine.fill(plan.holes(await self._there()))):
                    return False
                if self._all_there(plan):
                    matches = await self._matches(plan)
                    if not await self._through(self._engine.judge(matches, self._answers, self._finished)):
                        return False
            finally:
                await asker.close()
            await self._conclude(plan)
            return True
        finally:
            self._journal.close()

    async def _take_over(self) -> None:
        """What an earlier process has finished goes into the database."""
        left = [
            Verdict(**one) if "winner" in one else Cell(**one) for one in await asyncio.to_thread(self._journal.left)
        ]
        for start in range(0, len(left), 500):
            async with self._db.write() as session:
                await self._insert(session, left[start : start + 500])
        self._journal.clear_all()

    async def _there(self) -> list[tuple[int, int, int]]:
        """Cells that are finished; what was asked for the others is known from the ledger."""
        table = ComparisonCell
        async with self._db.read() as session:
            query = select(table.case, table.candidate, table.repeat, table.ok, table.reused_from).where(
                table.run_id == self._row.id
            )
            rows = (await session.execute(query)).all()
            billed = await session.scalars(
                select(UsageRow.request_id).where(
                    UsageRow.key == self._row.key, UsageRow.ts >= self._row.created_at,
                    UsageRow.request_id.startswith(f"{self._row.id}.", autoescape=True),
                )
            )  # fmt: skip
            for request_id in billed:
                asked, attempt = asked_for(request_id)
                self._seen[asked] = max(self._seen.get(asked, 0), attempt + 1)
        self._done, self._failed = sum(row.ok for row in rows), sum(not row.ok for row in rows)
        self._reused = sum(bool(row.reused_from) for row in rows)
        self._began = (time.monotonic(), len(rows))
        await self._pricing.load()
        return [(row.case, row.candidate, row.repeat) for row in rows]

    def _all_there(self, plan: Plan) -> bool:
        return self._done + self._failed >= len(plan.holes())

    async def _matches(self, plan: Plan) -> list[Match]:
        """Pairs of answers that are to be judged; how many there are is kept."""
        cell, said = ComparisonCell, ComparisonVerdict
        async with self._db.read() as session:
            query = select(cell.case, cell.candidate, cell.repeat).where(cell.run_id == self._row.id, cell.ok)
            answered = [(case, candidate, repeat) for case, candidate, repeat in await session.execute(query)]
            judged = select(said.case, said.first, said.second, said.repeat, said.scorer)
            there = [Match(*one) for one in await session.execute(judged.where(said.run_id == self._row.id))]
        matches = plan.matches(answered, there)
        self._judged, self._pairs = len(there), len(there) + len(matches)
        return matches

    async def _answers(self, match: Match) -> tuple[Answered, Answered]:
        found = []
        async with self._db.read() as session:
            for candidate in (match.first, match.second):
                cell = await session.get(ComparisonCell, (self._row.id, match.case, candidate, match.repeat))
                assert cell is not None, "cells stay as long as the run"
                assert cell.answer is not None, "only cells with answers are compared"
                found.append((cell.request, cell.answer))
        return found[0], found[1]

    async def _plan(self) -> tuple[Plan, str | None]:
        async with self._db.read() as session:
            version = await session.get(SuiteVersion, self._row.version_id)
            assert version is not None, "it goes with the suite, and so does the run"
            cases = await contents(session, version)
            key = await session.scalar(select(ApiKey).where(ApiKey.public_name == self._row.key))
        good = key is not None and key.revoked_at is None and key.enabled
        good = good and key is not None and (key.expires_at is None or key.expires_at > now())
        settings, content = self._row.settings, version.content
        scoring = Scoring(content.get("scorers", []))
        self._pricing.scored_by(scoring, cases)
        plan = Plan(
            run=self._row.id, prompts=content["prompts"], parameters=content.get("parameters", {}),
            scoring=scoring, cases=cases, candidates=self._row.candidates,
            repeats=settings["repeats"], concurrency=settings["concurrency"], tries=settings["tries"],
            seed=settings["seed"], stream=settings["stream"],
        )  # fmt: skip
        return plan, key.digest if good and key is not None else None

    def _bearer(self, digest: str) -> str:
        if self._token[1] < time.monotonic():
            token = self._vault.session_token(digest, int(time.time()) + _TOKEN_SECONDS)
            self._token = (token, time.monotonic() + _TOKEN_SECONDS / 2)
        return self._token[0]

    async def _known(self, hole: Hole, body: Mapping[str, Any]) -> Kept | None:
        async with self._db.read() as session:
            digest = digest_of(body, self._row.candidates[hole.candidate]["route_version"], hole.repeat)
            return await reuse.found(session, self._row, digest, self._row.settings["reuse_days"])

    def _finished(self, one: Cell | Verdict) -> None:
        self._journal.add(one)
        self._pending.append(one)

    async def _through(self, work: Coroutine[Any, Any, None]) -> bool:
        """Work to its end, with all of it in the database; False if another process has the run."""
        working = asyncio.create_task(work)
        try:
            if not await self._write_until(working):
                return False
            await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        return await self._write()

    async def _write_until(self, filling: asyncio.Task[None]) -> bool:
        """Write cells, hear what people want and renew the claim until all is filled; False if another process has
        the run. Nothing here is cancelled half-way: a transaction would stay open.
        """
        looked = 0.0
        while await self._write():
            if filling.done():
                return True
            if time.monotonic() - looked >= PRICED:
                await self._pricing.look()
                looked = time.monotonic()
            budget = self._row.settings["budget_nano"]
            if budget is not None and self._expected() >= budget and not self._stopped[0]:
                self._stopped = ("budget", f"it has cost about {budget} nano-units, its budget: raise it to go on")
                self._engine.stop()
            await asyncio.wait({filling}, timeout=FLUSH)
        return False

    def _expected(self) -> float:
        return self._pricing.expected(self._engine.under_way, self._engine.judging)

    async def _write(self) -> bool:
        """One transaction with all that is finished; False if the run is another process's."""
        if not self._writing and self._pending:
            self._journal.turn()
            self._writing, self._pending = self._pending, []
        fresh = self._writing
        cells = [one for one in fresh if isinstance(one, Cell)]
        done, failed = self._done + sum(one.ok for one in cells), self._failed + sum(not one.ok for one in cells)
        judged, reused = (
            self._judged + len(fresh) - len(cells),
            self._reused + sum(one.kept is not None for one in cells),
        )
        values = {
            "done": done, "failed": failed, "reused": reused, "pairs": self._pairs, "judged": judged,
            "rate": self._rate(done + failed + judged), "claimed_until": now() + CLAIM,
            "billed_nano": self._pricing.billed,
        }  # fmt: skip
        async with self._db.write() as session:
            mine = (ComparisonRun.id == self._row.id, ComparisonRun.claim == self._row.claim)
            kept = await session.execute(update(ComparisonRun).where(*mine).values(**values))
            if kept.rowcount != 1:  # type: ignore[attr-defined]
                return False
            await self._insert(session, fresh)
            row = (
                await session.execute(
                    select(ComparisonRun.wanted, ComparisonRun.settings).where(ComparisonRun.id == self._row.id)
                )
            ).one()
        self._done, self._failed, self._reused, self._judged, self._writing = done, failed, reused, judged, []
        if fresh:
            self._journal.clear()
        self._row.wanted, self._row.settings = row.wanted, row.settings
        if row.wanted != "run":
            self._engine.stop()
        return True

    async def _insert(self, session: AsyncSession, finished: Sequence[Cell | Verdict]) -> None:
        cells = [one for one in finished if isinstance(one, Cell)]
        verdicts = [one for one in finished if isinstance(one, Verdict)]
        for model, rows in (
            (ComparisonCell, [cell_row(self._row, one) for one in cells]),
            (ComparisonVerdict, [verdict_row(self._row.id, one) for one in verdicts]),
        ):
            table: Any = model.__table__
            if rows:
                key = [column.name for column in table.primary_key]
                await upsert(session, table, key, rows, lambda row: {"run_id": row.run_id})
        self._pricing.add(cells, verdicts)

    def _rate(self, finished: int) -> float:
        since, before = self._began
        seconds = time.monotonic() - since
        rate = (finished - before) / seconds if seconds > 0.5 else 0.0
        if seconds > _RATE_OVER:
            self._began = (time.monotonic() - seconds / 2, finished - (finished - before) // 2)
        return rate

    async def _conclude(self, plan: Plan) -> None:
        """Say how it ended."""
        refused = self._engine.refused
        if self._all_there(plan) and self._judged >= self._pairs:
            await self._end("done" if not self._failed else "partial", "", "")
        elif refused is not None:
            await self._end(
                "paused", "refused", f"the gateway answers {refused.status}: {refused.code}: {refused.message}"
            )
        elif self._row.wanted == "cancel":
            await self._end("canceled", "", "")
        elif self._stopped[0]:
            await self._end("paused", *self._stopped)
        else:
            await self._end("paused" if self._row.wanted == "pause" else "queued", "", "")

    async def settle(self) -> None:
        """Wait a while for what the ledger has not said yet."""
        until = time.monotonic() + SETTLE
        try:
            while self._pricing.waiting and time.monotonic() < until:
                await self._pricing.look()
                await asyncio.sleep(PRICED)
            await self._pricing.keep()
        except SQLAlchemyError as exc:  # reports ask the ledger again
            log.error("run %s: its cost is not known yet: %s: %s", self._row.id, type(exc).__name__, exc)

    async def _end(self, state: str, code: str, message: str) -> None:
        await self._pricing.look()
        values: dict[str, Any] = {"state": state, "code": code, "message": message[:1000], "claimed_until": None}
        if state in ("done", "partial", "canceled"):
            values["ended_at"] = now()
        async with self._db.write() as session:
            mine = update(ComparisonRun).where(ComparisonRun.id == self._row.id, ComparisonRun.claim == self._row.claim)
            await session.execute(mine.values(**values, rate=0.0, billed_nano=self._pricing.billed))
        log.info("run %s: %s %s", self._row.id, state, code)
