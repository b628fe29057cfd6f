"""`tunegate compare SUITE.toml`: a suite asked of any OpenAI-compatible URL, without control.

The folder of the run (`--out`) has every cell in `cells.jsonl` as soon as it is finished: interrupted or killed, the
same command goes on and asks for what is not there. At the end it has report.json, report.md and report.html.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from control.comparisons import export, files, fit, report
from control.comparisons.asking import Asker
from control.comparisons.engine import Answered, Cell, Engine, Plan
from control.comparisons.gate import Reach, missed
from control.comparisons.matches import Match, Verdict
from control.comparisons.pairs import Judged
from control.comparisons.report_schemas import Report
from control.comparisons.run_schemas import Candidate
from control.comparisons.schemas import Content, SuiteCase
from control.comparisons.scoring import IN_PAIRS, Scoring
from control.errors import ConfigError, FieldError
from control.kit.audit import canonical
from control.kit.schemas import Flag, Slug
from control.models.base import new_id
from control.settings import reference

PASSED, MISSED, NOT_BEGUN, INCOMPLETE = 0, 1, 2, 3
_WIDTH = 30
_LOOK = 0.2


class Wrong(Exception):
    """It cannot be begun; the message says why and what to do."""


class Threshold(Reach):
    """What the run must reach for the command to end with 0."""

    candidate: str | None = None
    """By name; every one if absent."""


class SuiteFile(Content):
    """SUITE.toml."""

    name: Slug
    url: str = "http://127.0.0.1:8000/v1"
    """Base URL, as for OpenAI's SDK."""
    key: Annotated[str, StringConstraints(pattern=r"^(env|file):.+$")] = "env:TUNEGATE_API_KEY"
    """`env:NAME` or `file:PATH` of the API key."""
    cases_file: str | None = None
    """A .csv or .jsonl file, relative to this one."""
    cases: tuple[SuiteCase, ...] = ()
    """Cases that are written here; they follow those of the file."""
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1, max_length=16)]
    thresholds: tuple[Threshold, ...] = ()
    repeats: Annotated[int, Field(strict=True, ge=1, le=20)] = 1
    concurrency: Annotated[int, Field(strict=True, ge=1, le=256)] = 8
    """Requests at a time to each route."""
    tries: Annotated[int, Field(strict=True, ge=1, le=10)] = 4
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = 120
    seed: Annotated[int, Field(strict=True, ge=0)] | None = None
    stream: Flag = True


def main(argv: Sequence[str] | None = None) -> int:
    """Run a suite to its end; 0 passed, 1 a threshold was missed, 2 not begun, 3 not every cell has an answer."""
    options = _options(argv)
    try:
        suite = read(options.suite)
        suite = suite.model_copy(update={"url": options.url or suite.url})
        plan, key = planned(suite, options.suite), reference(suite.key)
        folder: Path = options.out or Path("runs") / suite.name
        there = _begin(folder, plan)
        said = _verdicts(folder, plan)
    except (Wrong, ConfigError) as exc:
        sys.stderr.write(f"{exc}\n")
        return NOT_BEGUN
    asker = Asker(suite.url, lambda: key, suite.timeout_seconds)
    cells, verdicts, refused = asyncio.run(_run(plan, asker, folder, there, said))
    if refused:
        sys.stderr.write(f"{suite.url} refuses: {refused}\n")
    made = _reported(plan, suite, cells, verdicts, folder)
    sys.stderr.write(f"{export.markdown(suite.name, [], made)}\n{folder / 'report.html'}\n")
    if not made.complete or any(one.failed for one in made.candidates):
        left = len(plan.holes()) - sum(cell.ok for cell in cells)
        sys.stderr.write(f"{left} answers are missing: the same command asks for them again\n")
        return INCOMPLETE
    if left := len(_matches(plan, cells, [one for one in verdicts if one.winner is not None])):
        sys.stderr.write(f"{left} pairs are not judged: the same command asks for them again\n")
        return INCOMPLETE
    missed = _missed(suite.thresholds, made)
    for line in missed:
        sys.stderr.write(f"missed: {line}\n")
    return MISSED if missed else PASSED


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunegate compare", description="Ask several routes the cases of a suite.")
    parser.add_argument("suite", type=Path, metavar="SUITE.toml")
    parser.add_argument("--url", help="base URL instead of the file's")
    parser.add_argument("--out", type=Path, help="the run's folder (runs/NAME)")
    return parser.parse_args(argv)


def read(path: Path) -> SuiteFile:
    """The suite in a file, with all of its cases.

    Raises:
        Wrong: every mistake with its place.
    """
    try:
        suite = SuiteFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        more: list[SuiteCase] = []
        if suite.cases_file is not None:
            source = path.parent / suite.cases_file
            kind = source.suffix.removeprefix(".")
            if kind not in ("csv", "jsonl"):
                raise Wrong(f"{path}: cases_file: must end with .csv or .jsonl")
            more = files.read(kind, source.read_text(encoding="utf-8"), source.name)  # type: ignore[arg-type]
    except OSError as exc:
        raise Wrong(f"{exc.filename}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise Wrong(f"{path}: not valid TOML: {exc}") from exc
    except files.Unreadable as exc:
        raise Wrong("\n".join(f"{one.at}: {one.message}" for one in exc.errors)) from exc
    except ValidationError as exc:
        said = [f"{path}: {'.'.join(map(str, one['loc']))}: {one['msg']}".replace(": : ", ": ") for one in exc.errors()]
        raise Wrong("\n".join(said)) from exc
    suite = suite.model_copy(update={"cases": (*more, *suite.cases)})
    if not suite.cases:
        raise Wrong(f"{path}: there is no case: name a cases_file, or write [[cases]]")
    return suite


def planned(suite: SuiteFile, path: Path) -> Plan:
    """What is asked of whom.

    Raises:
        Wrong: a candidate, a prompt, a threshold or a case does not fit the others.
    """
    prompts = {one.name: [message.model_dump(exclude_unset=True) for message in one.messages] for one in suite.prompts}
    candidates, errors = fit.expanded(suite.candidates, list(prompts), "candidates")
    asked = [{"name": name, "messages": messages} for name, messages in prompts.items()]
    errors += fit.lacking(asked, suite.cases, "prompts")
    names, scorers = [one["name"] for one in candidates], [one.name for one in suite.scorers]
    for number, threshold in enumerate(suite.thresholds):
        if threshold.scorer not in scorers:
            message = f"there is no scorer {threshold.scorer!r}"
            errors.append(FieldError(at=f"thresholds.{number}.scorer", message=message))
        if threshold.candidate is not None and threshold.candidate not in names:
            message = f"there is no candidate {threshold.candidate!r}"
            errors.append(FieldError(at=f"thresholds.{number}.candidate", message=message))
    if errors:
        raise Wrong("\n".join(f"{path}: {one.at}: {one.message}" for one in errors[: fit.MOST_ERRORS]))
    cases = [case.model_dump(mode="json") for case in suite.cases]
    written = suite.model_dump(
        mode="json", include={"prompts", "parameters", "scorers", "candidates", "seed", "stream"}
    )
    identity = hashlib.sha256(canonical([written, cases]).encode()).hexdigest()[:16]
    return Plan(
        run=identity, prompts=asked, parameters=suite.parameters, scoring=Scoring(written["scorers"]), cases=cases,
        candidates=candidates, repeats=suite.repeats, concurrency=suite.concurrency, tries=suite.tries,
        seed=suite.seed, stream=suite.stream,
    )  # fmt: skip


def _begin(folder: Path, plan: Plan) -> list[Cell]:
    """Cells that an earlier start has finished; those that failed are asked again."""
    marker, cells = folder / "run.json", folder / "cells.jsonl"
    if marker.exists() and json.loads(marker.read_text(encoding="utf-8")) != {"suite": plan.run}:
        raise Wrong(f"{folder} has a run of another suite, or of this one before it was changed: --out names another")
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"suite": plan.run}), encoding="utf-8")
    whole = cells.read_bytes().split(b"\n")[:-1] if cells.exists() else []
    found = [cell for cell in (Cell(**json.loads(line)) for line in whole) if cell.ok]
    cells.write_text("".join(json.dumps(asdict(cell)) + "\n" for cell in found), encoding="utf-8")
    return found


def _verdicts(folder: Path, plan: Plan) -> list[Verdict]:
    """What judges of pairs have said in an earlier start; where they did not say they are asked again."""
    path = folder / "verdicts.jsonl"
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    found = [one for one in (Verdict(**json.loads(line)) for line in whole) if one.winner is not None]
    if plan.scoring.in_pairs():
        path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found), encoding="utf-8")
    return found


def _matches(plan: Plan, cells: Sequence[Cell], verdicts: Sequence[Verdict]) -> list[Match]:
    answered = [(one.case, one.candidate, one.repeat) for one in cells if one.ok]
    return plan.matches(answered, [(one.case, one.first, one.second, one.repeat, one.scorer) for one in verdicts])


async def _run(
    plan: Plan, asker: Asker, folder: Path, there: list[Cell], said: list[Verdict]
) -> tuple[list[Cell], list[Verdict], str]:
    """All cells and verdicts that there are in the end, and why everything is refused if it is."""
    cells = list(there)
    holes = plan.holes((cell.case, cell.candidate, cell.repeat) for cell in there)
    begin = time.monotonic()
    with (folder / "cells.jsonl").open("ab", buffering=0) as file:

        def finished(cell: Cell) -> None:
            file.write(json.dumps(asdict(cell)).encode() + b"\n")
            cells.append(cell)

        engine = Engine(replace(plan, run=new_id()), asker, finished, lambda _: 0)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, engine.stop)
        filling = asyncio.create_task(engine.fill(holes))
        while not filling.done():
            await asyncio.wait({filling}, timeout=_LOOK)
            _show(len(cells), len(there) + len(holes), len(cells) - len(there), time.monotonic() - begin)
        sys.stderr.write("\n")
        await filling
    verdicts = await _judged(plan, engine, folder, cells, said)
    await asker.close()
    refused = engine.refused
    return cells, verdicts, f"{refused.status} {refused.code}: {refused.message}" if refused else ""


async def _judged(
    plan: Plan, engine: Engine, folder: Path, cells: Sequence[Cell], said: list[Verdict]
) -> list[Verdict]:
    """Have pairs of answers judged, as long as nobody stops the engine."""
    verdicts = list(said)
    if not (matches := _matches(plan, cells, said)):
        return verdicts
    found = {(one.case, one.candidate, one.repeat): one for one in cells}

    async def answers(match: Match) -> tuple[Answered, Answered]:
        one, other = (found[match.case, candidate, match.repeat] for candidate in (match.first, match.second))
        return (one.request, one.answer or {}), (other.request, other.answer or {})

    with (folder / "verdicts.jsonl").open("ab", buffering=0) as file:

        def judged(verdict: Verdict) -> None:
            file.write(json.dumps(asdict(verdict)).encode() + b"\n")
            verdicts.append(verdict)

        begin = time.monotonic()
        judging = asyncio.create_task(engine.judge(matches, answers, judged))
        while not judging.done():
            await asyncio.wait({judging}, timeout=_LOOK)
            fresh = len(verdicts) - len(said)
            _show(len(verdicts), len(said) + len(matches), fresh, time.monotonic() - begin)
        sys.stderr.write("\n")
        await judging
    return verdicts


def _show(done: int, total: int, fresh: int, seconds: float) -> None:
    """One line that is written over and over on a terminal, and only at its end elsewhere."""
    if not os.isatty(sys.stderr.fileno()) and done < total:
        return
    full = _WIDTH * done // max(1, total)
    left = f"{(total - done) * seconds / fresh:.0f} s left" if fresh else ""
    bar = "█" * full + "░" * (_WIDTH - full)
    sys.stderr.write(f"\r{bar} {done}/{total}  {fresh / max(seconds, 0.001):.1f}/s  {left:<14}")
    sys.stderr.flush()


def _reported(plan: Plan, suite: SuiteFile, cells: Sequence[Cell], verdicts: Sequence[Verdict], folder: Path) -> Report:
    scorers = [one.name for one in suite.scorers]
    asked = report.Asked(
        candidates=plan.candidates, scorers=scorers,
        in_pairs=[one.name for one in suite.scorers if one.kind == IN_PAIRS],
        tags={number: case["tags"] for number, case in enumerate(plan.cases, 1)}, repeats=plan.repeats,
    )  # fmt: skip
    said = [
        Judged(one.case, one.first, one.second, scorers[one.scorer], one.forward, one.backward, one.winner)
        for one in verdicts
    ]
    made = report.report(asked, [_told(cell) for cell in cells], None, said)
    (folder / "report.json").write_text(made.model_dump_json(indent=2), encoding="utf-8")
    facts = [f"{suite.url}", f"{len(plan.cases)} cases, {plan.repeats} repeats"]
    (folder / "report.md").write_text(export.markdown(suite.name, facts, made), encoding="utf-8")
    (folder / "report.html").write_text(export.page(suite.name, facts, made), encoding="utf-8")
    return made


def _told(cell: Cell) -> report.Told:
    answer: dict[str, Any] = cell.answer or {"usage": {}}
    return report.Told(
        case=cell.case, candidate=cell.candidate, ok=cell.ok, scores=cell.scores, latency_ms=answer.get("latency_ms"),
        ttft_ms=answer.get("ttft_ms"), input_tokens=answer["usage"].get("prompt_tokens", 0),
        output_tokens=answer["usage"].get("completion_tokens", 0), finish_reason=answer.get("finish_reason") or "",
        error=cell.error, limited=cell.limited > 0,
    )  # fmt: skip


def _missed(thresholds: Sequence[Threshold], made: Report) -> list[str]:
    found = []
    for threshold in thresholds:
        for one in made.candidates:
            if threshold.candidate in (None, one.name):
                found += missed(one, [threshold])
    return found


if __name__ == "__main__":
    sys.exit(main())
