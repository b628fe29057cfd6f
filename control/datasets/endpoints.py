"""`/api/v1/datasets`: rows to learn from, in versions that never change."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control import models
from control.datasets import build, counting, rows, schemas, service
from control.deps import Db, Parts, allow, allow_long
from control.errors import Problem, answers
from control.kit.audit import note
from control.kit.files import BYTES, a_file, reading
from control.kit.ownership import find, find_to_change
from control.kit.pages import Page, Paging, Search, paginate
from control.kit.permissions import Person

router = APIRouter(prefix="/datasets", tags=["datasets"])
Reader = Annotated[Person, Depends(allow("training:list"))]
Writer = Annotated[Person, Depends(allow("training:own"))]
Sender = Annotated[Person, Depends(allow_long("training:own"))]
BodyReader = Annotated[Person, Depends(allow("requests:bodies"))]
Number = Annotated[int, Path(ge=1, le=2_000_000_000)]
Offset = Annotated[int, Query(ge=0, le=2_000_000_000)]
Limit = Annotated[int, Query(ge=1, le=200)]


@router.get("")
async def list_datasets(session: Db, person: Reader, paging: Paging, search: Search = None) -> Page[schemas.Dataset]:
    """Datasets by name: all with `training:read`, yours and your teams' without."""
    page = await paginate(session, await service.listed(session, person, search), paging, lambda row: row)
    items = await service.shown(session, person, page.items)
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("", status_code=201)
async def create_dataset(body: schemas.DatasetCreate, session: Db, person: Writer) -> schemas.Dataset:
    """A new dataset, still without rows."""
    return (await service.shown(session, person, [await service.create(session, person, body)]))[0]


@router.get("/{name}")
async def get_dataset(name: str, session: Db, person: Reader) -> schemas.DatasetDetail:
    """A dataset with its versions, and the adapters that have learned from it."""
    return await _detail(session, person, await find(session, person, models.Dataset, name))


@router.patch("/{name}")
async def update_dataset(name: str, body: schemas.DatasetUpdate, session: Db, person: Writer) -> schemas.Dataset:
    """Change a dataset."""
    return (await service.shown(session, person, [await service.update(session, person, name, body)]))[0]


@router.delete("/{name}", status_code=204)
async def delete_dataset(name: str, session: Db, parts: Parts, person: Writer) -> None:
    """Forget a dataset with all its rows, for good. Adapters that learned from it keep its name, numbers and hashes."""
    for folder in await service.remove(session, person, parts.files, name):
        await asyncio.to_thread(parts.files.remove, folder)


@router.post("/{name}/versions", status_code=201)
async def create_dataset_version(
    name: str, body: schemas.DatasetVersionCreate, session: Db, person: Writer
) -> schemas.DatasetVersion:
    """Begin a version from a file: send its content, then have it checked."""
    row = await find_to_change(session, person, models.Dataset, name)
    version = await service.begin(session, person, row, "upload", body.filename, asked_format=body.format)
    return service.version_shown(version)


@router.put(
    "/{name}/versions/{number}/content",
    responses=answers(507),
    openapi_extra=BYTES,
)  # fmt: skip
async def put_dataset_content(
    name: str, number: Number, request: Request, parts: Parts, person: Sender, offset: Offset = 0
) -> schemas.DatasetSize:
    """A piece of the file, of any size, from `offset` on. After a break, go on from the version's `size`."""
    most = parts.settings.training.max_dataset_bytes
    size = await service.receive(parts.db, parts.files, person, name, number, offset, request.stream(), most)
    return schemas.DatasetSize(size=size)


@router.post("/{name}/versions/{number}/check")
async def check_dataset_version(
    name: str, number: Number, body: schemas.DatasetCheck, session: Db, parts: Parts, person: Writer
) -> schemas.DatasetVersion:
    """All is there: every row is checked now. The version becomes `ready` or `rejected` by itself."""
    row = await find_to_change(session, person, models.Dataset, name)
    version = await service.version_of(session, row, number)
    await service.check(session, parts.files, version, body.size)
    return service.version_shown(version)


@router.get("/{name}/versions/{number}")
async def get_dataset_version(name: str, number: Number, session: Db, person: Reader) -> schemas.DatasetVersion:
    """One version with its report."""
    return service.version_shown(await _version(session, person, name, number))


@router.delete("/{name}/versions/{number}", status_code=204)
async def delete_dataset_version(name: str, number: Number, session: Db, parts: Parts, person: Writer) -> None:
    """Give up a version that is not ready."""
    folder = await service.drop_version(session, person, name, number)
    await asyncio.to_thread(parts.files.remove, folder)


@router.get("/{name}/versions/{number}/rows")
async def list_dataset_rows(
    name: str, number: Number, session: Db, parts: Parts, person: Reader, offset: Offset = 0, limit: Limit = 20
) -> schemas.DatasetRows:
    """Accepted rows in the canonical form, and where each came from."""
    version = await _version(session, person, name, number)
    found = await asyncio.to_thread(rows.some, rows.accepted(parts.files, version), offset, limit)
    lines = [int(one.pop(rows.LINE)) for one in found]
    origins = await _origins(session, version, lines)
    items = [
        schemas.DatasetRow(
            line=line, row=one, origin=origins[line].origin if line in origins else "",
            consent=origins[line].consent if line in origins else "",
        )
        for line, one in zip(lines, found, strict=True)
    ]  # fmt: skip
    return schemas.DatasetRows(items=items, total=version.rows)


@router.get("/{name}/versions/{number}/rejected")
async def list_rejected_rows(
    name: str, number: Number, session: Db, parts: Parts, person: Reader, offset: Offset = 0, limit: Limit = 20
) -> schemas.RejectedRows:
    """Rows that were not accepted, with the reason."""
    version = await _version(session, person, name, number)
    found = await asyncio.to_thread(rows.some, rows.rejected(parts.files, version), offset, limit)
    return schemas.RejectedRows(
        items=[schemas.RejectedRow.model_validate(one) for one in found], total=version.report.get("rejected", 0)
    )


@router.get("/{name}/versions/{number}/tokens")
async def list_token_counts(name: str, number: Number, session: Db, person: Reader) -> schemas.TokenCounts:
    """How long the rows are in tokens of base models, as far as that was asked for; the newest first."""
    return schemas.TokenCounts(items=await counting.shown(session, await _version(session, person, name, number)))


@router.post("/{name}/versions/{number}/tokens", status_code=202)
async def count_tokens(
    name: str, number: Number, body: schemas.TokenCountCreate, session: Db, person: Writer
) -> schemas.TokenCount:
    """Have a worker count the rows' tokens with the tokenizer and the chat template of a base model. Asking twice
    counts once, unless it has failed."""
    return await counting.ask(session, person, name, await _version(session, person, name, number), body.base)


@router.get(
    "/{name}/versions/{number}/download",
    response_class=StreamingResponse,
    responses=a_file("application/jsonl") | answers(409),
)
async def download_dataset_version(
    name: str, number: Number, session: Db, parts: Parts, person: Reader
) -> StreamingResponse:
    """The accepted rows as JSON lines."""
    version = await _version(session, person, name, number)
    if version.state != "ready":
        raise Problem(409, "not_ready", f"{name}@{number} is {version.state}")
    headers = {"content-disposition": f'attachment; filename="dataset-{version.id}.jsonl"'}
    return StreamingResponse(
        reading(rows.accepted(parts.files, version)), media_type="application/jsonl", headers=headers
    )


@router.post("/{name}/edits", status_code=201, responses=answers(507))
async def edit_dataset(
    name: str, body: schemas.DatasetEdit, session: Db, parts: Parts, person: Writer
) -> schemas.Edited:
    """A next version without some rows, and with rejected ones repaired. Says which adapters have learned from the
    version that is edited."""
    row = await find_to_change(session, person, models.Dataset, name)
    version = await build.edited(session, parts.files, person, row, body)
    adapters = await service.used_by(session, name, [body.version])
    return schemas.Edited(version=version.number, adapters=adapters, skipped={})


@router.post("/{name}/from-requests", status_code=201, responses=answers(507))
async def build_dataset_from_requests(
    name: str, body: schemas.FromRequests, session: Db, parts: Parts, person: BodyReader
) -> schemas.Edited:
    """A next version from dialogues whose bodies the request log keeps. That you did is in the audit log."""
    row = await find_to_change(session, person, models.Dataset, name)
    version, skipped = await build.from_requests(session, parts.files, parts.vault, person, row, body)
    after = {"since": body.since, "until": body.until, "route": body.route, "key": body.key}
    note(session, person.actor, "read_bodies", "dataset", f"{name}@{version.number}", after=after)
    return schemas.Edited(version=version.number, adapters=[], skipped=skipped)


@router.post("/{name}/from-chats", status_code=201, responses=answers(507))
async def build_dataset_from_chats(
    name: str, body: schemas.FromChats, session: Db, parts: Parts, person: Writer
) -> schemas.Edited:
    """A next version from your own chat sessions."""
    row = await find_to_change(session, person, models.Dataset, name)
    version, skipped = await build.from_chats(session, parts.files, parts.vault, person, row, body)
    return schemas.Edited(version=version.number, adapters=[], skipped=skipped)


@router.post("/{name}/from-votes", status_code=201, responses=answers(507))
async def build_dataset_from_votes(
    name: str, body: schemas.FromVotes, session: Db, parts: Parts, person: Writer
) -> schemas.Edited:
    """A next version from votes on answers side by side: yours, or all with `comparisons:read`."""
    row = await find_to_change(session, person, models.Dataset, name)
    version, skipped = await build.from_votes(session, parts.files, person, row, body)
    return schemas.Edited(version=version.number, adapters=[], skipped=skipped)


async def _version(session: AsyncSession, person: Person, name: str, number: int) -> models.DatasetVersion:
    return await service.version_of(session, await find(session, person, models.Dataset, name), number)


async def _origins(
    session: AsyncSession, version: models.DatasetVersion, lines: list[int]
) -> dict[int, models.DatasetOrigin]:
    table = models.DatasetOrigin
    query = select(table).where(table.version_id == version.id, table.line.in_(lines))
    return {one.line: one for one in await session.scalars(query)}


async def _detail(session: AsyncSession, person: Person, row: models.Dataset) -> schemas.DatasetDetail:
    light: Any = (await service.shown(session, person, [row]))[0].model_dump()
    versions = [service.version_shown(version) for version in await service.versions_of(session, row)]
    return schemas.DatasetDetail(**light, items=versions, adapters=await service.used_by(session, row.name))
