"""Chat on every database: the console key is made once however many ask, sessions hold what texts can hold."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import delete, func, select

from control.chat import service
from control.chat.schemas import ChatSession, ChatSessionCreate, ChatSessionPut
from control.db import Database
from control.errors import Problem
from control.kit.permissions import Person
from control.migrations.run import migrate
from control.models import ApiKey, ChatSession as Row, User
from control.security import Vault

VAULT = Vault(b"k" * 32)


def document(title: str = "t", content: str = "Grüße 你好 🚀 100% a_b\0") -> ChatSessionCreate:
    return ChatSessionCreate.model_validate({"title": title, "messages": [{"role": "user", "content": content}]})


def test_keys_and_sessions_on_this_database(database_url: str) -> None:
    async def main() -> None:
        db = Database(database_url)
        try:
            await migrate(db.engine)
            async with db.write() as session:
                user = User(username="alice", role="member")
                session.add(user)
                await session.flush()
                alice = Person(user.id, "alice", "member", "")

            async def token() -> str:
                async with db.write() as session:
                    return (await service.token_for(session, alice, VAULT))[1]

            assert set(await asyncio.gather(*(token() for _ in range(6)))) == {"console@alice"}
            async with db.read() as session:
                assert await session.scalar(select(func.count(ApiKey.seq))) == 1

            large = document("large", "字" * 600_000)
            async with db.write() as session:
                first = await service.create(session, alice, document())
                second = await service.create(session, alice, large)
            async with db.read() as session:
                found = ChatSession.model_validate(await service.find(session, alice, first.id), from_attributes=True)
                assert found.messages == list(document().messages)
                kept = await service.find(session, alice, second.id)
                assert kept.messages[0]["content"] == large.messages[0].content
                for search, ids in (("GRÜSS", []), ("grüße", [first.id]), ("100% A_", [first.id]), ("a%b", [])):
                    rows = (await session.scalars(service.listed(alice, search))).all()
                    assert [row.id for row in rows] == ids, search

            async def replace(title: str) -> str:
                put = ChatSessionPut(title=title, row_version=1)
                try:
                    async with db.write() as session:
                        return (await service.replace(session, alice, first.id, put)).title
                except Problem as problem:
                    return problem.code

            results = await asyncio.gather(*(replace(f"t{n}") for n in range(4)))
            assert sorted(results)[:3] == ["stale_version"] * 3
            async with db.write() as session:
                await session.execute(delete(User).where(User.username == "alice"))
            async with db.read() as session:
                assert await session.scalar(select(func.count(Row.id))) == 0
        finally:
            await db.close()

    asyncio.run(main())


def test_a_key_of_a_vault_is_no_key_of_another() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        VAULT.session_token("00", 1)
