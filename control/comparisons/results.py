"""Cells of a run from the database, for reports and exports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons import pairs, report, report_schemas
from control.comparisons.pricing import prices
from control.comparisons.rescoring import rescored
from control.comparisons.runs import version_of
from control.comparisons.scoring import IN_PAIRS, Scoring
from control.comparisons.sources import contents
from control.db import Database
from control.kit.audit import canonical
from control.models import ComparisonCell, ComparisonRun, ComparisonVerdict

AT_ONCE = 500
"""Cells that are in memory while an export is sent."""
Loaded = tuple[report.Asked, list[report.Told], list[str]]
"""What was asked, the cells, and the content of each case."""


async def load(session: AsyncSession, row: ComparisonRun) -> Loaded:
    """All that a report needs, without texts. What the ledger has said meanwhile is in it."""
    version = await version_of(session, row)
    cases = await contents(session, version)
    scorers = version.content.get("scorers", [])
    asked = report.Asked(
        candidates=row.candidates, scorers=[one["name"] for one in scorers],
        in_pairs=[one["name"] for one in scorers if one["kind"] == IN_PAIRS],
        tags={number: case["tags"] for number, case in enumerate(cases, 1)}, repeats=row.settings["repeats"],
    )  # fmt: skip
    table = ComparisonCell
    query = select(
        table.case, table.candidate, table.repeat, table.ok, table.scores, table.request_id, table.cost_nano,
        table.latency_ms, table.ttft_ms, table.input_tokens, table.output_tokens,
        table.answer["finish_reason"].as_string().label("finish"), table.error, table.limited,
    )  # fmt: skip
    rows = (
        await session.execute(query.where(table.run_id == row.id).order_by(table.case, table.candidate, table.repeat))
    ).all()
    unpriced = [one.request_id for one in rows if one.cost_nano is None]
    late: dict[str, tuple[int, str]] = {}
    for start in range(0, len(unpriced), AT_ONCE):
        late |= await prices(session, row, unpriced[start : start + AT_ONCE])
    costs = {(one.case, one.candidate, one.repeat): late[one.request_id][0] for one in rows if one.request_id in late}
    scored = await rescored(session, row.id, Scoring(scorers), cases, costs)
    cells = [
        report.Told(
            case=one.case, candidate=one.candidate, ok=one.ok,
            scores=scored.get((one.case, one.candidate, one.repeat), one.scores), latency_ms=one.latency_ms,
            ttft_ms=one.ttft_ms, input_tokens=one.input_tokens or 0, output_tokens=one.output_tokens or 0,
            cost_nano=late.get(one.request_id, (one.cost_nano, ""))[0], finish_reason=one.finish or "",
            error=one.error, limited=one.limited > 0,
        )
        for one in rows
    ]  # fmt: skip
    return asked, cells, [canonical(case) for case in cases]


async def judged(session: AsyncSession, row: ComparisonRun, scorers: Sequence[str]) -> list[pairs.Judged]:
    """What judges of pairs have said. `scorers`: the names of all scorers of the version."""
    table = ComparisonVerdict
    query = select(
        table.case, table.first, table.second, table.scorer, table.forward, table.backward, table.winner
    ).where(table.run_id == row.id)
    ordered = query.order_by(table.scorer, table.case, table.repeat, table.first, table.second)
    return [
        pairs.Judged(case, first, second, scorers[scorer], forward, backward, winner)
        for case, first, second, scorer, forward, backward, winner in await session.execute(ordered)
    ]


def same_cases(now: list[str], before: list[str]) -> dict[int, int]:
    """Which case of `before` each case of `now` is, by content; of equal ones, one after another."""
    places: dict[str, list[int]] = {}
    for number, content in enumerate(before, 1):
        places.setdefault(content, []).append(number)
    found = {}
    for number, content in enumerate(now, 1):
        if places.get(content):
            found[number] = places[content].pop(0)
    return found


async def against(session: AsyncSession, loaded: Loaded, earlier: ComparisonRun) -> report_schemas.Against:
    """A run that is loaded against an earlier one, over the cases that both have."""
    before = await load(session, earlier)
    same = same_cases(loaded[2], before[2])
    return await asyncio.to_thread(report.against, earlier.id, loaded[:2], before[:2], same)


async def reported(
    session: AsyncSession, row: ComparisonRun, earlier: ComparisonRun | None = None
) -> report_schemas.Report:
    """The report of a run as it is now; `earlier`: against that run, too."""
    loaded = await load(session, row)
    asked, cells, _ = loaded
    compared = await against(session, loaded, earlier) if earlier is not None else None
    verdicts = await judged(session, row, asked.scorers)
    return await asyncio.to_thread(report.report, asked, cells, compared, verdicts)


async def exported(db: Database, row: ComparisonRun) -> AsyncIterator[dict[str, Any]]:
    """Every cell with its case, some at a time."""
    async with db.read() as session:
        cases = await contents(session, await version_of(session, row))
    table, after = ComparisonCell, (0, 0, -1)
    while True:
        case, candidate, repeat = after
        later = (table.case > case) | ((table.case == case) & (table.candidate > candidate))
        later |= (table.case == case) & (table.candidate == candidate) & (table.repeat > repeat)
        query = select(table).where(table.run_id == row.id, later)
        async with db.read() as session:
            cells = (
                await session.scalars(query.order_by(table.case, table.candidate, table.repeat).limit(AT_ONCE))
            ).all()
        for one in cells:
            content, candidate_is = cases[one.case - 1], row.candidates[one.candidate]
            yield {
                "run": row.id, "case": one.case, "candidate": candidate_is["name"], "route": candidate_is["route"],
                "route_version": candidate_is["route_version"], "prompt": candidate_is["prompt"],
                "repeat": one.repeat, "ok": one.ok, "tags": content["tags"], "variables": content["variables"],
                "expected": content["expected"], "request": one.request, "answer": one.answer, "error": one.error,
                "scores": one.scores, "tries": one.tries, "limited": one.limited,
                "cost_nano": one.cost_nano, "request_id": one.request_id,
                "snapshot": one.snapshot, "reused_from": one.reused_from, "finished_at": one.finished_at.isoformat(),
            }  # fmt: skip
        if len(cells) < AT_ONCE:
            return
        after = (cells[-1].case, cells[-1].candidate, cells[-1].repeat)
