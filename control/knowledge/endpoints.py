"""`/api/v1/knowledge`: knowledge bases, their documents, and searches in them. For gateways: `internal`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from control import models
from control.deps import Control, Db, Parts, allow, allow_long
from control.errors import Problem, answers
from control.keys import service as keys
from control.kit.files import BYTES, a_file, reading
from control.kit.ownership import find_to_change
from control.kit.pages import Page, Paging, Search, paginate
from control.kit.permissions import Person
from control.knowledge import access, chunking, documents, indexes, schemas, service, trials
from control.knowledge.engine import required
from control.knowledge.fetching import Fetched, fetch, name_of

router = APIRouter(prefix="/knowledge", tags=["knowledge"])
Reader = Annotated[Person, Depends(allow("knowledge:list"))]
Writer = Annotated[Person, Depends(allow("knowledge:own"))]
Sender = Annotated[Person, Depends(allow_long("knowledge:own"))]
Searcher = Annotated[Person, Depends(allow_long("knowledge:list"))]
Base = Annotated[str, Path(max_length=120)]
Id = Annotated[str, Path(max_length=36)]
Number = Annotated[int, Path(ge=1, le=2_147_483_647)]
TYPES_OF = {"html": "html", "htm": "html", "xhtml": "html", "pdf": "pdf", "txt": "txt", "md": "md"}
"""End of a document's name -> what a page has to be."""
PREVIEWED = 200
"""Chunks that a preview shows."""


@router.get("")
async def list_knowledge_bases(
    session: Db, parts: Parts, person: Reader, paging: Paging, search: Search = None
) -> Page[schemas.KnowledgeBase]:
    """Knowledge bases by name: those in which you may search."""
    page = await paginate(session, await service.listed(session, person, search), paging, lambda row: row)
    items = await service.shown(session, person, page.items, lite=_on_lite(parts))
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.get("/models")
async def list_knowledge_models(parts: Parts, _: Reader) -> schemas.KnowledgeModels:
    """Embedding models that control runs itself. Others are routes of the gateway."""
    return schemas.KnowledgeModels(models=list(parts.knowledge.models) if parts.knowledge else [])


@router.post("", status_code=201)
async def create_knowledge_base(
    body: schemas.KnowledgeBaseCreate, session: Db, parts: Parts, person: Writer
) -> schemas.KnowledgeBase:
    """A new knowledge base, still without documents."""
    base = await service.create(session, person, body, required(parts.knowledge).models)
    return await _base(session, parts, person, base)


@router.get("/{base}")
async def get_knowledge_base(base: Base, session: Db, parts: Parts, person: Reader) -> schemas.KnowledgeBase:
    """A knowledge base with its indexes."""
    return await _base(session, parts, person, await service.find(session, person, base))


@router.patch("/{base}")
async def update_knowledge_base(
    base: Base, body: schemas.KnowledgeBaseUpdate, session: Db, parts: Parts, person: Writer
) -> schemas.KnowledgeBase:
    """Change a knowledge base. Another embedding or chunking builds a new index beside the live one."""
    changed = await service.update(session, person, base, body, required(parts.knowledge).models)
    return await _base(session, parts, person, changed)


@router.delete("/{base}", status_code=204)
async def delete_knowledge_base(base: Base, session: Db, person: Writer) -> None:
    """Forget a knowledge base with all its documents, for good."""
    await service.remove(session, person, base)


@router.post("/{base}/rebuild")
async def rebuild_knowledge_base(
    base: Base, session: Db, parts: Parts, person: Writer, hold: bool = False
) -> schemas.KnowledgeBase:
    """Fill a new index beside the live one, in the same way. Nothing that is embedded is embedded again. With `hold`
    it does not take over by itself.
    """
    return await _base(session, parts, person, await service.rebuild(session, person, base, hold=hold))


@router.post("/{base}/indexes/{number}/promote")
async def promote_knowledge_index(
    base: Base, number: Number, session: Db, parts: Parts, person: Writer
) -> schemas.KnowledgeBase:
    """Hold an index back no longer: it answers now, or once it is complete."""
    return await _base(session, parts, person, await indexes.promote(session, person, base, number))


@router.delete("/{base}/indexes/{number}")
async def discard_knowledge_index(
    base: Base, number: Number, session: Db, parts: Parts, person: Writer
) -> schemas.KnowledgeBase:
    """Give up an index that does not answer."""
    return await _base(session, parts, person, await indexes.discard(session, person, base, number))


@router.get("/{base}/trial")
async def get_knowledge_trial(
    base: Base, session: Db, person: Reader, days: Annotated[int, Query(ge=1, le=90)] = 7
) -> schemas.KnowledgeTrial:
    """What conversations came to by the index that their passages were from: the newest 10,000 of some days."""
    return await trials.report(session, await service.find_managed(session, person, base), days)


@router.get("/{base}/documents")
async def list_knowledge_documents(
    base: Base, session: Db, person: Reader, paging: Paging, search: Search = None
) -> Page[schemas.KnowledgeDocument]:
    """Documents by name, with how far they are."""
    found = await service.find_managed(session, person, base)
    page = await paginate(session, documents.listed(found, search), paging, lambda row: row)
    items = await documents.shown(session, found, page.items)
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("/{base}/documents", status_code=201, responses=answers(507), openapi_extra=BYTES)
async def add_knowledge_document(
    base: Base,
    request: Request,
    response: Response,
    parts: Parts,
    person: Sender,
    name: Annotated[schemas.DocumentName, Query(examples=["handbook.pdf"])],
) -> schemas.KnowledgeDocument:
    """Add a file: its content is the body, and the end of its name says what it is. 200 if this content is there under
    this name already; other content under a name replaces the document once it can be found itself.
    """
    engine, most = required(parts.knowledge), parts.settings.knowledge.max_file_bytes
    row, new = await documents.receive(parts.db, engine.files, person, base, name, request.stream(), most)
    response.status_code = 201 if new else 200
    async with parts.db.read() as session:
        found = await service.find_managed(session, person, base)
        return (await documents.shown(session, found, [row]))[0]


@router.post("/{base}/pages", status_code=201, responses=answers(507))
async def add_knowledge_page(
    base: Base, body: schemas.KnowledgePageAdd, response: Response, parts: Parts, person: Sender
) -> schemas.KnowledgeDocument:
    """Fetch a web page and add it as a document. 200 if this content is there under its name already."""
    async with parts.db.read() as session:
        await find_to_change(session, person, models.KnowledgeBase, base)
    page = await fetch(required(parts.knowledge).pages, body.url, parts.settings.knowledge.max_file_bytes)
    name = body.name or name_of(body.url, page.ending)
    return await _received(parts, person, base, name, page, body.url, response)


@router.post("/{base}/documents/{id}/refresh", responses=answers(507))
async def refresh_knowledge_page(
    base: Base, id: Id, response: Response, parts: Parts, person: Sender
) -> schemas.KnowledgeDocument:
    """Fetch the page of a document again. The document itself if nothing has changed; else 201 and the one that
    replaces it once it can be found itself.
    """
    async with parts.db.read() as session:
        row = await documents.find(session, await find_to_change(session, person, models.KnowledgeBase, base), id)
    if not row.url:
        raise Problem(409, "no_url", f"{row.name!r} was sent as a file: send it again")
    page = await fetch(required(parts.knowledge).pages, row.url, parts.settings.knowledge.max_file_bytes)
    return await _received(parts, person, base, row.name, page, row.url, response)


@router.get("/{base}/documents/{id}")
async def get_knowledge_document(base: Base, id: Id, session: Db, person: Reader) -> schemas.KnowledgeDocument:
    """A document and how far it is."""
    return await _shown(session, person, base, id)


@router.patch("/{base}/documents/{id}")
async def update_knowledge_document(
    base: Base, id: Id, body: schemas.KnowledgeDocumentUpdate, session: Db, person: Writer
) -> schemas.KnowledgeDocument:
    """Change who may read a document, or its metadata: in effect at once."""
    await documents.update(session, person, base, id, body)
    return await _shown(session, person, base, id)


@router.delete("/{base}/documents/{id}", status_code=204)
async def delete_knowledge_document(base: Base, id: Id, session: Db, person: Writer) -> None:
    """Forget a document: nothing of it is found from now on."""
    await documents.remove(session, person, base, id)


@router.post("/{base}/documents/{id}/retry")
async def retry_knowledge_document(
    base: Base, id: Id, session: Db, parts: Parts, person: Writer
) -> schemas.KnowledgeDocument:
    """Try a document that has failed again."""
    await service.find_managed(session, person, base)
    await documents.retry(session, person, required(parts.knowledge).files, base, id)
    return await _shown(session, person, base, id)


@router.get("/{base}/documents/{id}/download", response_class=StreamingResponse, responses=a_file())
async def download_knowledge_document(
    base: Base, id: Id, session: Db, parts: Parts, person: Reader
) -> StreamingResponse:
    """The file, as it was sent."""
    row = await documents.find(session, await service.find_managed(session, person, base), id)
    path = documents.source(required(parts.knowledge).files, row.id)
    return StreamingResponse(reading(path), media_type="application/octet-stream")


@router.get("/{base}/documents/{id}/chunks")
async def list_knowledge_chunks(
    base: Base, id: Id, session: Db, person: Reader, paging: Paging
) -> Page[schemas.KnowledgeChunk]:
    """The chunks of a document in the newest index, in order; none before it is ready."""
    found = await service.find_managed(session, person, base)
    row, index = await documents.find(session, found, id), await indexes.newest_of(session, found)
    return await paginate(session, documents.chunks_of(index, row), paging, _chunk)


@router.post("/{base}/documents/{id}/preview")
async def preview_knowledge_chunks(
    base: Base, id: Id, body: schemas.Chunking, session: Db, parts: Parts, person: Reader
) -> schemas.KnowledgePreview:
    """How a document that is parsed would be cut: the first 200 chunks. Nothing is changed."""
    found = await service.find_managed(session, person, base)
    row, index = await documents.find(session, found, id), await indexes.newest_of(session, found)
    engine = required(parts.knowledge)
    embedder = await engine.embedder(session, index)
    blocks = await documents.blocks_of(engine.files, row)
    chunks = await engine.first(chunking.cut(blocks, body, embedder.count), PREVIEWED)
    return schemas.KnowledgePreview(chunks=[_chunk(one) for one in chunks])


@router.post("/{base}/search")
async def search_knowledge_base(
    base: Base, body: schemas.KnowledgeSearch, parts: Parts, person: Searcher
) -> schemas.KnowledgeFound:
    """Passages for a query, exactly as the gateway would get them: as yourself, or with the eyes of a key
    that you may change."""
    engine = required(parts.knowledge)
    async with parts.db.read() as session:
        if body.as_key is not None:
            key = await keys.find_to_change(session, person, body.as_key)
            caller = await access.of_key(session, key.public_name) or access.NOBODY
        else:
            caller = await access.of_person(session, person)
        if body.retrieval is not None:
            row = await find_to_change(session, person, models.KnowledgeBase, base)
            await service.check_rerank(session, person, body.retrieval, row)
        query = access.Query(body.query, caller, body.limits, body.filter, how=body.retrieval)
        plan = await engine.retriever.plan(session, [base], query)
    reply = await engine.retriever.search(plan)
    return schemas.KnowledgeFound.model_validate(reply, from_attributes=True)


async def _base(
    session: AsyncSession, parts: Control, person: Person, base: models.KnowledgeBase
) -> schemas.KnowledgeBase:
    return (await service.shown(session, person, [base], lite=_on_lite(parts)))[0]


def _on_lite(parts: Control) -> bool:
    return parts.knowledge is not None and parts.knowledge.lite


async def _received(
    parts: Control, person: Person, base: str, name: str, page: Fetched, url: str, response: Response
) -> schemas.KnowledgeDocument:
    """A page as a document, whose name says what it is."""
    if TYPES_OF.get(name.rpartition(".")[2].lower()) != page.ending:
        said = f"the page is {page.ending}, and {name!r} does not end so: it would not be read as what it is"
        raise Problem(422, "wrong_type", said)
    files, most = required(parts.knowledge).files, parts.settings.knowledge.max_file_bytes
    row, new = await documents.receive(parts.db, files, person, base, name, page.pieces(), most, url)
    response.status_code = 201 if new else 200
    async with parts.db.read() as session:
        return await _shown(session, person, base, row.id)


async def _shown(session: AsyncSession, person: Person, base: str, id: str) -> schemas.KnowledgeDocument:
    found = await service.find_managed(session, person, base)
    return (await documents.shown(session, found, [await documents.find(session, found, id)]))[0]


def _chunk(one: models.KnowledgeChunk | chunking.Chunk) -> schemas.KnowledgeChunk:
    return schemas.KnowledgeChunk.model_validate(one, from_attributes=True)
