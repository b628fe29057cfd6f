"""Scores of a canary: the same questions to a new version and to the one before it, while a rollout is under way.

Questions are drawn by chance, a batch at a time: from what the request log keeps of the adapter's route since the last
batch, or from a suite. Each batch is a run of the suite `NAME-canary`, so each answer is asked for once, is billed to
a key, and outlives a kill -9 of control. A batch counts as a whole, in the order in which it was drawn; after it
`comparisons.sequential` says whether the version is worse, is not, or cannot be told yet.

collecting → not_worse | worse | undecided (all samples are drawn, or the budget is spent)
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.adapters.schemas import ScoreRule
from control.comparisons import pairs, prompt, results, runs, sequential, suites
from control.comparisons.report import Told
from control.comparisons.run_schemas import RunCreate
from control.comparisons.schemas import Content, RequestCases, SuiteCase, SuiteCreate, SuiteVersionCreate, VersionCases
from control.comparisons.scorers import bounds
from control.comparisons.sources import Sources
from control.deployments import publish
from control.errors import FieldError, Problem, invalid
from control.kit.audit import Actor, note
from control.kit.files import Files
from control.kit.ownership import find, find_to_change
from control.kit.people import person_of
from control.kit.permissions import Person
from control.models import Adapter, ComparisonRun, Rollout, Suite
from control.models.base import now
from control.security import Vault

BATCH = 20
"""Questions of a run: so many requests must have come since the last one."""
SPARE = 4
"""So many times as many requests are drawn: not each one is a dialogue that can be asked again."""
SHOWN = 100
"""Most points of the interval that are kept."""
_LOGGED = {"name": "logged", "messages": []}
ROBOT = Actor("rollout")


async def checked(session: AsyncSession, person: Person, adapter: Adapter, rule: Mapping[str, Any]) -> dict[str, Any]:
    """The rule of a rollout with the number of its suite's version, ready to begin.

    Raises:
        Problem: 403 or 404 for the suite, 403 without the permission to read bodies, 422 for the scorer.
    """
    if rule.get("score") is None:
        return dict(rule)
    score = ScoreRule.model_validate(rule["score"])
    suite = await find(session, person, Suite, score.suite)
    version = await suites.version_of(session, suite, score.version)
    content = Content.model_validate(version.content)
    spec = next((one for one in content.scorers if one.name == score.scorer), None)
    problem = None
    if spec is None:
        problem = f"{suite.name}@{version.number} has no scorer {score.scorer!r}"
    elif score.cases == "suite" and len(content.prompts) > 1:
        problem = f"{suite.name}@{version.number} has several prompts: a canary is asked by one"
    elif score.cases == "requests" and prompt.names([spec.model_dump(mode="json")]):
        problem = "has places for variables, which requests do not have"
    elif not prompt.names([spec.model_dump(mode="json")]) and bounds.looks_at_cost(spec):
        problem = "looks at the cost, which is known only later"
    if problem is not None:
        raise invalid([FieldError(at="body.score.scorer", message=problem)])
    if score.cases == "requests":
        if not person.may("requests:bodies"):
            raise Problem(403, "forbidden", "your role may not read the bodies of requests")
        route = await publish.route_of(session, adapter.name)
        if route is None or route.spec.get("log", {}).get("bodies") != "both":
            message = f"the route {adapter.name!r} keeps no bodies (log.bodies = both): there is nothing to ask again"
            raise invalid([FieldError(at="body.score.cases", message=message)])
    await runs.key_of(session, person, score.key)
    return {**rule, "score": score.model_dump(mode="json") | {"version": version.number}}


async def begin(session: AsyncSession, person: Person, adapter: Adapter, row: Rollout) -> None:
    """Nothing is known yet of a rollout whose rule has a score.

    Raises:
        Problem: 409 or 403 if the suite that keeps the answers is somebody else's.
    """
    if row.rule.get("score") is None:
        return
    others = [one for one in row.before if one["model"] != row.served_name]
    against = max(others, key=lambda one: one.get("weight", 1))["model"]
    if await publish.route_of(session, against) is None:
        raise Problem(409, "not_live", f"{against} has no route of its own any more: there is nobody to compare with")
    name = f"{adapter.name[:57]}-canary"
    if await session.scalar(select(Suite.id).where(Suite.name == name)) is None:
        team = adapter.owner if adapter.owner_kind == "team" else None
        await suites.create(session, person, SuiteCreate(name=name, team=team))
    await find_to_change(session, person, Suite, name)
    row.score = {
        "state": "collecting", "suite": name, "against": against, "runs": [], "run": None, "drawn": 0, "left_out": 0,
        "after": now().isoformat(), "differences": [], "points": [], "message": "",
    }  # fmt: skip


async def look(session: AsyncSession, files: Files, vault: Vault, row: Rollout) -> None:
    """Take what the last batch has said, decide, or draw the next one. The rollout is locked.

    Raises:
        Problem: it cannot go on now; what is known stays.
    """
    if row.score is None or row.score["state"] != "collecting":
        return
    rule = ScoreRule.model_validate(row.rule["score"])
    known: dict[str, Any] = {**row.score, "message": ""}
    if known["run"] is not None:
        run = await session.get(ComparisonRun, known["run"])
        if run is not None and run.state not in runs.OVER:
            known["message"] = f"its run is paused: {run.message or run.wanted}" if run.state == "paused" else ""
            row.score = known
            return
        if run is not None and run.state in ("done", "partial"):
            await _take(session, rule, run, known)
        known["run"] = None
        said = sequential.decided([sequential.Point(*one) for one in known["points"]], rule.margin, rule.min_samples)
        if said is not None:
            _decide(session, row, known, said)
            return
    left = None if rule.budget_nano is None else rule.budget_nano - await _billed(session, known["runs"])
    wanted = min(BATCH, rule.max_samples - known["drawn"])
    if wanted <= 0 or (left is not None and left <= 0):
        _decide(session, row, known, "undecided")
        return
    await _draw(session, files, vault, row, known, wanted, left)
    row.score = known


async def drop(session: AsyncSession, row: Rollout) -> None:
    """The rollout is over: ask no further."""
    if row.score is None or row.score["run"] is None:
        return
    run = await session.get(ComparisonRun, row.score["run"], with_for_update=True)
    if run is not None and run.state not in runs.OVER:
        runs.drop(run)
    row.score = {**row.score, "run": None}


def told(row: Rollout) -> str:
    """What the scores have said, in one line."""
    assert row.score is not None, "asked only of rollouts with a score"
    rule, points = row.rule["score"], row.score["points"]
    if not points:
        return f"no score by {rule['scorer']!r} against {row.score['against']}"
    n, mean, low, high = points[-1]
    interval = f"{low:+.3f} to {high:+.3f} at {1 - rule['alpha']:.1%}"
    return f"{rule['scorer']} against {row.score['against']}: {mean:+.3f} ({interval}) after {n}, -{rule['margin']} may"


async def _take(session: AsyncSession, rule: ScoreRule, run: ComparisonRun, known: dict[str, Any]) -> None:
    asked, cells, _ = await results.load(session, run)
    judged = await results.judged(session, run, asked.scorers)
    fresh = differences(len(asked.tags), cells, judged if rule.scorer in asked.in_pairs else None, rule.scorer)
    known["left_out"] += len(asked.tags) - len(fresh)
    known["differences"] = [*known["differences"], *fresh]
    known["points"] = thinned(sequential.points(known["differences"], rule.alpha, rule.margin))


def thinned(found: Sequence[sequential.Point]) -> list[list[float]]:
    """Some of the points, evenly over all of them, the last one among them."""
    some = min(SHOWN, len(found))
    return [list(found[round(at * (len(found) - 1) / max(1, some - 1))]) for at in range(some)]


def differences(cases: int, cells: Sequence[Told], judged: Sequence[pairs.Judged] | None, scorer: str) -> list[float]:
    """Score of the canary (candidate 0) less that of the other one, case by case. `judged`: by a judge of pairs.

    An answer of the canary that did not come has no score left, 0. Where the other's did not, or a score could not be
    given, nothing is compared: the canary must not win by that.
    """
    of = {(cell.case, cell.candidate): cell for cell in cells}
    winner = {one.case: one.winner for one in judged or ()}
    found = []
    for case in range(1, cases + 1):
        new, old = of.get((case, 0)), of.get((case, 1))
        if new is None or old is None or not old.ok:
            continue
        if judged is not None:
            said = winner.get(case) if new.ok else "second"
            difference = None if said is None else 2 * pairs.POINTS[said] - 1
        else:
            mine, theirs = _value(new, scorer) if new.ok else 0.0, _value(old, scorer)
            difference = None if mine is None or theirs is None else mine - theirs
        if difference is not None:
            found.append(float(difference))
    return found


def _value(cell: Told, scorer: str) -> float | None:
    value: float | None = cell.scores.get(scorer, {}).get("value")
    return value


async def _billed(session: AsyncSession, ids: Sequence[str]) -> int:
    query = select(func.coalesce(func.sum(ComparisonRun.billed_nano), 0)).where(ComparisonRun.id.in_(ids))
    return int(await session.scalar(query) or 0)


def _decide(session: AsyncSession, row: Rollout, known: dict[str, Any], state: str) -> None:
    row.score = {**known, "state": state}
    n, mean, low, high = known["points"][-1] if known["points"] else (0, None, None, None)
    figures = {"samples": n, "mean": mean, "low": low, "high": high}
    wanted = {name: row.rule["score"][name] for name in ("suite", "version", "scorer", "margin", "alpha")}
    after = {"scores": state, "against": known["against"], "left_out": known["left_out"], **figures, **wanted}
    note(session, ROBOT, "rollout", "adapter", row.served_name, after=after)


async def _draw(
    session: AsyncSession, files: Files, vault: Vault, row: Rollout, known: dict[str, Any], wanted: int,
    left: int | None,
) -> None:  # fmt: skip
    """Begin a run over the next questions, if there are enough of them."""
    rule = ScoreRule.model_validate(row.rule["score"])
    adapter = await session.get_one(Adapter, row.adapter_id)
    person = await person_of(session, row.created_by, "comparisons:own")
    moment = now()
    suite = await find(session, person, Suite, rule.suite)
    content = (await suites.version_of(session, suite, rule.version)).content
    sources = Sources(session, files, vault, person, suite)
    if rule.cases == "suite":
        every = await sources.read([VersionCases(kind="version", number=rule.version or suite.latest)])
        cases: Sequence[SuiteCase] = random.choices(every, k=wanted)
    else:
        asked = RequestCases(
            kind="requests", since=known["after"], route=adapter.name, limit=SPARE * wanted, sample=True
        )  # fmt: skip
        cases = (await _requests(sources, asked))[:wanted]
        if len(cases) < wanted:
            known["message"] = f"waits for requests: {len(cases)} of {wanted}"
            return
    body = SuiteVersionCreate.model_validate({
        "prompts": content["prompts"] if rule.cases == "suite" else [_LOGGED],
        "parameters": content.get("parameters", {}),
        "scorers": [one for one in content["scorers"] if one["name"] == rule.scorer],
        "sources": [{"kind": "cases", "cases": [one.model_dump(mode="json") for one in cases]}],
    })  # fmt: skip
    made = await suites.add_version(session, files, vault, person, known["suite"], body)
    first = known["drawn"] + 1
    run = await runs.create(session, person, known["suite"], RunCreate.model_validate({
        "version": made.number, "candidates": [{"route": row.served_name}, {"route": known["against"]}],
        "key": rule.key, "budget_nano": left, "note": f"canary {row.served_name}: {first} to {first + wanted - 1}",
    }))  # fmt: skip
    known |= {"run": run.id, "runs": [*known["runs"], run.id], "drawn": known["drawn"] + wanted,
              "after": moment.isoformat()}  # fmt: skip


async def _requests(sources: Sources, source: RequestCases) -> list[SuiteCase]:
    try:
        return await sources.read([source])
    except Problem as exc:
        if exc.code != "no_cases":
            raise
        return []
