"""Test sets: made and taken away, their questions, and the runs that are asked for. `running` asks them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Select

from control import models
from control.errors import Problem, duplicate, not_found
from control.kit.audit import note
from control.kit.ownership import find_to_change
from control.kit.permissions import Person
from control.knowledge import indexes, service
from control.knowledge.evaluation import metrics, schemas
from control.models import KnowledgeAnswer, KnowledgeBase, KnowledgeQuestion, KnowledgeRun, KnowledgeTestSet
from control.models.base import now

KIND = "knowledge_test_set"


async def find(session: AsyncSession, person: Person, base: str, name: str) -> KnowledgeTestSet:
    """A set of a base whose documents the person may see."""
    return await _of(session, await service.find_managed(session, person, base), name)


async def find_mine(session: AsyncSession, person: Person, base: str, name: str) -> KnowledgeTestSet:
    """A set of a base that the person may change; locked, as `kit.ownership` locks its base."""
    return await _of(session, await find_to_change(session, person, KnowledgeBase, base), name)


async def _of(session: AsyncSession, base: KnowledgeBase, name: str) -> KnowledgeTestSet:
    query = select(KnowledgeTestSet).where(KnowledgeTestSet.base_id == base.id, KnowledgeTestSet.name == name)
    row: KnowledgeTestSet | None = await session.scalar(query)
    if row is None:
        raise not_found("test set", name)
    return row


async def listed(session: AsyncSession, person: Person, base: str) -> Select[Any]:
    """Query of the sets of a base, by name."""
    found = await service.find_managed(session, person, base)
    return select(KnowledgeTestSet).where(KnowledgeTestSet.base_id == found.id).order_by(KnowledgeTestSet.name)


async def create(session: AsyncSession, person: Person, base: str, name: str) -> KnowledgeTestSet:
    """A new set without questions."""
    found = await find_to_change(session, person, KnowledgeBase, base)
    same = (KnowledgeTestSet.base_id == found.id, KnowledgeTestSet.name == name)
    if await session.scalar(select(KnowledgeTestSet.id).where(*same)) is not None:
        raise duplicate("test set", name)
    row = KnowledgeTestSet(base_id=found.id, name=name, questions=0, runs=0, created_by=person.username)
    session.add(row)
    await session.flush()
    note(session, person.actor, "create", KIND, f"{base}/{name}")
    return row


async def remove(session: AsyncSession, person: Person, base: str, name: str) -> None:
    """Forget a set with its questions and runs."""
    row = await find_mine(session, person, base, name)
    note(session, person.actor, "delete", KIND, f"{base}/{name}", before={"questions": row.questions})
    await session.delete(row)
    await session.flush()


async def shown(session: AsyncSession, rows: Sequence[KnowledgeTestSet]) -> list[schemas.KnowledgeTestSet]:
    """Sets with how much is in them, and their newest runs."""
    ids = [row.id for row in rows]

    async def counted(table: Any) -> dict[str, int]:
        query = select(table.set_id, func.count()).where(table.set_id.in_(ids)).group_by(table.set_id)
        return {row[0]: row[1] for row in await session.execute(query)}

    questions, runs = await counted(KnowledgeQuestion), await counted(KnowledgeRun)
    newest = select(KnowledgeRun.set_id, func.max(KnowledgeRun.number).label("number")).where(
        KnowledgeRun.set_id.in_(ids)
    )
    latest = newest.group_by(KnowledgeRun.set_id).subquery()
    same = (latest.c.set_id == KnowledgeRun.set_id, latest.c.number == KnowledgeRun.number)
    last = {run.set_id: run for run in await session.scalars(select(KnowledgeRun).join(latest, and_(*same)))}
    return [
        schemas.KnowledgeTestSet(
            name=row.name, questions=questions.get(row.id, 0), runs=runs.get(row.id, 0),
            last=run_shown(last[row.id]) if row.id in last else None,
            created_at=row.created_at, created_by=row.created_by,
        )
        for row in rows
    ]  # fmt: skip


# ---- Questions


def questions_of(row: KnowledgeTestSet) -> Select[Any]:
    """Query of the questions of a set, in their order."""
    return select(KnowledgeQuestion).where(KnowledgeQuestion.set_id == row.id).order_by(KnowledgeQuestion.number)


def question_shown(row: KnowledgeQuestion) -> schemas.KnowledgeQuestion:
    """A question as the API says it."""
    return schemas.KnowledgeQuestion(
        number=row.number, question=row.text, expected=row.expected, created_by=row.created_by
    )


async def add(
    session: AsyncSession, person: Person, base: str, name: str, questions: Iterable[schemas.NewQuestion]
) -> KnowledgeTestSet:
    """Put questions into a set. One that is there already gets the passages that it does not expect yet."""
    row = await find_mine(session, person, base, name)
    there = {one.text: one for one in await session.scalars(questions_of(row))}
    new = 0
    for asked in questions:
        expected = [one.model_dump() for one in asked.expected]
        known = there.get(asked.question)
        if known is None:
            row.questions += 1
            new += 1
            there[asked.question] = KnowledgeQuestion(
                set_id=row.id, number=row.questions, text=asked.question, expected=expected, created_by=person.username
            )
            session.add(there[asked.question])
            continue
        known.expected = [*known.expected, *(one for one in expected if one not in known.expected)]
        if len(known.expected) > schemas.MOST_EXPECTED:
            raise Problem(422, "too_many", f"{asked.question[:80]!r} would expect more than {schemas.MOST_EXPECTED}")
    if len(there) > schemas.MOST_QUESTIONS:
        raise Problem(422, "too_many", f"a set has at most {schemas.MOST_QUESTIONS} questions")
    note(session, person.actor, "add_questions", KIND, f"{base}/{name}", after={"new": new, "questions": len(there)})
    await session.flush()
    return row


async def change(
    session: AsyncSession, person: Person, base: str, name: str, number: int, body: schemas.NewQuestion
) -> KnowledgeQuestion:
    """Put another question in the place of one."""
    found = await _question(session, await find_mine(session, person, base, name), number)
    same = (KnowledgeQuestion.set_id == found.set_id, KnowledgeQuestion.text == body.question)
    if await session.scalar(select(KnowledgeQuestion.number).where(*same, KnowledgeQuestion.number != number)):
        raise Problem(409, "duplicate", "this question is in the set already")
    before = {"question": found.text, "expected": found.expected}
    found.text, found.expected = body.question, [one.model_dump() for one in body.expected]
    after = {"question": found.text, "expected": found.expected}
    if after != before:
        note(session, person.actor, "update_question", KIND, f"{base}/{name}/{number}", before, after)
    await session.flush()
    return found


async def drop(session: AsyncSession, person: Person, base: str, name: str, number: int) -> None:
    """Take a question out of a set; runs keep what they have found for it."""
    found = await _question(session, await find_mine(session, person, base, name), number)
    note(session, person.actor, "delete_question", KIND, f"{base}/{name}/{number}", before={"question": found.text})
    await session.delete(found)
    await session.flush()


async def _question(session: AsyncSession, row: KnowledgeTestSet, number: int) -> KnowledgeQuestion:
    found = await session.get(KnowledgeQuestion, (row.id, number))
    if found is None:
        raise not_found("question", str(number))
    return found


# ---- Runs


async def start(
    session: AsyncSession, person: Person, base: str, name: str, body: schemas.KnowledgeRunCreate
) -> KnowledgeRun:
    """A run of all questions as they are now; it is asked in the background."""
    row = await find_mine(session, person, base, name)
    owner = await session.get(KnowledgeBase, row.base_id)
    assert owner is not None, "a set has a base"
    index = await indexes.index_of(session, owner, body.index)
    if body.retrieval is not None:
        await service.check_rerank(session, person, body.retrieval, owner)
    retrieval = owner.retrieval if body.retrieval is None else body.retrieval.model_dump(mode="json")
    settings = schemas.KnowledgeRunSettings.model_validate({"retrieval": retrieval, "score_floor": body.score_floor})
    questions = (await session.scalars(questions_of(row))).all()
    if not questions:
        raise Problem(409, "no_questions", f"the test set {name!r} has no questions yet")
    row.runs += 1
    run = KnowledgeRun(
        set_id=row.id, number=row.runs, index_number=index.number, settings=settings.model_dump(mode="json"),
        index_facts={"embedding": index.embedding, "chunking": index.chunking}, state="waiting", not_before=now(),
        total=len(questions), created_by=person.username, code="", message="", done=0,
    )  # fmt: skip
    session.add(run)
    await session.flush()
    session.add_all(
        KnowledgeAnswer(run_id=run.id, number=one.number, text=one.text, expected=one.expected) for one in questions
    )
    note(session, person.actor, "start_run", KIND, f"{base}/{name}", after={"run": run.number, **run.settings})
    await session.flush()
    return run


def runs_of(row: KnowledgeTestSet) -> Select[Any]:
    """Query of the runs of a set, the newest first."""
    return select(KnowledgeRun).where(KnowledgeRun.set_id == row.id).order_by(KnowledgeRun.number.desc())


async def run_of(session: AsyncSession, row: KnowledgeTestSet, number: int) -> KnowledgeRun:
    """A run of a set."""
    which = (KnowledgeRun.set_id == row.id, KnowledgeRun.number == number)
    found: KnowledgeRun | None = await session.scalar(select(KnowledgeRun).where(*which))
    if found is None:
        raise not_found("run", str(number))
    return found


async def forget(session: AsyncSession, person: Person, base: str, name: str, number: int) -> None:
    """Forget a run, which ends it."""
    run = await run_of(session, await find_mine(session, person, base, name), number)
    note(session, person.actor, "delete_run", KIND, f"{base}/{name}", before={"run": number})
    await session.execute(delete(KnowledgeRun).where(KnowledgeRun.id == run.id))


def run_shown(run: KnowledgeRun) -> schemas.KnowledgeRun:
    """A run as the API says it."""
    names = (
        "number", "index_number", "settings", "state", "code", "message", "total", "done", "figures", "created_at",
        "created_by", "finished_at",
    )  # fmt: skip
    return schemas.KnowledgeRun.model_validate({name: getattr(run, name) for name in names} | run.index_facts)


def answers_of(run: KnowledgeRun) -> Select[Any]:
    """Query of the questions of a run."""
    return select(KnowledgeAnswer).where(KnowledgeAnswer.run_id == run.id).order_by(KnowledgeAnswer.number)


def answer_shown(row: models.KnowledgeAnswer, before: models.KnowledgeAnswer | None = None) -> schemas.KnowledgeAnswer:
    """What a run has found for a question, beside what another one has."""
    return schemas.KnowledgeAnswer.model_validate(
        {
            "number": row.number, "question": row.text, "expected": row.expected, "ranks": row.ranks,
            "rank": _first(row.ranks), "before": _first(before.ranks) if before is not None else None,
            "recall_10": metrics.recall(row.ranks, metrics.DEPTH) if row.ranks is not None else None,
            "ndcg_10": round(metrics.gain(row.ranks), 6) if row.ranks is not None else None,
            "took_ms": row.took_ms, "rerank": row.rerank,
        }
    )  # fmt: skip


async def worse(session: AsyncSession, run: KnowledgeRun, than: KnowledgeRun) -> list[schemas.KnowledgeAnswer]:
    """Questions of which this run has found something later than the other, or not any more. Questions that expect
    something else by now are not compared.
    """
    old = {one.number: one for one in await session.scalars(answers_of(than))}
    found = []
    for new in await session.scalars(answers_of(run)):
        was = old.get(new.number)
        if was is None or (was.text, was.expected) != (new.text, new.expected):
            continue
        if new.ranks is not None and was.ranks is not None and metrics.worse(new.ranks, was.ranks):
            found.append(answer_shown(new, was))
    return found


def _first(ranks: Sequence[int | None] | None) -> int | None:
    return min((rank for rank in ranks or () if rank is not None), default=None)
