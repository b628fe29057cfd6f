"""People rate a run's answers, blind: whose an answer is they are not told, and each has an order of their own."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons import agreement, review_schemas as schemas, runs, votes
from control.comparisons.agreement import Cell
from control.comparisons.pairs import Judged
from control.comparisons.report import SEED
from control.comparisons.scoring import IN_PAIRS
from control.errors import Problem, not_found
from control.kit.audit import canonical, note
from control.kit.permissions import Person
from control.models import ComparisonCell, ComparisonRating, ComparisonRun, ComparisonVerdict, SuiteCase
from control.models.base import now

MOST_VOTES = 5_000
"""Votes that are looked at, the newest."""


def _name(run: str, rater: str, cell: Cell) -> str:
    """What a cell is called for a person; cells by their names are in that person's order."""
    return hashlib.sha256(f"{run}.{rater}.{'.'.join(map(str, cell))}".encode()).hexdigest()[:16]


async def review(session: AsyncSession, person: Person, id: str) -> schemas.Review:
    """How far the person is, and the next answer."""
    row = await runs.of_id(session, person, id)
    return await _review(session, person, row)


async def _review(session: AsyncSession, person: Person, row: ComparisonRun) -> schemas.Review:
    cells = await _answered(session, row)
    table = ComparisonRating
    mine = select(table.case, table.candidate, table.repeat).where(
        table.run_id == row.id, table.rater == person.username
    )
    rated = {(case, candidate, repeat) for case, candidate, repeat in await session.execute(mine)}
    named = ((_name(row.id, person.username, cell), cell) for cell in cells if cell not in rated)
    following = min(named, default=None)
    item = None if following is None else await _item(session, row, *following)
    return schemas.Review.model_validate({"scale": row.scale, "total": len(cells), "rated": len(rated), "item": item})


async def _answered(session: AsyncSession, row: ComparisonRun) -> list[Cell]:
    table = ComparisonCell
    query = select(table.case, table.candidate, table.repeat).where(table.run_id == row.id, table.ok)
    return [(case, candidate, repeat) for case, candidate, repeat in await session.execute(query)]


async def _item(session: AsyncSession, row: ComparisonRun, name: str, cell: Cell) -> schemas.ReviewItem:
    found = await session.get(ComparisonCell, (row.id, *cell))
    assert found is not None, "it was there a moment ago, in this transaction"
    answer = found.answer or {}
    case = await session.get(SuiteCase, (row.version_id, found.case))
    assert case is not None, "cases of a version never go"
    return schemas.ReviewItem(
        item=name, messages=found.request["messages"], expected=case.content["expected"], text=answer["text"],
        tool_calls=answer["tool_calls"],
    )  # fmt: skip


async def _named(session: AsyncSession, person: Person, id: str, name: str) -> tuple[ComparisonRun, Cell]:
    """The run, locked so that two ratings cannot begin two scales, and the cell that has this name for the person."""
    await runs.of_id(session, person, id)
    row = await session.get(ComparisonRun, id, with_for_update=True, populate_existing=True)
    if row is None:
        raise not_found("run", id)
    for cell in await _answered(session, row):
        if _name(id, person.username, cell) == name:
            return row, cell
    raise not_found("answer", name)


async def rate(session: AsyncSession, person: Person, id: str, name: str, body: schemas.RatingCreate) -> schemas.Review:
    """Keep a rating; the answer is the next one."""
    row, cell = await _named(session, person, id, name)
    scale = "points" if body.points is not None else "passed"
    if row.scale not in ("", scale):
        raise Problem(409, "scale", f"this run's answers are rated by {row.scale}")
    if await session.get(ComparisonRating, (id, *cell, person.username)) is not None:
        raise Problem(409, "rated", "you have rated this answer")
    points = int(bool(body.passed)) if body.points is None else body.points
    case, candidate, repeat = cell
    row.scale = scale
    session.add(
        ComparisonRating(
            run_id=id, case=case, candidate=candidate, repeat=repeat, rater=person.username, points=points,
            note=body.note, created_at=now(),
        )
    )  # fmt: skip
    note(session, person.actor, "rate", "run", id, after={"case": case, "candidate": candidate, "points": points})
    await session.flush()
    return await _review(session, person, row)


async def take_back(session: AsyncSession, person: Person, id: str, name: str) -> schemas.Review:
    """Forget one's own rating. With the last one the run's scale goes, too."""
    row, cell = await _named(session, person, id, name)
    found = await session.get(ComparisonRating, (id, *cell, person.username))
    if found is None:
        raise not_found("rating", name)
    await session.delete(found)
    note(session, person.actor, "unrate", "run", id, before={"case": cell[0], "points": found.points})
    await session.flush()
    table = ComparisonRating
    if not await session.scalar(select(func.count()).select_from(table).where(table.run_id == id)):
        row.scale = ""
    return await _review(session, person, row)


async def report(session: AsyncSession, person: Person, id: str) -> schemas.ReviewReport:
    """What people say, how far they agree, and how far scorers agree with them."""
    row = await runs.of_id(session, person, id)
    ratings = await _ratings(session, row)
    scorers = (await runs.version_of(session, row)).content.get("scorers", [])
    table = ComparisonCell
    query = select(table.case, table.candidate, table.repeat, table.scores).where(table.run_id == id, table.ok)
    scores = {(case, candidate, repeat): said for case, candidate, repeat, said in await session.execute(query)}
    verdicts = await _verdicts(session, row, [one["name"] for one in scorers])
    voted = await _voted(session, person, row) if verdicts else {}
    return await asyncio.to_thread(_report, row, ratings, scorers, scores, verdicts, voted)


def _report(
    row: ComparisonRun, ratings: agreement.Ratings, scorers: Sequence[Mapping[str, Any]],
    scores: Mapping[Cell, Mapping[str, Any]], verdicts: Sequence[tuple[Judged, int]],
    voted: Mapping[tuple[int, int, int], str],
) -> schemas.ReviewReport:  # fmt: skip
    pairs, singles = [], []
    for one in scorers:
        name = one["name"]
        if one["kind"] != IN_PAIRS:
            singles.append(agreement.scorer(name, {cell: said.get(name, {}) for cell, said in scores.items()}, ratings))
            continue
        own = [(verdict, repeat) for verdict, repeat in verdicts if verdict.scorer == name]
        pairs.append(agreement.pairs(name, "ratings", agreement.preferred(own, ratings)))
        of_pair: dict[tuple[int, int, int], list[Judged]] = defaultdict(list)
        for verdict, _ in own:
            if verdict.winner is not None:
                of_pair[verdict.case, verdict.first, verdict.second].append(verdict)
        both = [(voted[place], agreement.majority(said)) for place, said in of_pair.items() if place in voted]
        pairs.append(agreement.pairs(name, "votes", both))
    counts = Counter(rater for given in ratings.values() for rater in given)
    scale: Any = row.scale
    return schemas.ReviewReport(
        scale=scale, raters=dict(counts.most_common()), cells=len(ratings),
        alpha=agreement.krippendorff([list(given.values()) for given in ratings.values()]),
        raters_in_pairs=agreement.raters(ratings),
        candidates=agreement.candidates([one["name"] for one in row.candidates], ratings, SEED),
        scorers=[one for one in singles if one is not None], pairs=[one for one in pairs if one is not None],
    )  # fmt: skip


async def _ratings(session: AsyncSession, row: ComparisonRun) -> dict[Cell, dict[str, float]]:
    table = ComparisonRating
    query = select(table.case, table.candidate, table.repeat, table.rater, table.points).where(table.run_id == row.id)
    found: dict[Cell, dict[str, float]] = defaultdict(dict)
    for case, candidate, repeat, rater, points in await session.execute(query):
        found[case, candidate, repeat][rater] = (points - 1) / 4 if row.scale == "points" else float(points)
    return found


async def _verdicts(session: AsyncSession, row: ComparisonRun, scorers: list[str]) -> list[tuple[Judged, int]]:
    """What judges of pairs have said, each with its repeat."""
    table = ComparisonVerdict
    columns = (table.case, table.first, table.second, table.scorer, table.forward, table.backward, table.winner)
    found = await session.execute(select(*columns, table.repeat).where(table.run_id == row.id))
    return [(Judged(*one[:3], scorers[one[3]], *one[4:7]), one[7]) for one in found]


async def _voted(session: AsyncSession, person: Person, row: ComparisonRun) -> dict[tuple[int, int, int], str]:
    """(case, first, second) -> what votes on the same messages and routes say of that pair."""
    table = ComparisonCell
    asked = select(table.case, table.candidate, table.request).where(table.run_id == row.id, table.repeat == 0)
    places: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for case, candidate, request in await session.execute(asked):
        places[canonical(request["messages"])][row.candidates[candidate]["route"]] = (case, candidate)
    points: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for vote in await session.scalars(votes.visible(person).limit(MOST_VOTES)):
        known = places.get(canonical(vote.messages), {})
        for one, other, won in votes.outcomes([str(each["route"]) for each in vote.answers], vote.best):
            if one in known and other in known and known[one][0] == known[other][0]:
                (case, first), (_, second) = known[one], known[other]
                place = (case, first, second) if first < second else (case, second, first)
                points[place].append(won if first < second else 1 - won)
    return {place: agreement.better(sum(won) / len(won) - agreement.LINE) for place, won in points.items()}
