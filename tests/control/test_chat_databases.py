"""Chat on every database: the console key is made once however many ask, sessions hold what texts can hold."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import delete, func, select, text

from control import rewrap as rewrapping
from control.chat import service
from control.chat.schemas import ChatSessionCreate, ChatSessionPut
from control.db import Database
from control.errors import Problem
from control.kit.permissions import Person
from control.migrations.run import migrate
from control.models import ApiKey, ChatSession as Row, User
from control.rewrap import rewrap
from control.security import Sealed, Vault
from tests.control.test_ledger import run

VAULT, OTHER = Vault(b"k" * 32), Vault(b"o" * 32)
BOTH = Vault(b"o" * 32, b"k" * 32)
"""Seals under the key of `OTHER`, and opens what `VAULT` has sealed."""


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
                first = await service.create(session, alice, VAULT, document())
                second = await service.create(session, alice, VAULT, large)
            async with db.read() as session:
                found = service.opened(VAULT, await service.find(session, alice, first.id))
                assert found.messages == list(document().messages)
                kept = service.opened(VAULT, await service.find(session, alice, second.id))
                assert kept.messages == list(large.messages)
                rows = (await session.execute(text("SELECT * FROM chat_session"))).all()
                assert "Grüße" not in str(rows), "what was written is nowhere in clear"
                assert "large" not in str(rows), "nor is a title"
                for search, ids in (("GRÜSS", []), ("grüße", [first.id]), ("100% A_", [first.id]), ("a%b", [])):
                    rows = (await session.scalars(await service.listed(session, alice, VAULT, search))).all()
                    assert [row.id for row in rows] == ids, search

            async def replace(title: str) -> str:
                put = ChatSessionPut(title=title, row_version=1)
                try:
                    async with db.write() as session:
                        return service.summary(VAULT, await service.replace(session, alice, VAULT, first.id, put)).title
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


async def person(db: Database, name: str) -> Person:
    async with db.write() as session:
        user = User(username=name, role="member")
        session.add(user)
        await session.flush()
        return Person(user.id, name, "member", "")


def test_a_new_key_opens_what_the_old_one_sealed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrapping, "BATCH", 2)

    async def work(db: Database) -> None:
        alice = await person(db, "alice")
        async with db.write() as session:
            rows = [await service.create(session, alice, VAULT, document(f"t{n}", f"words {n}")) for n in range(5)]
            lost = await service.create(session, alice, Vault(b"x" * 32), document("lost", "words of somebody"))
            changed = {row.id: (row.updated_at, row.row_version) for row in rows}
        assert await rewrap(db, BOTH, Row) == (5, 1)
        assert await rewrap(db, BOTH, Row) == (0, 1), "a second time, only the lost one is left"
        async with db.read() as session:
            for number, row in enumerate(rows):
                found = await service.find(session, alice, row.id)
                assert service.opened(OTHER, found).messages == list(document("t", f"words {number}").messages)
                assert (found.updated_at, found.row_version) == changed[row.id], "nobody has changed what it says"
            with pytest.raises(Problem) as told:
                service.opened(OTHER, await service.find(session, alice, lost.id))
            assert (told.value.status, told.value.code) == (409, "chat_unreadable")
            rows = list(await session.scalars(await service.listed(session, alice, OTHER, None)))
            titles = {service.summary(OTHER, row).title for row in rows}
            assert titles == {"t0", "t1", "t2", "t3", "t4", service.UNREADABLE}
            found_rows = await session.scalars(await service.listed(session, alice, OTHER, "WORDS"))
            assert {row.id for row in found_rows} == set(changed), "what does not open hinders no search"

    run(database_url, work)


def test_a_session_that_is_written_while_keys_are_wrapped_anew_stays_whole(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("its writers go one after another")
    later = document("later", "what is written meanwhile")

    async def write(identity: str, alice: Person) -> None:
        other = Database(database_url)
        async with other.write() as session:
            put = ChatSessionPut.model_validate({**later.model_dump(), "row_version": 1})
            await service.replace(session, alice, VAULT, identity, put)
        await other.close()

    async def work(db: Database) -> None:
        alice = await person(db, "alice")
        async with db.write() as session:
            row = await service.create(session, alice, VAULT, document())

        class Slow(Vault):
            def rewrap(self, sealed: Sealed, owner: str) -> Sealed:
                writer = threading.Thread(target=lambda: asyncio.run(write(row.id, alice)))
                writer.start()
                writer.join()
                return super().rewrap(sealed, owner)

        assert await rewrap(db, Slow(b"o" * 32, b"k" * 32), Row) == (0, 0)
        async with db.read() as session:
            found = service.opened(BOTH, await service.find(session, alice, row.id))
        assert (found.title, found.messages) == ("later", list(later.messages))
        assert await rewrap(db, BOTH, Row) == (1, 0), "its new data key is next"

    run(database_url, work)


def test_a_session_belongs_to_its_row(database_url: str) -> None:
    async def work(db: Database) -> None:
        alice, bob = await person(db, "alice"), await person(db, "bob")
        async with db.write() as session:
            secret = await service.create(session, alice, VAULT, document("secret", "of alice"))
            mine = await service.create(session, bob, VAULT, document("mine", "of bob"))
            mine.sealed, mine.wrapped_key = secret.sealed, secret.wrapped_key
        async with db.read() as session:
            with pytest.raises(Problem, match="does not open"):
                service.opened(VAULT, await service.find(session, bob, mine.id))

    run(database_url, work)


def test_a_search_opens_what_was_written_last_and_no_more_than_it_may(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "OPENED_AT_ONCE", 3)

    async def work(db: Database) -> None:
        alice = await person(db, "alice")
        for number in range(8):
            async with db.write() as session:
                row = await service.create(session, alice, VAULT, document(f"title {number}", "needle" + "x" * 100))
        monkeypatch.setattr(service, "SEARCHED", len(row.sealed) * 5 + 1)
        async with db.read() as session:
            found = (await session.scalars(await service.listed(session, alice, VAULT, "needle"))).all()
            assert [service.summary(VAULT, row).title for row in found] == [f"title {n}" for n in (7, 6, 5, 4, 3)]
            found = (await session.scalars(await service.listed(session, alice, VAULT, "title 0"))).all()
            assert [service.summary(VAULT, row).title for row in found] == ["title 0"], "titles are all read"

    run(database_url, work)


def test_a_key_of_a_vault_is_no_key_of_another() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        VAULT.session_token("00", 1)
