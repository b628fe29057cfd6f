"""The chat: people's own saved sessions, and the token with which their browser calls the gateway.

Titles and what is written are sealed: a search opens the person's sessions one after another.

The token stands for an ordinary key of the person's own, named `console`: it is in the list of keys, and whoever may
change that key limits, disables or revokes the chat with it. Its secret is thrown away when it is made.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only
from sqlalchemy.sql import Select

from control.chat.schemas import ChatSession as Opened, ChatSessionCreate, ChatSessionPut, ChatSessionSummary
from control.db import lock
from control.errors import Problem, not_found, stale
from control.keys import service as keys
from control.keys.schemas import ApiKeyCreate
from control.kit.permissions import Person
from control.models import ApiKey, ChatSession
from control.models.base import new_id, now
from control.security import Sealed, Vault

TOKEN_SECONDS = 900
KEY_NAME = "console"
MESSAGES_BYTES = 2_000_000
"""Most JSON that the messages of one session may be."""
SESSIONS = 1000
"""Most sessions that one person may keep."""
SEARCHED = 64_000_000
"""Most sealed text that one search opens, the last changed sessions first; it takes about a second."""
OPENED_AT_ONCE = 20
"""Sessions that are in memory while one searches."""
UNREADABLE = "(sealed under a key that is not here)"
"""In lists, for the title of a session that does not open."""


async def token_for(session: AsyncSession, person: Person, vault: Vault) -> tuple[str, str]:
    """A session token for the person's console key, made if it is not there, and the key's public name.

    Raises:
        Problem: 403 `console_key` when that key was revoked, disabled or has expired.
    """
    key = await _console_key(session, person)
    state = "was revoked" if key.revoked_at is not None else "is disabled" if not key.enabled else ""
    if key.expires_at is not None and key.expires_at <= now():
        state = state or "has expired"
    if state:
        raise Problem(403, "console_key", f"your key for the chat, {key.public_name!r}, {state}: ask an administrator")
    return vault.session_token(key.digest, int(time.time()) + TOKEN_SECONDS), key.public_name


async def _console_key(session: AsyncSession, person: Person) -> ApiKey:
    query = select(ApiKey).where(ApiKey.public_name == f"{KEY_NAME}@{person.username}")
    key = await session.scalar(query)
    if key is None:
        await lock(session, "config")  # two tabs ask at once: the second one waits, and finds what the first has made
        key = await session.scalar(query)
    if key is None:
        body = ApiKeyCreate(name=KEY_NAME, note="For the chat in the console; nobody has its secret.")
        key, _ = await keys.create(session, person, body)
    return key


async def listed(session: AsyncSession, person: Person, vault: Vault, search: str | None) -> Select[Any]:
    """Query of the person's own sessions, the last changed first, without what is in them."""
    light = load_only(
        ChatSession.id, ChatSession.sealed_title, ChatSession.wrapped_key, ChatSession.kek_id, ChatSession.turns,
        ChatSession.created_at, ChatSession.updated_at, ChatSession.row_version, raiseload=True,
    )  # fmt: skip
    query = select(ChatSession).options(light).where(ChatSession.user_id == person.id)
    if search:
        found = {*await _titled(session, person, vault, search), *await _saying(session, person, vault, search)}
        query = query.where(ChatSession.id.in_(found))
    return query.order_by(ChatSession.updated_at.desc(), ChatSession.id.desc())


async def _titled(session: AsyncSession, person: Person, vault: Vault, search: str) -> list[str]:
    """Ids of the person's sessions with the text in the title; all titles are read."""
    columns = select(ChatSession.id, ChatSession.sealed_title, ChatSession.wrapped_key, ChatSession.kek_id)
    rows = (await session.execute(columns.where(ChatSession.user_id == person.id))).all()
    return await asyncio.to_thread(_among, vault, rows, search.lower(), _title_says)


async def _saying(session: AsyncSession, person: Person, vault: Vault, search: str) -> list[str]:
    """Ids of the person's sessions in which the text was written; `SEARCHED` of them are looked through."""
    sizes = select(ChatSession.id, func.length(ChatSession.sealed)).where(ChatSession.user_id == person.id)
    ids, left = [], SEARCHED
    for identity, size in await session.execute(sizes.order_by(ChatSession.updated_at.desc(), ChatSession.id.desc())):
        left -= size
        if left < 0:
            break
        ids.append(identity)
    found: list[str] = []
    text = search.lower()
    for start in range(0, len(ids), OPENED_AT_ONCE):
        columns = select(ChatSession.id, ChatSession.sealed, ChatSession.wrapped_key, ChatSession.kek_id)
        some = ids[start : start + OPENED_AT_ONCE]
        rows = (await session.execute(columns.where(ChatSession.id.in_(some)))).all()
        found += await asyncio.to_thread(_among, vault, rows, text, _messages_say)
    return found


def _among(vault: Vault, rows: Iterable[Any], text: str, says: Callable[[str, str], bool]) -> list[str]:
    found = []
    for identity, *sealed in rows:
        try:
            plain = vault.open(Sealed(*sealed), identity)
        except ValueError:
            continue  # sealed by a key that is not here: whoever opens it is told
        if says(plain, text):
            found.append(identity)
    return found


def _title_says(title: str, text: str) -> bool:
    return text in title.lower()


def _messages_say(document: str, text: str) -> bool:
    _, messages = json.loads(document)
    said = (message.get(name, "") for message in messages for name in ("content", "reasoning"))
    return any(text in one.lower() for one in said)


def summary(vault: Vault, row: ChatSession) -> ChatSessionSummary:
    """A session in a list."""
    try:
        title = vault.open(Sealed(row.sealed_title, row.wrapped_key, row.kek_id), row.id)
    except ValueError:
        title = UNREADABLE
    return ChatSessionSummary(
        id=row.id, title=title, turns=row.turns, created_at=row.created_at, updated_at=row.updated_at,
        row_version=row.row_version,
    )  # fmt: skip


def opened(vault: Vault, row: ChatSession) -> Opened:
    """A session with everything in it."""
    try:
        settings, messages = json.loads(vault.open(Sealed(row.sealed, row.wrapped_key, row.kek_id), row.id))
    except ValueError as exc:
        detail = f"the chat session {row.id} does not open with this key-encryption key"
        raise Problem(409, "chat_unreadable", detail) from exc
    return Opened.model_validate({**summary(vault, row).model_dump(), "settings": settings, "messages": messages})


async def find(session: AsyncSession, person: Person, id: str, *, to_change: bool = False) -> ChatSession:
    """A session of the person's own."""
    query = select(ChatSession).where(ChatSession.id == id, ChatSession.user_id == person.id)
    row = await session.scalar(query.with_for_update() if to_change else query)
    if row is None:
        raise not_found("chat session", id)
    return row


async def create(session: AsyncSession, person: Person, vault: Vault, body: ChatSessionCreate) -> ChatSession:
    """Keep a new session."""
    count = await session.scalar(select(func.count(ChatSession.id)).where(ChatSession.user_id == person.id))
    if (count or 0) >= SESSIONS:
        raise Problem(409, "too_many", f"you keep {SESSIONS} chat sessions already: delete some first")
    moment = now()
    row = ChatSession(id=new_id(), user_id=person.id, row_version=1, created_at=moment, updated_at=moment)
    _fill(row, vault, body)
    session.add(row)
    await session.flush()
    return row


async def replace(session: AsyncSession, person: Person, vault: Vault, id: str, body: ChatSessionPut) -> ChatSession:
    """Write a session as a whole."""
    row = await find(session, person, id, to_change=True)
    if row.row_version != body.row_version:
        raise stale("chat session")
    _fill(row, vault, body)
    row.row_version += 1
    row.updated_at = now()
    await session.flush()
    return row


async def delete(session: AsyncSession, person: Person, id: str) -> None:
    """Forget a session for good."""
    await session.delete(await find(session, person, id, to_change=True))


def _fill(row: ChatSession, vault: Vault, body: ChatSessionCreate) -> None:
    messages = [message.model_dump(mode="json", exclude_defaults=True) for message in body.messages]
    size = len(json.dumps(messages, ensure_ascii=False).encode())
    if size > MESSAGES_BYTES:
        text = f"the messages are {size} bytes of JSON, {MESSAGES_BYTES} is the most: go on in a new session"
        raise Problem(413, "too_large", text)
    settings = body.settings.model_dump(mode="json", exclude_defaults=True)
    sealed = vault.seal(json.dumps([settings, messages], ensure_ascii=False), row.id)
    row.sealed_title, row.turns = vault.seal_beside(sealed, body.title, row.id), len(messages)
    row.sealed, row.wrapped_key, row.kek_id = sealed.sealed, sealed.wrapped_key, sealed.kek_id
