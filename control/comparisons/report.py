"""The report of a run: what its cells allow to say. Pure: no database, no network."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from control.comparisons import pairs, statistics
from control.comparisons.report_schemas import (
    Against,
    CandidateReport,
    Change,
    Figure,
    Pair,
    RatingFigure,
    Regression,
    Report,
    ScorerReport,
    TagReport,
)

SEED = 0
MOST_REGRESSIONS = 500
REFUSALS = frozenset({"content_filter", "refusal"})
"""Finish reasons of answers that are none."""
PASSING = frozenset({408, 409, 425, 429})
"""Statuses of failures that are no refusal: another time it may be answered."""
Means = dict[int, float]
"""By case: mean of a scorer's values over the repeats."""


@dataclass(frozen=True, slots=True)
class Told:
    """What of a cell the report needs."""

    case: int
    candidate: int
    ok: bool
    scores: Mapping[str, Mapping[str, Any]]
    latency_ms: float | None = None
    ttft_ms: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int | None = None
    finish_reason: str = ""
    """As the answer says; empty: it does not."""
    error: Mapping[str, Any] | None = None
    """Status, code and message, where there is no answer."""
    limited: bool = False
    """Whether a try for it was answered 429."""

    @property
    def refused(self) -> bool:
        """Whether the answer was withheld: a filter or the model itself, or the request was turned down for good."""
        if self.error is None:
            return self.finish_reason in REFUSALS
        return 400 <= self.error["status"] < 500 and self.error["status"] not in PASSING


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run has asked of whom."""

    candidates: Sequence[Mapping[str, Any]]
    """Each with `name` and `route`."""
    scorers: Sequence[str]
    tags: Mapping[int, Sequence[str]]
    """By case, of all cases."""
    repeats: int
    in_pairs: Sequence[str] = ()
    """Those of the scorers that compare answers in pairs."""


def report(
    asked: Asked, cells: Sequence[Told], against: Against | None = None, verdicts: Sequence[pairs.Judged] = ()
) -> Report:
    """The figures of a run."""
    values = {**_values(cells), **pairs.values(verdicts)}
    by_candidate: dict[int, list[Told]] = defaultdict(list)
    for cell in cells:
        by_candidate[cell.candidate].append(cell)
    candidates = [
        _candidate(number, one, asked.scorers, by_candidate[number], values)
        for number, one in enumerate(asked.candidates)
    ]
    for (number, scorer), silent in pairs.unjudged(verdicts).items():
        candidates[number].unscored[scorer] = silent
    _mark_front(candidates)
    names = [str(one["name"]) for one in asked.candidates]
    total = len(asked.tags) * len(names) * asked.repeats
    return Report(
        cases=len(asked.tags), repeats=asked.repeats, complete=len(cells) >= total, resampling_seed=SEED,
        scorers=list(asked.scorers), candidates=candidates,
        comparisons=[
            pairs.scorer(scorer, names, [one for one in verdicts if one.scorer == scorer], SEED)
            if scorer in asked.in_pairs
            else _scorer(scorer, names, values)
            for scorer in asked.scorers
        ],
        tags=list(_tags(asked, names, values)), against=against,
    )  # fmt: skip


def _values(cells: Iterable[Told]) -> dict[tuple[int, str], dict[int, list[float]]]:
    """(candidate, scorer) -> case -> values of its repeats."""
    found: dict[tuple[int, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        for scorer, score in cell.scores.items():
            if score["value"] is not None:
                found[cell.candidate, scorer][cell.case].append(score["value"])
    return found


def means(cells: Iterable[Told]) -> dict[tuple[int, str], Means]:
    """(candidate, scorer) -> case -> mean over repeats."""
    return {
        place: {case: float(np.mean(values)) for case, values in cases.items()}
        for place, cases in _values(cells).items()
    }


def _candidate(
    number: int, one: Mapping[str, Any], scorers: Sequence[str], cells: Sequence[Told],
    values: Mapping[tuple[int, str], Mapping[int, Sequence[float]]],
) -> CandidateReport:  # fmt: skip
    answered = [cell for cell in cells if cell.ok]
    scores, passed, spread, unscored = {}, {}, {}, {}
    for scorer in scorers:
        cases = values.get((number, scorer), {})
        if (mean := statistics.mean([cases[case] for case in sorted(cases)], SEED)) is not None:
            scores[scorer] = Figure.of(mean)
            spread[scorer] = float(np.mean([np.std(repeats) for repeats in cases.values()]))
        given = [cell.scores[scorer] for cell in answered if scorer in cell.scores]
        unscored[scorer] = sum(score["value"] is None for score in given)
        lines = [score["passed"] for score in given if score["passed"] is not None]
        if (share := statistics.share(sum(lines), len(lines))) is not None:
            passed[scorer] = Figure.of(share)
    costs = [cell.cost_nano for cell in answered if cell.cost_nano is not None]
    return CandidateReport(
        candidate=number, name=str(one["name"]), route=str(one["route"]), answered=len(answered),
        failed=len(cells) - len(answered), finish_reasons=dict(Counter(cell.finish_reason for cell in answered)),
        errors=dict(Counter(str(cell.error["code"]) for cell in cells if cell.error is not None)),
        refused=_share(cell.refused for cell in cells), limited=_share(cell.limited for cell in cells),
        scores=scores, passed=passed, unscored=unscored, spread=spread,
        latency_ms=_times(cell.latency_ms for cell in answered), ttft_ms=_times(cell.ttft_ms for cell in answered),
        tokens_per_second=_pace(answered), input_tokens=sum(cell.input_tokens for cell in answered),
        output_tokens=sum(cell.output_tokens for cell in answered), cost_nano=float(np.mean(costs)) if costs else None,
        unpriced=len(answered) - len(costs),
        quality=float(np.mean([one.value for one in scores.values()])) if scores else None, front=False,
    )  # fmt: skip


def _share(found: Iterable[bool]) -> Figure | None:
    lines = list(found)
    share = statistics.share(sum(lines), len(lines))
    return None if share is None else Figure.of(share)


def _times(values: Iterable[float | None]) -> dict[str, float]:
    known = [value for value in values if value is not None]
    if not known:
        return {}
    p50, p95 = np.percentile(known, [50, 95])
    return {"mean": float(np.mean(known)), "p50": float(p50), "p95": float(p95)}


def _pace(cells: Sequence[Told]) -> float | None:
    tokens, seconds = 0, 0.0
    for cell in cells:
        if cell.latency_ms is not None:
            tokens += cell.output_tokens
            seconds += (cell.latency_ms - (cell.ttft_ms or 0.0)) / 1000
    return tokens / seconds if seconds > 0 and tokens else None


def _mark_front(candidates: Sequence[CandidateReport]) -> None:
    points = {
        str(one.candidate): (-one.quality, one.cost_nano or 0.0, one.latency_ms["p50"])
        for one in candidates
        if one.quality is not None and one.latency_ms
    }
    for number in statistics.pareto(points):
        candidates[int(number)].front = True


def _scorer(
    scorer: str, names: Sequence[str], values: Mapping[tuple[int, str], Mapping[int, Sequence[float]]]
) -> ScorerReport:
    by_case: dict[int, list[statistics.Outcome]] = defaultdict(list)
    met = []
    for one, other in combinations(range(len(names)), 2):
        first, second = (_case_means(values.get((number, scorer), {})) for number in (one, other))
        both = sorted(first.keys() & second.keys())
        for case in both:
            by_case[case].append((names[one], names[other], _points(first[case], second[case])))
        compared = statistics.paired([first[case] for case in both], [second[case] for case in both], SEED)
        if compared is not None:
            met.append(
                Pair(
                    first=names[one], second=names[other], difference=Figure.of(compared.difference), p=compared.p,
                    verdict=compared.verdict, met=len(both),
                    points=sum(_points(first[case], second[case]) for case in both),
                )
            )  # fmt: skip
    ratings = statistics.ratings([by_case[case] for case in sorted(by_case)], SEED)
    return ScorerReport(
        scorer=scorer, pairs=met,
        ratings=[RatingFigure(name=one.name, elo=Figure.of(one.elo)) for one in ratings],
    )  # fmt: skip


def _case_means(cases: Mapping[int, Sequence[float]]) -> Means:
    return {case: float(np.mean(values)) for case, values in cases.items()}


def _points(first: float, second: float) -> float:
    return 0.5 if abs(first - second) < statistics.SAME else float(first > second)


def _tags(
    asked: Asked, names: Sequence[str], values: Mapping[tuple[int, str], Mapping[int, Sequence[float]]]
) -> Iterable[TagReport]:
    cases_of: dict[str, list[int]] = defaultdict(list)
    for case, tags in asked.tags.items():
        for tag in set(tags):
            cases_of[tag].append(case)
    for tag in sorted(cases_of):
        scores: dict[str, dict[str, Figure]] = {}
        for number, name in enumerate(names):
            for scorer in asked.scorers:
                cases = values.get((number, scorer), {})
                mean = statistics.mean([cases[case] for case in sorted(cases_of[tag]) if case in cases], SEED)
                if mean is not None:
                    scores.setdefault(name, {})[scorer] = Figure.of(mean)
        yield TagReport(tag=tag, cases=len(cases_of[tag]), scores=scores)


def against(
    run: str, now: tuple[Asked, Sequence[Told]], before: tuple[Asked, Sequence[Told]], same: Mapping[int, int]
) -> Against:
    """Now against before. `same`: which case of then a case of now is."""
    fresh, old = means(now[1]), means(before[1])
    then = {str(one["name"]): number for number, one in enumerate(before[0].candidates)}
    changes, regressions = [], []
    for number, one in enumerate(now[0].candidates):
        name = str(one["name"])
        for scorer in now[0].scorers:
            first, second = fresh.get((number, scorer), {}), old.get((then.get(name, -1), scorer), {})
            both = [case for case in sorted(first) if same.get(case) in second]
            compared = statistics.paired([first[case] for case in both], [second[same[case]] for case in both], SEED)
            if compared is None:
                continue
            changes.append(
                Change(
                    candidate=name, scorer=scorer, difference=Figure.of(compared.difference), p=compared.p,
                    verdict=compared.verdict,
                )
            )  # fmt: skip
            regressions += [
                Regression(case=case, candidate=name, scorer=scorer, before=second[same[case]], now=first[case])
                for case in both
                if first[case] < second[same[case]] - statistics.SAME
            ]
    regressions.sort(key=lambda one: (one.now - one.before, one.case))
    return Against(run=run, cases=len(same), changes=changes, regressions=regressions[:MOST_REGRESSIONS])
