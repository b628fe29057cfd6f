"""`/api/v1/chat`: one's own saved chat sessions, and the token with which the console's pages call the gateway."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from control.chat import service
from control.chat.schemas import ChatSession, ChatSessionCreate, ChatSessionPut, ChatSessionSummary, ChatToken
from control.deps import Db, Parts, allow
from control.kit.pages import Page, Paging, paginate
from control.kit.permissions import Person

router = APIRouter(prefix="/chat", tags=["chat"])
User = Annotated[Person, Depends(allow("keys:own"))]
Id = Annotated[str, Path(max_length=36)]
Search = Annotated[str | None, Query(max_length=200, description="Part of a title, or of what was written.")]


@router.post("/token")
async def create_chat_token(session: Db, parts: Parts, person: User) -> ChatToken:
    """A token for the gateway that is good for 15 minutes. The first one makes your key `console`."""
    token, key = await service.token_for(session, person, parts.vault)
    gateway_url = parts.settings.console.gateway_url
    return ChatToken(token=token, expires_in=service.TOKEN_SECONDS, gateway_url=gateway_url, key=key)


@router.get("/sessions")
async def list_chat_sessions(
    session: Db, parts: Parts, person: User, paging: Paging, search: Search = None
) -> Page[ChatSessionSummary]:
    """Your sessions, the last changed first. A search reads all titles, and about 48 MB of what was written last."""
    query = await service.listed(session, person, parts.vault, search)
    return await paginate(session, query, paging, lambda row: service.summary(parts.vault, row))


@router.post("/sessions", status_code=201)
async def create_chat_session(body: ChatSessionCreate, session: Db, parts: Parts, person: User) -> ChatSession:
    """Keep a new session, sealed."""
    return service.opened(parts.vault, await service.create(session, person, parts.vault, body))


@router.get("/sessions/{id}")
async def get_chat_session(id: Id, session: Db, parts: Parts, person: User) -> ChatSession:
    """A session with its messages."""
    return service.opened(parts.vault, await service.find(session, person, id))


@router.put("/sessions/{id}")
async def put_chat_session(id: Id, body: ChatSessionPut, session: Db, parts: Parts, person: User) -> ChatSessionSummary:
    """Write a session as a whole; 409 if it was written meanwhile."""
    row = await service.replace(session, person, parts.vault, id, body)
    return service.summary(parts.vault, row)


@router.delete("/sessions/{id}", status_code=204)
async def delete_chat_session(id: Id, session: Db, person: User) -> None:
    """Forget a session for good."""
    await service.delete(session, person, id)
