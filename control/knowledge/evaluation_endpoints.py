"""`/api/v1/knowledge/{base}/test-sets`: questions that say how well a base finds, and runs of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from control.deps import Db, Parts, allow
from control.errors import Problem, answers
from control.kit.files import BYTES
from control.kit.ownership import find_to_change
from control.kit.pages import Page, Paging, paginate
from control.kit.permissions import Person
from control.knowledge import service as knowledge
from control.knowledge.engine import required
from control.knowledge.evaluation import files, proposing, schemas, service
from control.knowledge.gateway import digest_of_key
from control.models import KnowledgeBase

router = APIRouter(prefix="/knowledge/{base}/test-sets", tags=["knowledge"])
Reader = Annotated[Person, Depends(allow("knowledge:list"))]
Writer = Annotated[Person, Depends(allow("knowledge:own"))]
Base = Annotated[str, Path(max_length=120)]
Set = Annotated[str, Path(max_length=120)]
Number = Annotated[int, Path(ge=1, le=2_147_483_647)]


@router.get("")
async def list_knowledge_test_sets(
    base: Base, session: Db, person: Reader, paging: Paging
) -> Page[schemas.KnowledgeTestSet]:
    """Test sets by name, each with its newest run."""
    page = await paginate(session, await service.listed(session, person, base), paging, lambda row: row)
    items = await service.shown(session, page.items)
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("", status_code=201)
async def create_knowledge_test_set(
    base: Base, body: schemas.KnowledgeTestSetCreate, session: Db, person: Writer
) -> schemas.KnowledgeTestSet:
    """A new test set, still without questions."""
    return (await service.shown(session, [await service.create(session, person, base, body.name)]))[0]


@router.get("/{set}")
async def get_knowledge_test_set(base: Base, set: Set, session: Db, person: Reader) -> schemas.KnowledgeTestSet:
    """A test set with its newest run."""
    return (await service.shown(session, [await service.find(session, person, base, set)]))[0]


@router.delete("/{set}", status_code=204)
async def delete_knowledge_test_set(base: Base, set: Set, session: Db, person: Writer) -> None:
    """Forget a test set with its questions and runs."""
    await service.remove(session, person, base, set)


@router.get("/{set}/questions")
async def list_knowledge_questions(
    base: Base, set: Set, session: Db, person: Reader, paging: Paging
) -> Page[schemas.KnowledgeQuestion]:
    """Questions in the order in which they came."""
    row = await service.find(session, person, base, set)
    return await paginate(session, service.questions_of(row), paging, service.question_shown)


@router.post("/{set}/questions", status_code=201)
async def add_knowledge_questions(
    base: Base, set: Set, body: schemas.NewQuestions, session: Db, person: Writer
) -> schemas.KnowledgeTestSet:
    """Put questions into a set. One that is there already gets the passages that it does not expect yet."""
    row = await service.add(session, person, base, set, body.questions)
    return (await service.shown(session, [row]))[0]


@router.post("/{set}/import", status_code=201, openapi_extra=BYTES)
async def import_knowledge_questions(
    base: Base,
    set: Set,
    request: Request,
    session: Db,
    person: Writer,
    format: Annotated[files.Format, Query(description="What the body is.")],
) -> schemas.KnowledgeTestSet:
    """Put the questions of a file into a set, all of them or none: JSONL of bodies as of `questions`, or CSV with the
    columns `question`, `document` and `text`.
    """
    row = await service.add(session, person, base, set, files.read(await request.body(), format))
    return (await service.shown(session, [row]))[0]


@router.post("/{set}/proposals", responses=answers(502))
async def propose_knowledge_question(
    base: Base, set: Set, body: schemas.KnowledgeProposalCreate, parts: Parts, person: Writer
) -> schemas.KnowledgeProposal:
    """Have a model read some passage of the base and ask what it answers. Nothing is kept: add it if it is good."""
    engine = required(parts.knowledge)
    async with parts.db.read() as session:
        row = await find_to_change(session, person, KnowledgeBase, base)
        await service.find(session, person, base, set)
        await knowledge.check_key(session, person, body.key)
        digest = await digest_of_key(session, body.key)
        document, text = await proposing.passage(session, row)
    if digest is None:
        raise Problem(422, "unknown_key", f"the API key {body.key!r} is revoked")
    return await proposing.proposal(engine.embedders.gateway, digest, body.route, document, text)


@router.put("/{set}/questions/{number}")
async def replace_knowledge_question(
    base: Base, set: Set, number: Number, body: schemas.NewQuestion, session: Db, person: Writer
) -> schemas.KnowledgeQuestion:
    """Put another question in the place of one."""
    return service.question_shown(await service.change(session, person, base, set, number, body))


@router.delete("/{set}/questions/{number}", status_code=204)
async def delete_knowledge_question(base: Base, set: Set, number: Number, session: Db, person: Writer) -> None:
    """Take a question out of a set. Runs keep what they have found for it."""
    await service.drop(session, person, base, set, number)


@router.get("/{set}/runs")
async def list_knowledge_runs(
    base: Base, set: Set, session: Db, person: Reader, paging: Paging
) -> Page[schemas.KnowledgeRun]:
    """Runs, the newest first."""
    row = await service.find(session, person, base, set)
    return await paginate(session, service.runs_of(row), paging, service.run_shown)


@router.post("/{set}/runs", status_code=201)
async def start_knowledge_run(
    base: Base, set: Set, body: schemas.KnowledgeRunCreate, session: Db, parts: Parts, person: Writer
) -> schemas.KnowledgeRun:
    """Ask all questions of the set, in the background, as gateways would."""
    run = await service.start(session, person, base, set, body)
    required(parts.knowledge)
    return service.run_shown(run)


@router.get("/{set}/runs/{number}")
async def get_knowledge_run(base: Base, set: Set, number: Number, session: Db, person: Reader) -> schemas.KnowledgeRun:
    """A run and how far it is."""
    row = await service.find(session, person, base, set)
    return service.run_shown(await service.run_of(session, row, number))


@router.delete("/{set}/runs/{number}", status_code=204)
async def delete_knowledge_run(base: Base, set: Set, number: Number, session: Db, person: Writer) -> None:
    """Forget a run; one that is under way ends."""
    await service.forget(session, person, base, set, number)


@router.get("/{set}/runs/{number}/answers")
async def list_knowledge_answers(
    base: Base, set: Set, number: Number, session: Db, person: Reader, paging: Paging
) -> Page[schemas.KnowledgeAnswer]:
    """What a run has found for each question."""
    run = await service.run_of(session, await service.find(session, person, base, set), number)
    return await paginate(session, service.answers_of(run), paging, service.answer_shown)


@router.get("/{set}/runs/{number}/worse")
async def list_knowledge_worse_answers(
    base: Base,
    set: Set,
    number: Number,
    session: Db,
    person: Reader,
    paging: Paging,
    than: Annotated[int, Query(ge=1, le=2_147_483_647, description="Number of another run of the set.")],
) -> Page[schemas.KnowledgeAnswer]:
    """Questions of which this run has found something later than another one, or not any more. Those that expect
    something else by now are left out.
    """
    row = await service.find(session, person, base, set)
    run, other = await service.run_of(session, row, number), await service.run_of(session, row, than)
    found = await service.worse(session, run, other)
    start = (paging.page - 1) * paging.per_page
    some = found[start : start + paging.per_page]
    return Page(items=some, total=len(found), page=paging.page, per_page=paging.per_page)
