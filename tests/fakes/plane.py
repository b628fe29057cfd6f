"""A real control process for a test: its own configuration and database, started, called, killed, started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx2 as httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.fakes.gateway import eventually
from tests.processes import free_port

PASSWORD = "a password of my own"
CLAIMS = {"comparison_run": "claimed_until", "knowledge_entry": "not_before", "knowledge_run": "not_before"}
"""Until when a process has the work of a row, by table."""


class Plane:
    """`tunegate control` on a database, filled as the first `tunegate up` fills it, with nothing to serve yet."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.database = database_url
        self.folder = folder / "control"
        self.folder.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.service_token = "st-tg-integration-0123456789abcdefghijklmnop"
        self.config = self.folder / "config.toml"
        self.config.write_text(
            f'[console]\nlisten = "127.0.0.1:{self.port}"\ndata_dir = "{self.folder}"\nallow_private_upstreams = true\n'
            f'[database]\nurl = "{database_url}"\n'
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        first = {
            "password": "first password", "service_token": self.service_token,
            "api_key": "sk-tg-never-used-0123456789", "endpoints": [], "routes": [],
        }  # fmt: skip
        argv = [sys.executable, "-m", "control.commands", "bootstrap", "--config", str(self.config)]
        subprocess.run(argv, input=json.dumps(first).encode(), check=True)
        self.start()
        try:
            self._first_login()
        except BaseException:
            self.__exit__()  # nobody else will
            raise
        return self

    def _first_login(self) -> None:
        token = self.post("/auth/login", username="admin", password="first password")["access_token"]
        self.client.headers["authorization"] = f"Bearer {token}"
        token = self.post("/auth/password", current="first password", new=PASSWORD)["access_token"]
        self.client.headers["authorization"] = f"Bearer {token}"

    def sign_in(self) -> None:
        """Once more: a session of the API lasts for some minutes."""
        token = self.post("/auth/login", username="admin", password=PASSWORD)["access_token"]
        self.client.headers["authorization"] = f"Bearer {token}"

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(10) in (0, -signal.SIGTERM)

    def start(self) -> None:
        """Start the process and wait until it answers."""
        argv = [sys.executable, "-m", "control.commands", "serve", "--config", str(self.config)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ})
        try:
            eventually(self._answers, 120, "control does not answer")
        except AssertionError:
            self.kill9()  # nobody else will
            raise

    def kill9(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def forget_claims(self) -> None:
        """As if the half minute had gone by after which the work of a killed process is anybody's."""

        async def set_back() -> None:
            engine = create_async_engine(self.database)
            async with engine.begin() as connection:
                for table, column in CLAIMS.items():
                    await connection.execute(text(f"UPDATE {table} SET {column} = '2026-01-01 00:00:00'"))
            await engine.dispose()

        asyncio.run(set_back())

    def get(self, path: str, **query: Any) -> Any:
        """GET `/api/v1` + path."""
        return self._good(self.client.get(f"/api/v1{path}", params=query))

    def post(self, path: str, **body: Any) -> Any:
        """POST `/api/v1` + path."""
        return self._good(self.client.post(f"/api/v1{path}", json=body))

    def patch(self, path: str, **body: Any) -> Any:
        """PATCH `/api/v1` + path, with the version that the resource has now."""
        version = self.get(path)["row_version"]
        return self._good(self.client.patch(f"/api/v1{path}", json=body | {"row_version": version}))

    def delete(self, path: str) -> Any:
        """DELETE `/api/v1` + path."""
        return self._good(self.client.delete(f"/api/v1{path}"))

    def _answers(self) -> bool:
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    @staticmethod
    def _good(answer: httpx.Response) -> Any:
        assert answer.status_code < 300, f"{answer.request.method} {answer.request.url}: {answer.text}"
        return answer.json() if answer.content else None
