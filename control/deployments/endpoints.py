"""`/api/v1/adapters`: trained weights, and where they are served."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import FileResponse, StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from control import models
from control.adapters import schemas, service, shown
from control.deployments import gated, gates, rollout, service as deployments
from control.deps import Db, Parts, allow, allow_long
from control.errors import Problem, answers
from control.kit.audit import note
from control.kit.files import BYTES, a_file
from control.kit.ownership import find, find_to_change
from control.kit.pages import Page, Paging, Search, paginate
from control.kit.permissions import Person

router = APIRouter(prefix="/adapters", tags=["adapters"])
Reader = Annotated[Person, Depends(allow("training:list"))]
Writer = Annotated[Person, Depends(allow("training:own"))]
Sender = Annotated[Person, Depends(allow_long("training:own"))]
Number = Annotated[int, Path(ge=1, le=2_000_000_000)]
FilePath = Annotated[str, Path(max_length=500)]


@router.get("")
async def list_adapters(session: Db, person: Reader, paging: Paging, search: Search = None) -> Page[schemas.Adapter]:
    """Adapters by name: all with `training:read`, yours and your teams' without."""
    page = await paginate(session, await service.listed(session, person, search), paging, lambda row: row)
    items = await shown.listed(session, person, page.items)
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("", status_code=201)
async def create_adapter(body: schemas.AdapterCreate, session: Db, person: Writer) -> schemas.Adapter:
    """A new adapter, for versions that were trained elsewhere. A job makes its adapter by itself."""
    return (await shown.listed(session, person, [await service.create(session, person, body)]))[0]


@router.get("/{name}")
async def get_adapter(name: str, session: Db, person: Reader) -> schemas.AdapterDetail:
    """An adapter with its versions, and where each is."""
    return await shown.detail(session, person, await find(session, person, models.Adapter, name))


@router.patch("/{name}")
async def update_adapter(name: str, body: schemas.AdapterUpdate, session: Db, person: Writer) -> schemas.AdapterDetail:
    """Change an adapter."""
    row = await service.update(session, person, name, body)
    if "gate" in body.model_fields_set:
        await gates.set_own(session, person, row, body.gate)
    return await shown.detail(session, person, row)


@router.post("/{name}/versions", status_code=201)
async def create_adapter_version(
    name: str, body: schemas.AdapterVersionCreate, session: Db, person: Writer
) -> schemas.AdapterDetail:
    """Begin a version from a PEFT folder: send its files, then complete it."""
    await service.begin_upload(session, person, name, body)
    return await _detail(session, person, name)


@router.put(
    "/{name}/versions/{number}/files/{path:path}",
    status_code=204,
    responses=answers(507),
    openapi_extra=BYTES,
)
async def put_adapter_file(
    name: str, number: Number, path: FilePath, request: Request, parts: Parts, person: Sender
) -> None:
    """A file of a version that waits for its files."""
    service.file_name(path)
    async with parts.db.read() as session:
        version = await service.version_of(session, await find_to_change(session, person, models.Adapter, name), number)
    most = parts.settings.training.max_adapter_bytes
    most -= sum(one["size"] for other, one in version.files.items() if other != path)
    if version.state != "uploading":
        raise Problem(409, "immutable", f"{name}@v{number} is {version.state}: its files are not changed any more")
    stored = await parts.files.write(parts.files.path(version.folder, path), request.stream(), most)
    async with parts.db.write() as session:
        held = await session.get(models.AdapterVersion, version.id, with_for_update=True)
        if held is None or held.state != "uploading":
            raise Problem(409, "immutable", f"{name}@v{number} was completed meanwhile")
        held.files = {**held.files, path: {"sha256": stored.sha256, "size": stored.size}}


@router.post("/{name}/versions/{number}/complete")
async def complete_adapter_version(
    name: str, number: Number, session: Db, parts: Parts, person: Writer
) -> schemas.AdapterDetail:
    """All files are there: they are checked, and never change from then on."""
    adapter = await find_to_change(session, person, models.Adapter, name)
    version = await service.version_of(session, adapter, number)
    await asyncio.to_thread(service.complete, parts.files, version, parts.settings.training.max_lora_rank)
    await session.flush()
    facts = {"files": {path: one["sha256"] for path, one in version.files.items()}}
    note(session, person.actor, "register", "adapter", f"{name}@v{number}", after=facts)
    return await shown.detail(session, person, adapter)


@router.get("/{name}/versions/{number}/files/{path:path}", response_class=FileResponse, responses=a_file())
async def get_adapter_file_of(
    name: str, number: Number, path: FilePath, session: Db, parts: Parts, person: Reader
) -> FileResponse:
    """A file of a version."""
    version = await service.version_of(session, await find(session, person, models.Adapter, name), number)
    target = service.file_of(parts.files, version, path)
    return FileResponse(target, media_type="application/octet-stream", filename=target.name)


@router.get(
    "/{name}/versions/{number}/archive", response_class=StreamingResponse, responses=a_file("application/x-tar")
)
async def download_adapter_version(
    name: str, number: Number, session: Db, parts: Parts, person: Reader
) -> StreamingResponse:
    """All files of a version as a tar archive: a PEFT folder."""
    version = await service.version_of(session, await find(session, person, models.Adapter, name), number)
    headers = {"content-disposition": f'attachment; filename="adapter-{version.id}.tar"'}
    return StreamingResponse(
        service.archive(parts.files, name, version), media_type="application/x-tar", headers=headers
    )


@router.post("/{name}/versions/{number}/deploy")
async def deploy_adapter(
    name: str, number: Number, body: schemas.Deploy, session: Db, person: Writer
) -> schemas.AdapterDetail:
    """Put a version onto engines. It gets its route `name@vN` once all of them have it and its answers are what they
    were after training; with a `share`, the adapter's name leads to it, too."""
    wanted = None if body.engines is None else [(one.worker, one.engine) for one in body.engines]
    await deployments.deploy(session, person, name, number, wanted, body.share, body.price, body.gate)
    return await _detail(session, person, name)


@router.post("/{name}/versions/{number}/promote")
async def promote_adapter(
    name: str, number: Number, body: schemas.Promote, session: Db, person: Writer
) -> schemas.AdapterDetail:
    """Let a live version answer a share of the requests to the adapter's name; where there is a gate, once it has
    passed."""
    await gated.promote(session, person, name, number, body)
    return await _detail(session, person, name)


@router.post("/{name}/versions/{number}/rollout")
async def roll_adapter_out(
    name: str, number: Number, body: schemas.RollOut, session: Db, person: Writer
) -> schemas.AdapterDetail:
    """Let a live version take over the adapter's name step by step, or go, by what the ledger says about it; where
    there is a gate, once it has passed."""
    await gated.roll_out(session, person, name, number, body)
    await session.flush()
    return await _detail(session, person, name)


@router.post("/{name}/rollout/stop")
async def stop_rollout(name: str, session: Db, person: Writer) -> schemas.AdapterDetail:
    """End the rollout where it is; the version keeps its share."""
    await rollout.stop(session, person, name)
    return await _detail(session, person, name)


@router.post("/{name}/gate/stop")
async def stop_gate(name: str, session: Db, person: Writer) -> schemas.AdapterDetail:
    """Ask no further, and publish nothing that waits for it."""
    await gates.stop(session, person, name)
    await session.flush()
    return await _detail(session, person, name)


@router.post("/{name}/rollback")
async def roll_adapter_back(name: str, session: Db, person: Writer) -> schemas.AdapterDetail:
    """Let the adapter's name lead where it led before its last change."""
    await deployments.roll_back(session, person, name)
    return await _detail(session, person, name)


@router.post("/{name}/versions/{number}/retire")
async def retire_adapter(name: str, number: Number, session: Db, person: Writer) -> schemas.AdapterDetail:
    """Take a version from all engines: its route goes at once, its weights some seconds later."""
    await deployments.retire(session, person, name, number)
    return await _detail(session, person, name)


async def _detail(session: AsyncSession, person: Person, name: str) -> schemas.AdapterDetail:
    return await shown.detail(session, person, await find(session, person, models.Adapter, name))
