"""Votes: what people say of answers side by side, and what that says of routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import combinations

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons import statistics
from control.comparisons.report import SEED
from control.comparisons.report_schemas import Figure, RatingFigure
from control.comparisons.vote_schemas import RouteVotes, Vote, VoteCreate, VotePair, VoteReport
from control.errors import not_found
from control.kit.audit import note
from control.kit.permissions import Person
from control.models import ComparisonVote
from control.models.base import new_id, now

MOST_COUNTED = 20_000
"""Votes of a report, the newest."""


async def create(session: AsyncSession, person: Person, body: VoteCreate) -> ComparisonVote:
    """Keep a vote."""
    told = body.model_dump(mode="json")
    messages = [one.model_dump(mode="json", exclude_unset=True) for one in body.messages]
    row = ComparisonVote(**{**told, "messages": messages}, id=new_id(), voter=person.username, created_at=now())
    session.add(row)
    after = {"routes": [one.route for one in body.answers], "outcome": body.outcome, "best": body.best}
    note(session, person.actor, "create", "vote", row.id, after=after)
    await session.flush()
    return row


def visible(person: Person, since: datetime | None = None, blind: bool | None = None) -> Select[ComparisonVote]:
    """Votes that a person may see, the newest first: all with `comparisons:read`, their own without."""
    query = select(ComparisonVote).order_by(ComparisonVote.created_at.desc(), ComparisonVote.id.desc())
    if not person.may("comparisons:read"):
        query = query.where(ComparisonVote.voter == person.username)
    if since is not None:
        query = query.where(ComparisonVote.created_at >= since)
    return query if blind is None else query.where(ComparisonVote.blind == blind)


async def delete(session: AsyncSession, person: Person, identity: str) -> None:
    """Take a vote back: one's own, or with `comparisons:write` anybody's. Rows of datasets made of it stay."""
    row = await session.get(ComparisonVote, identity)
    if row is None or (row.voter != person.username and not person.may("comparisons:write")):
        raise not_found("vote", identity)
    await session.delete(row)
    note(session, person.actor, "delete", "vote", identity, before={"outcome": row.outcome, "voter": row.voter})


def shown(row: ComparisonVote) -> Vote:
    """As the API has it."""
    return Vote.model_validate(row, from_attributes=True)


async def report(session: AsyncSession, query: Select[ComparisonVote]) -> VoteReport:
    """What these votes say."""
    columns = (ComparisonVote.answers, ComparisonVote.outcome, ComparisonVote.best, ComparisonVote.reasons)
    rows = (await session.execute(query.with_only_columns(*columns).limit(MOST_COUNTED))).all()
    reasons: Counter[str] = Counter()
    counted: dict[str, Counter[str]] = {}
    by_vote = []
    for answers, outcome, best, named in rows:
        routes = [str(one["route"]) for one in answers]
        reasons.update(dict.fromkeys(named, 1))
        for place, route in enumerate(routes):
            how = counted.setdefault(route, Counter())
            how.update(["votes"])
            if outcome != "best" or place == best:
                how.update([outcome])
        by_vote.append(outcomes(routes, best))
    met = statistics.wins([one for some in by_vote for one in some])
    return VoteReport(
        votes=len(rows), resampling_seed=SEED, reasons=dict(reasons.most_common()),
        routes=[
            RouteVotes(route=route, votes=how["votes"], best=how["best"], tied=how["tie"], bad=how["bad"])
            for route, how in sorted(counted.items())
        ],
        pairs=[
            VotePair(first=one, second=other, points=points, met=times)
            for (one, other), (points, times) in sorted(met.items()) if one < other
        ],
        ratings=[RatingFigure(name=one.name, elo=Figure.of(one.elo)) for one in statistics.ratings(by_vote, SEED)],
    )  # fmt: skip


def outcomes(routes: Sequence[str], best: int | None) -> list[statistics.Outcome]:
    """Who beat whom: the best all others, of whom nothing is known among themselves; without a best all are tied."""
    if best is None:
        return [(one, other, 0.5) for one, other in combinations(routes, 2)]
    return [(routes[best], route, 1.0) for place, route in enumerate(routes) if place != best]
