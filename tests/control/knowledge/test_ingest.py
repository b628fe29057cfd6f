"""Ingest: what is embedded again, what fails and why, what is left over; and indexes that replace others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from sqlalchemy import delete

from control.knowledge.ingest import Ingest
from control.knowledge.trouble import Trouble
from control.knowledge.vectors import ALL, Vectors
from control.models import KnowledgeVector
from tests.control.api.conftest import Running, Start
from tests.control.knowledge.conftest import BASES, add, base, ready, search, settled
from tests.fakes.milvus import MilvusLite
from tests.processes import eventually

RULES = "\n\n".join(f"# Rule {n}\n\nMachine number{n} is serviced every spring by team x." for n in range(60))


def document(client: httpx.Client, base: str, id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"{BASES}/{base}/documents/{id}").json()
    return found


def indexes(client: httpx.Client, base: str) -> list[tuple[int, str]]:
    return [(one["number"], one["state"]) for one in client.get(f"{BASES}/{base}").json()["indexes"]]


def patched(client: httpx.Client, base: str, **body: Any) -> httpx.Response:
    version = client.get(f"{BASES}/{base}").json()["row_version"]
    return client.patch(f"{BASES}/{base}", json={"row_version": version, **body})


def test_only_what_has_changed_is_embedded_again(control: Running, engineer: httpx.Client) -> None:
    first = ready(engineer, "handbook", "rules.md", RULES)
    assert (first["total"], first["reused"]) == (60, 0)
    changed = RULES.replace("Machine number7 is", "Machine number7 was")
    second = ready(engineer, "handbook", "rules.md", changed)
    assert (second["total"], second["reused"]) == (60, 59)
    eventually(lambda: control.sql("SELECT count(*) FROM knowledge_document") == [(1,)], 20)
    eventually(lambda: control.sql("SELECT count(*) FROM knowledge_vector") == [(60,)], 20)


def test_vectors_that_are_taken_away_meanwhile_are_made_again(
    control: Running, engineer: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, taken = Ingest._show, list[Any]()

    async def robbed(ingest: Ingest, *what: Any) -> list[str]:
        if not taken:  # as by the end of a document that had the same texts
            async with ingest._db.write() as session:
                taken.append(await session.execute(delete(KnowledgeVector)))
        return await shown(ingest, *what)

    monkeypatch.setattr(Ingest, "_show", robbed)
    ready(engineer, "handbook", "rules.md", RULES)
    assert taken[0].rowcount == 60
    assert control.sql("SELECT count(*) FROM knowledge_vector") == [(60,)]
    assert "number7 " in search(engineer, "handbook", "number7", limits={"top_k": 1})[0]["text"]


def test_another_chunking_answers_once_it_is_complete_and_the_old_index_goes(
    control: Running, engineer: httpx.Client
) -> None:
    ready(engineer, "handbook", "rules.md", "# Rules\n\n" + "The forklift is serviced in spring. " * 60)
    ready(engineer, "handbook", "leave.txt", "Annual leave is thirty days.")
    before = len(search(engineer, "handbook", "forklift spring", limits={"top_k": 50}))
    answer = patched(engineer, "handbook", chunking={"size": 40, "overlap": 0, "parent": 1000})
    assert [one["number"] for one in answer.json()["indexes"]] == [2, 1]
    assert search(engineer, "handbook", "annual leave"), "the old one answers meanwhile"
    eventually(lambda: indexes(engineer, "handbook") == [(2, "live")], 60)
    assert len(search(engineer, "handbook", "forklift spring", limits={"top_k": 50})) > before
    eventually(lambda: control.sql("SELECT count(*) FROM knowledge_index") == [(1,)], 20)


def test_an_index_that_could_not_hold_what_the_live_one_holds_does_not_replace_it(
    start_control: Start, milvus: MilvusLite
) -> None:
    control = start_control(knowledge={"milvus_uri": milvus.uri, "max_chunks": 10})
    client = control.as_("engineer")
    base(client, "handbook")
    one = ready(client, "handbook", "rules.txt", "The forklift is serviced in spring. " * 60)
    assert patched(client, "handbook", chunking={"size": 16, "overlap": 0, "parent": 16}).status_code == 200
    assert settled(client, "handbook", one)["code"] == "too_many_chunks"
    assert indexes(client, "handbook") == [(2, "building"), (1, "live")]
    assert search(client, "handbook", "forklift")
    assert patched(client, "handbook", chunking={"size": 200, "overlap": 0, "parent": 1000}).status_code == 200
    eventually(lambda: indexes(client, "handbook") == [(3, "live")], 60)


def test_a_document_that_fails_says_why_and_its_predecessor_stays(engineer: httpx.Client) -> None:
    ready(engineer, "handbook", "leave.pdf.txt", "Annual leave is thirty days.")
    bad = settled(engineer, "handbook", add(engineer, "handbook", "leave.pdf.txt", b"%PDF-1.4 no text"))
    assert (bad["state"], bad["code"]) == ("failed", "wrong_type")
    assert len(search(engineer, "handbook", "annual leave")) == 1
    again = engineer.post(f"{BASES}/handbook/documents/{bad['id']}/retry")
    assert again.json()["state"] == "waiting"
    assert settled(engineer, "handbook", bad)["code"] == "wrong_type"


@pytest.mark.parametrize(
    ("name", "content", "status", "code"),
    [("a.txt", b"", 422, "empty"), ("a/b.txt", b"x", 422, "invalid"), ("a.txt", b"x" * 2000, 413, "too_large")],
)
def test_bad_uploads_are_refused_and_leave_nothing(
    start_control: Start, milvus: MilvusLite, name: str, content: bytes, status: int, code: str
) -> None:
    control = start_control(knowledge={"milvus_uri": milvus.uri, "max_file_bytes": 1024})
    client = control.as_("engineer")
    base(client, "handbook")
    answer = client.post(f"{BASES}/handbook/documents", params={"name": name}, content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    folder = control.settings.knowledge_dir / "documents"
    assert not folder.exists() or not any(folder.rglob("source*"))
    assert client.get(f"{BASES}/handbook/documents").json()["total"] == 0


def test_a_base_that_is_deleted_leaves_nothing(control: Running, engineer: httpx.Client) -> None:
    ready(engineer, "handbook", "a.txt", "Annual leave is thirty days.")
    assert engineer.delete(f"{BASES}/handbook").status_code == 204
    assert engineer.post(f"{BASES}/handbook/search", json={"query": "leave"}).status_code == 404
    base(engineer, "handbook")
    tables = ("knowledge_document", "knowledge_chunk", "knowledge_vector", "knowledge_entry")
    eventually(lambda: all(control.sql(f"SELECT count(*) FROM {table}") == [(0,)] for table in tables), 20)
    assert not any((control.settings.knowledge_dir / "documents").iterdir())


@pytest.fixture
def own_milvus(tmp_path: Path) -> Iterator[MilvusLite]:
    with MilvusLite(tmp_path / "milvus") as server:
        yield server


def test_milvus_may_die_and_come_back(start_control: Start, own_milvus: MilvusLite) -> None:
    control = start_control(knowledge={"milvus_uri": own_milvus.uri})
    client = control.as_("engineer")
    base(client, "handbook")
    ready(client, "handbook", "a.txt", "Annual leave is thirty days.")
    own_milvus.kill()
    down = client.post(f"{BASES}/handbook/search", json={"query": "leave"})
    assert (down.status_code, down.json()["code"]) == (503, "index_down")
    later = add(client, "handbook", "b.txt", "Annual leave is taken in summer.")
    eventually(lambda: document(client, "handbook", later["id"])["code"] == "index_down", 60)
    own_milvus.start()
    assert client.post(f"{BASES}/handbook/documents/{later['id']}/retry").status_code == 200
    assert settled(client, "handbook", later)["state"] == "ready"
    assert len(search(client, "handbook", "annual leave")) == 2


def test_an_index_takes_over_when_the_last_document_that_it_waits_for_fails(engineer: httpx.Client) -> None:
    ready(engineer, "handbook", "leave.txt", "Thirty days of leave.")
    broken = settled(engineer, "handbook", add(engineer, "handbook", "broken.pdf", b"no pdf"))
    assert broken["state"] == "failed"
    assert engineer.post(f"{BASES}/handbook/rebuild").status_code == 200
    eventually(lambda: indexes(engineer, "handbook") == [(2, "live")], 60)


def test_milvus_lite_indexes_what_was_written_and_what_a_killed_control_has_left(
    start_control: Start, own_milvus: MilvusLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def segments() -> int:
        return len(list(own_milvus.folder.rglob("data_*.parquet")))  # what is only in its log has none

    control = start_control(knowledge={"milvus_uri": own_milvus.uri})
    client = control.as_("engineer")
    base(client, "handbook")
    ready(client, "handbook", "a.txt", "Annual leave is thirty days.")
    eventually(lambda: segments() == 1, 20)
    with monkeypatch.context() as killed:
        killed.setattr(Vectors, "settle", lambda *_: asyncio.sleep(0))
        ready(client, "handbook", "b.txt", "Annual leave is taken in summer.")
        control.stop()
    assert segments() == 1
    again = Running(control.settings, control.service_token, {})
    again.start()
    try:
        eventually(lambda: segments() == 2, 20)
    finally:
        again.stop()


def test_an_index_says_when_it_has_more_chunks_than_milvus_lite_finds_fast(
    control: Running, engineer: httpx.Client
) -> None:
    ready(engineer, "handbook", "leave.txt", "Annual leave is thirty days.")

    def said() -> tuple[int, bool]:
        (index,) = engineer.get(f"{BASES}/handbook").json()["indexes"]
        return index["chunks"], index["crowded"]

    assert said() == (1, False)
    control.sql("UPDATE knowledge_entry SET total = 10000")
    assert said() == (10_000, False)
    control.sql("UPDATE knowledge_entry SET total = 10001")
    assert said() == (10_001, True)
    control.sql("UPDATE knowledge_entry SET state = 'failed'")
    assert said() == (0, False)


def test_a_milvus_that_does_not_answer_is_a_trouble(milvus: MilvusLite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked() -> None:
        vectors, question = Vectors(milvus.uri, ""), np.ones(2, np.float32)
        await vectors.prepare("silent", 2)
        assert await vectors.near("silent", question, 5, ALL) == []
        monkeypatch.setattr("control.knowledge.vectors.TIMEOUT", 0.3)
        with milvus.silent(), pytest.raises(Trouble, match="gives no answer"):
            await vectors.near("silent", question, 5, ALL)
        await vectors.drop("silent")
        await vectors.close()

    asyncio.run(asked())
