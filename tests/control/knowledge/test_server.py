"""From files to passages on a Milvus server: `TUNEGATE_TEST_MILVUS=http://HOST:19530 pytest …`, else it is skipped."""

from __future__ import annotations

import os

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running, Start
from tests.control.knowledge.conftest import BASES, base, ready, search
from tests.control.knowledge.test_vertical import CHINESE, ENGINE, LEAVE
from tests.fakes import documents as made
from tests.processes import eventually

URI = os.environ.get("TUNEGATE_TEST_MILVUS", "")
pytestmark = pytest.mark.skipif(
    not URI,
    reason="TUNEGATE_TEST_MILVUS names no Milvus server, and none with BM25 can be installed from PyPI or Debian",
)


@pytest.fixture
def control(start_control: Start) -> Running:
    return start_control(knowledge={"milvus_uri": URI, "cache_entries": 0})


def titles(client: httpx.Client, query: str, **body: object) -> list[str]:
    return [one["title"] for one in search(client, "handbook", query, **body)]


def test_files_are_found_by_vector_and_by_words_and_what_is_deleted_is_gone_at_once(control: Running) -> None:
    """A server may find a new document a moment later, and never gives a deleted one."""
    client = control.as_("engineer")
    base(client, "handbook")
    pdf = ready(client, "handbook", "handbook.pdf", made.pdf([ENGINE, LEAVE]))
    ready(client, "handbook", "手册.docx", made.docx(*CHINESE))
    eventually(lambda: titles(client, "How many days of holiday do I get?")[:1] == ["handbook.pdf"], 20)
    eventually(lambda: titles(client, "年假有几天")[:1] == ["手册.docx"], 20)
    found = search(client, "handbook", "annual leave")[0]
    assert (found["page"], found["dense"] > 0, found["bm25"] > 0) == (2, True, True)
    path = f"{BASES}/handbook/documents/{pdf['id']}"
    assert client.patch(path, json={"facts": {"year": "2026"}}).status_code == 200
    assert set(titles(client, "leave", filter={"year": "2026"})) == {"handbook.pdf"}
    assert client.delete(path).status_code == 204
    assert "handbook.pdf" not in titles(client, "annual leave")
    assert client.post(f"{BASES}/handbook/rebuild").status_code == 200
    eventually(lambda: client.get(f"{BASES}/handbook").json()["indexes"][0]["number"] == 2, 60)
    eventually(lambda: client.get(f"{BASES}/handbook").json()["indexes"][0]["state"] == "live", 60)
    eventually(lambda: titles(client, "年假有几天")[:1] == ["手册.docx"], 20)
    assert client.delete(f"{BASES}/handbook").status_code == 204
