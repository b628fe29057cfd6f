"""`/internal/v1/trainer`: what workers ask for. The contract is `trainer.contract.worker`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import StreamingResponse

from control.adapters.service import file_of
from control.datasets import rows
from control.deps import Control, Db, Parts, service
from control.errors import answers, not_found
from control.jobs import ingest, logs, workers
from control.kit.files import BYTES, a_file, reading
from control.models import AdapterVersion, DatasetVersion, TrainingAttempt
from trainer.contract.worker import EventBatch, Orders, Split, Taken, WorkerStatus

router = APIRouter(prefix="/internal/v1/trainer", tags=["internal"])
ServiceToken = Annotated[tuple[str, str], Depends(service)]
Id = Annotated[str, Path(max_length=36)]


@router.post("/sync")
async def sync_trainer(status: WorkerStatus, session: Db, parts: Parts, token: ServiceToken) -> Orders:
    """The heartbeat of a worker, answered by all that it is to do."""
    return await workers.sync(session, status, parts.settings.training)


@router.post("/attempts/{id}/events", responses=answers(409))
async def post_attempt_events(id: Id, batch: EventBatch, session: Db, token: ServiceToken) -> Taken:
    """Lines of a run, from the number of the first one on. Sending them again changes nothing."""
    return await ingest.take(session, id, batch)


@router.post("/attempts/{id}/log", responses=answers(409, 507), openapi_extra=BYTES)
async def post_attempt_log(
    id: Id, request: Request, parts: Parts, token: ServiceToken, offset: Annotated[int, Query(ge=0, le=2**40)] = 0
) -> Taken:
    """More of the log of a run, from an offset on."""
    attempt = await _live(parts, id)
    size = await parts.files.append(logs.path(parts.files, attempt), offset, request.stream(), logs.MOST)
    async with parts.db.write() as session:
        (await ingest.live(session, id)).log_bytes = size
    return Taken(next=size)


@router.get("/data/{version}/{split}", response_class=StreamingResponse, responses=a_file("application/jsonl"))
async def get_training_data(version: Id, split: Split, parts: Parts, token: ServiceToken) -> StreamingResponse:
    """The rows of a dataset version, whichever of a job's it is."""
    async with parts.db.read() as session:
        row = await session.get(DatasetVersion, version)
    if row is None or row.state != "ready":
        raise not_found("dataset version", version)
    path = rows.accepted(parts.files, row)
    if not path.exists():
        raise not_found("file of the dataset version", version)
    return StreamingResponse(reading(path), media_type="application/jsonl")


@router.put("/attempts/{id}/files/{path:path}", status_code=204, responses=answers(409, 507), openapi_extra=BYTES)
async def put_attempt_file(
    id: Id,
    path: Annotated[str, Path(max_length=500)],
    request: Request,
    parts: Parts,
    token: ServiceToken,
    x_sha256: Annotated[str, Header(pattern="^[0-9a-f]{64}$")],
) -> None:
    """A file of what came out of a run. It counts only if its hash is the one that the header says."""
    attempt = await _live(parts, id)
    there = sum(one["size"] for name, one in attempt.files.items() if name != path)
    most = parts.settings.training.max_adapter_bytes - there
    target = parts.files.path("attempts", id, path)
    stored = await parts.files.write(target, request.stream(), most, x_sha256)
    async with parts.db.write() as session:
        held = await ingest.live(session, id)
        held.files = {**held.files, path: {"sha256": stored.sha256, "size": stored.size}}


@router.get("/adapters/{id}/files/{path:path}", response_class=StreamingResponse, responses=a_file())
async def get_adapter_file(
    id: Id, path: Annotated[str, Path(max_length=500)], parts: Parts, token: ServiceToken
) -> StreamingResponse:
    """A file of an adapter version."""
    async with parts.db.read() as session:
        version = await session.get(AdapterVersion, id)
    if version is None:
        raise not_found("adapter version", id)
    return StreamingResponse(reading(file_of(parts.files, version, path)), media_type="application/octet-stream")


async def _live(parts: Control, id: str) -> TrainingAttempt:
    async with parts.db.read() as session:
        return await ingest.live(session, id)
