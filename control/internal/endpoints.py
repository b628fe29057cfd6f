"""`/internal/v1`: what gateways ask for. The contract is `gateway.contract.internal`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from control.deps import Db, Parts, service, service_read
from control.errors import Problem, answers
from control.gateways import service as gateways
from control.knowledge import access
from control.knowledge.engine import required
from control.knowledge.readable import readable
from control.usage import bodies, ingest
from control.usage.spend import spend_after
from gateway.contract.internal import (
    BodyAck,
    BodyBatch,
    GatewayStatus,
    KeyPage,
    SnapshotHead,
    Spend,
    UsageAck,
    UsageBatch,
)
from gateway.contract.retrieval import BasesReply, BasesRequest, RetrievalReply, RetrievalRequest

router = APIRouter(prefix="/internal/v1", tags=["internal"])
ServiceToken = Annotated[tuple[str, str], Depends(service)]
ServiceRead = Annotated[AsyncSession, Depends(service_read)]


@router.get("/snapshot", response_model=SnapshotHead, responses={304: {"description": "Nothing has changed"}})
async def get_snapshot(
    parts: Parts,
    token: ServiceToken,
    wait: Annotated[float, Query(ge=0, le=60)] = 0.0,
    if_none_match: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """The configuration without keys; with `If-None-Match`, waits up to `wait` seconds for a change."""
    rendered = await parts.publisher.get(if_none_match, wait)
    if rendered is None and if_none_match is None:
        raise Problem(503, "no_snapshot", "the database has not answered yet: try again", retry_after=1)
    if rendered is None:
        return Response(status_code=304, headers={"etag": if_none_match or ""})
    return Response(rendered.head_for(token[1]), media_type="application/json", headers={"etag": rendered.etag})


@router.get("/snapshot/keys/{digest}", response_model=KeyPage)
async def get_key_page(
    parts: Parts, token: ServiceToken, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
) -> Response:
    """The page of keys whose SHA-256 this is; 404 when it has changed meanwhile."""
    page = parts.publisher.page(digest)
    if page is None:
        raise Problem(404, "page_gone", "this page has changed: take the head again")
    return Response(page, media_type="application/json")


@router.post("/usage")
async def post_usage(batch: UsageBatch, session: Db, parts: Parts, token: ServiceToken) -> UsageAck:
    """Store a batch of usage events. Sending it again changes nothing."""
    ack = await ingest.store(session, batch)
    parts.metrics.ledger(ack)
    return ack


@router.post("/request-log")
async def post_request_log(batch: BodyBatch, session: Db, parts: Parts, token: ServiceToken) -> BodyAck:
    """Store bodies of requests. Sending them again changes nothing."""
    return await bodies.store(session, parts.vault, batch)


@router.post("/status", status_code=204)
async def post_status(status: GatewayStatus, session: Db, token: ServiceToken) -> None:
    """Keep what a gateway tells of itself in place of its last report."""
    await gateways.store(session, status)


@router.get("/spend")
async def get_spend(session: Db, token: ServiceToken, after: Annotated[int, Query(ge=0, le=2**62)] = 0) -> Spend:
    """What budgets have been spent, of the scopes whose ledger has grown after a cursor."""
    return await spend_after(session, after)


@router.post("/knowledge")
async def post_knowledge(body: BasesRequest, session: ServiceRead) -> BasesReply:
    """Knowledge bases that a caller may read, whom the gateway has authenticated."""
    caller = await access.of_principal(session, body.principal)
    return BasesReply(bases=tuple(await readable(session, caller, body.names)))


@router.post("/retrieval", responses=answers(404))
async def post_retrieval(body: RetrievalRequest, parts: Parts, session: ServiceRead) -> RetrievalReply:
    """Passages for a query: those that the caller may see, whom the gateway has authenticated."""
    with parts.metrics.searching() as found:
        engine = required(parts.knowledge)
        caller = await access.of_principal(session, body.principal)
        query = access.Query(body.query, caller, body.limits, body.filter, trial=body.trial)
        plan = await engine.retriever.plan(session, body.bases, query)
        await session.close()
        reply = await engine.retriever.search(plan)
        found.extend(reply.passages)
    return reply
