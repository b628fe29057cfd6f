"""`tunegate up` alone: its own Milvus Lite, and embeddings through its own gateway, paid for by a key."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.control.knowledge.conftest import base, ready, search
from tests.processes import eventually, free_port, processes_with

ROUTE = {"kind": "route", "route": "dummy", "key": "first@admin"}


@pytest.fixture
def up(tmp_path: Path) -> Iterator[httpx.Client]:
    """`tunegate up`, and a client that is signed in."""
    console = f"127.0.0.1:{free_port()}"
    argv = [
        sys.executable, "-m", "control", "up", "--data", str(tmp_path), "--listen", f"127.0.0.1:{free_port()}",
        "--console", console, "--vllm-python", str(tmp_path / "nothing"),
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    client = httpx.Client(base_url=f"http://{console}", timeout=30, trust_env=False)
    try:
        eventually(lambda: b"http://" in (tmp_path / "log").read_bytes(), 60)
        first = (tmp_path / "first-password").read_text().strip()
        for path, body in (
            ("login", {"username": "admin", "password": first}),
            ("password", {"current": first, "new": "a password of my own"}),
        ):
            token = client.post(f"/api/v1/auth/{path}", json=body).json()["access_token"]
            client.headers["authorization"] = f"Bearer {token}"
        yield client
    finally:
        client.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert processes_with(str(tmp_path)) == []


def test_documents_are_embedded_through_the_gateway_and_the_key_pays(up: httpx.Client, tmp_path: Path) -> None:
    base(up, "handbook", embedding=ROUTE)
    for number in range(3):
        ready(up, "handbook", f"{number}.txt", f"Rule {number}: the forklift number{number} is serviced in spring.")
    found = search(up, "handbook", "number1")
    assert found[0]["title"] == "1.txt", "the dummy's vectors are all the same: words decide"

    def embeddings() -> list[str]:
        rows = up.get("/api/v1/usage/requests").json()["items"]
        return [row["key"] for row in rows if row["operation"] == "embeddings"]

    eventually(lambda: len(embeddings()) == 4)
    assert set(embeddings()) == {"first@admin"}
    assert (tmp_path / "milvus").is_dir()
    assert len(processes_with(str(tmp_path / "milvus"))) == 1
