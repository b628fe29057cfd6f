"""Runs that ask nobody: a route's answers and those of its shadow, as the request log keeps both.

Each pair is a case without an expected answer, since nobody has said which one is right.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from control.comparisons import run_schemas, schemas, suites
from control.comparisons.scorers.base import Answer
from control.comparisons.scoring import Scoring, Unjudged
from control.datasets import build
from control.errors import Problem, not_found
from control.kit.audit import note
from control.kit.files import Files
from control.kit.ownership import find_to_change
from control.kit.permissions import Person
from control.models import ComparisonCell, ComparisonRun, RequestBody, Route, Suite, SuiteVersion, UsageRow
from control.models.base import new_id, now
from control.security import Vault
from control.usage import bodies

PROMPT = "logged"


class Pair(NamedTuple):
    """A request and the copy of it that the shadow got."""

    case: schemas.SuiteCase
    rows: tuple[UsageRow, UsageRow]
    messages: tuple[Mapping[str, Any], Mapping[str, Any] | None]
    """What was answered; None: the shadow has failed."""


class Paired(NamedTuple):
    """What the request log has of a route and its shadow."""

    pairs: list[Pair]
    skipped: dict[str, int]
    scorers: list[dict[str, Any]]
    """Of the suite's newest version."""
    scores: list[list[dict[str, Any]]]
    """Of each pair: of the one answer and the other."""


async def paired(session: AsyncSession, vault: Vault, person: Person, name: str, body: run_schemas.ShadowRun) -> Paired:
    """Read and score; nothing is written, since this takes a while.

    Raises:
        Problem: 403 without the permission to read bodies; 404; 422 `no_cases`.
    """
    if not person.may("requests:bodies"):
        raise Problem(403, "forbidden", "your role may not read the bodies of requests")
    suite = await find_to_change(session, person, Suite, name)
    content = (await suites.version_of(session, suite)).content if suite.latest else {}
    copy = aliased(UsageRow)
    held = select(RequestBody.id).where(RequestBody.erased_at.is_(None))
    query = select(UsageRow, copy).join(
        copy, (copy.request_id == UsageRow.request_id) & (copy.shadow_of == UsageRow.id)
    )
    query = query.where(UsageRow.route == body.route, UsageRow.ts >= body.since, UsageRow.end == "success")
    query = query.where(UsageRow.id.in_(held), (copy.end != "success") | copy.id.in_(held))
    rows = [(one, other) for one, other in await session.execute(query.order_by(UsageRow.ts.desc()).limit(body.limit))]
    skipped: Counter[str] = Counter()
    pairs: list[Pair] = []
    for start in range(0, len(rows), build.AT_ONCE):
        pairs += await _pairs(session, vault, rows[start : start + build.AT_ONCE], skipped)
    if not pairs:
        raise Problem(
            422, "no_cases", f"no request to {body.route!r} was kept with its shadow's answer: {dict(skipped)}"
        )
    scorers = list(content.get("scorers", []))
    return Paired(pairs, dict(skipped), scorers, [await _scored(Scoring(scorers), one) for one in pairs])


async def _pairs(
    session: AsyncSession, vault: Vault, rows: Sequence[tuple[UsageRow, UsageRow]], skipped: Counter[str]
) -> list[Pair]:
    held = await bodies.find(session, [one.id for pair in rows for one in pair])
    texts = await asyncio.to_thread(build.opened, vault, held)
    found = []
    for row, copy in rows:
        reason, first = build.dialogue(held.get(row.id), texts.get(row.id))
        second: Mapping[str, Any] | None = None
        if first is not None and copy.end == "success":
            answered = texts.get(copy.id, (None, None))[1]
            reason, second = build.dialogue(held.get(copy.id), (texts[row.id][0], answered))
        if first is None or (copy.end == "success" and second is None):
            skipped[reason] += 1
            continue
        try:
            case = schemas.SuiteCase.model_validate({"messages": first["messages"][:-1]})
        except ValidationError:
            skipped["no_dialogue"] += 1
            continue
        found.append(Pair(case, (row, copy), (first["messages"][-1], second["messages"][-1] if second else None)))
    return found


def _answer(row: UsageRow, message: Mapping[str, Any]) -> Answer:
    text = message.get("content")
    asked = row.input_tokens + row.cache_read_tokens + row.cache_write_tokens
    answered = row.output_tokens + row.reasoning_tokens
    return Answer(
        text=text if isinstance(text, str) else "", tool_calls=message.get("tool_calls") or (),
        usage={"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered},
        cost=Decimal(row.cost_nano) / 10**9, latency_ms=row.duration_ms, ttft_ms=row.ttft_ms,
    )  # fmt: skip


async def _scored(scoring: Scoring, pair: Pair) -> list[dict[str, Any]]:
    case, found = pair.case.model_dump(mode="json"), []
    for row, message in zip(pair.rows, pair.messages, strict=True):
        asked = {"messages": case["messages"]}
        scores = await scoring.of(case, asked, _answer(row, message), _nobody, _nobody) if message is not None else {}
        found.append(scores)
    return found


async def _nobody(*_: object) -> Any:
    raise Unjudged("answers of the request log are scored without asking anybody")


async def record(
    session: AsyncSession, files: Files, vault: Vault, person: Person, name: str, body: run_schemas.ShadowRun,
    found: Paired,
) -> ComparisonRun:  # fmt: skip
    """The pairs as a version of the suite, and a run over it that is over.

    Raises:
        Problem: 404 if the route is not there any more.
    """
    route = await session.scalar(select(Route).where(Route.name == body.route))
    if route is None:
        raise not_found("route", body.route)
    cases = [pair.case.model_dump(mode="json") for pair in found.pairs]
    content = {
        "prompts": [{"name": PROMPT, "messages": []}], "scorers": found.scorers,
        "sources": [{"kind": "cases", "cases": cases}],
    }  # fmt: skip
    wanted = schemas.SuiteVersionCreate.model_validate(content)
    made = await suites.add_version(session, files, vault, person, name, wanted)
    suite = await find_to_change(session, person, Suite, name)
    version: SuiteVersion = await suites.version_of(session, suite, made.number)
    names = (body.route, f"{body.route} (shadow)")
    candidates = [
        {"name": one, "route": one, "route_version": route.version, "prompt": PROMPT, "parameters": {}} for one in names
    ]
    failed = sum(pair.messages[1] is None for pair in found.pairs)
    cells = 2 * len(cases)
    row = ComparisonRun(
        id=new_id(), suite_id=suite.id, version_id=version.id, note=body.note, key="", candidates=candidates,
        settings=run_schemas.RunSettings(
            repeats=1, concurrency=1, tries=1, timeout_seconds=1, seed=None, stream=True, budget_nano=None,
            reuse_days=None,
        ).model_dump(),
        estimate=run_schemas.RunEstimate(cells=cells, cost_nano=0, output_basis="guess", candidates=[]).model_dump(),
        state="partial" if failed else "done", total=cells, done=cells - failed, failed=failed, created_at=now(),
        created_by=person.username, started_at=now(), ended_at=now(),
    )  # fmt: skip
    session.add(row)
    await session.flush()
    table: Any = ComparisonCell.__table__
    await session.execute(insert(table), list(_cells(row.id, found)))
    after = {"suite": f"{name}@{version.number}", "shadow_of": body.route, "cells": cells, "skipped": found.skipped}
    note(session, person.actor, "record", "run", row.id, after=after)
    return row


def _cells(run: str, found: Paired) -> Iterator[dict[str, Any]]:
    for number, (pair, scores) in enumerate(zip(found.pairs, found.scores, strict=True), 1):
        case = pair.case.model_dump(mode="json")
        for candidate, (row, message) in enumerate(zip(pair.rows, pair.messages, strict=True)):
            said = None if message is None else _answer(row, message)
            yield {
                "run_id": run, "case_number": number, "candidate": candidate, "repeat_number": 0,
                "ok": said is not None, "request_id": row.request_id,
                "request": {"model": row.model, "messages": case["messages"]}, "answer": _kept(said),
                "error": None if said is not None else _failure(row),
                "scores": scores[candidate], "latency_ms": row.duration_ms if said is not None else None,
                "ttft_ms": row.ttft_ms if said is not None else None, "tries": 1,
                "limited": int(row.status == 429), "cost_nano": row.cost_nano,
                "input_tokens": said.usage["prompt_tokens"] if said is not None else None,
                "output_tokens": said.usage["completion_tokens"] if said is not None else None,
                "snapshot": row.snapshot, "digest": "", "reused_from": "", "finished_at": row.ts,
            }  # fmt: skip


def _kept(said: Answer | None) -> dict[str, Any] | None:
    if said is None:
        return None
    return {
        "text": said.text, "tool_calls": list(said.tool_calls), "finish_reason": None, "citations": [],
        "usage": dict(said.usage), "latency_ms": said.latency_ms, "ttft_ms": said.ttft_ms, "headers": {},
    }  # fmt: skip


def _failure(row: UsageRow) -> dict[str, Any]:
    return {"status": row.status, "code": row.error or row.end, "message": "the shadow has not answered"}
