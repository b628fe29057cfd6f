"""The control API over a real socket: the app under uvicorn in a thread, on its own SQLite file.

`control` is a running installation with one person per role (user name = role). The database is migrated and filled
once, then copied for each test, so a test may change whatever it likes.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import FastAPI

from control import security
from control.app import build
from control.auth.service import create_user
from control.db import Database
from control.deps import Control
from control.internal.tokens import new_service_token
from control.kit.audit import Actor
from control.kit.permissions import Role
from control.migrations.run import migrate
from control.settings import ConsoleTable, KnowledgeTable, OidcTable, Settings, TrainingTable
from tests.fakes.oidc import IdentityProvider

PASSWORD = "correct horse battery"
"""Of everybody."""


class Running:
    """A control plane that answers, and ways to talk to it."""

    def __init__(self, settings: Settings, service_token: str, tokens: dict[str, str]) -> None:
        self.settings = settings
        self._tokens = tokens
        self.service_token = service_token
        """Secret of a service token, for `/internal/v1`."""
        self.app: FastAPI = build(settings)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._clients: dict[str, httpx.Client] = {}
        self._browsers: list[httpx.Client] = []
        config = uvicorn.Config(
            self.app, access_log=False, log_level="warning", proxy_headers=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    @property
    def parts(self) -> Control:
        """What the process is made of: to put a fake in."""
        parts: Control = self.app.state.control
        return parts

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.settings.console.data_dir / "tunegate.db"

    @property
    def admin(self) -> httpx.Client:
        """Signed in as `admin`."""
        return self.as_("admin")

    def anonymous(self) -> httpx.Client:
        """A client that is not signed in."""
        return self._client("")

    def as_(self, username: str, password: str = PASSWORD) -> httpx.Client:
        """A client signed in as this person (`admin`, `operator`, `engineer`, `member`, `viewer`, or one you made)."""
        if username not in self._clients and (token := self._tokens.get(username)):
            self._client(username).headers["authorization"] = f"Bearer {token}"
        if username not in self._clients:
            answer = self.anonymous().post("/api/v1/auth/login", json={"username": username, "password": password})
            assert answer.status_code == 200, answer.text
            self._client(username).headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return self._clients[username]

    def service(self) -> httpx.Client:
        """A client of `/internal/v1`, as a gateway."""
        client = self._client("service token")
        client.headers["authorization"] = f"Bearer {self.service_token}"
        return client

    def browser(self) -> httpx.Client:
        """A client with cookies of its own that knows no base URL."""
        self._browsers.append(httpx.Client(timeout=30, trust_env=False))
        return self._browsers[-1]

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows straight from the SQLite file (or a change of it)."""
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            return connection.execute(query, values).fetchall()

    def everything(self) -> str:
        """All text that the database holds, sealed or not: a secret in clear must not be in it."""
        with closing(sqlite3.connect(self.database, timeout=10)) as connection:
            return "\n".join(connection.iterdump())

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread.start()
        assert self.anonymous().get("/healthz").json() == {"status": "ok"}

    def stop(self) -> None:
        """End the server and the clients."""
        for client in (*self._clients.values(), *self._browsers):
            client.close()
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
        assert not self._thread.is_alive()

    def _client(self, name: str) -> httpx.Client:
        if name not in self._clients:
            self._clients[name] = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        return self._clients[name]


Start = Callable[..., Running]


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, str]]:
    folder = tmp_path_factory.mktemp("control-template")

    async def fill() -> tuple[str, dict[str, str]]:
        settings = Settings(console=ConsoleTable(data_dir=folder))
        db = Database(settings.database_url)
        await migrate(db.engine)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(security, "BCRYPT_COST", 4)  # everybody signs in all the time
            hashed = await security.hash_password(PASSWORD)
        system = Actor("system")
        async with db.write() as session:
            people = [await create_user(session, system, role, role, hashed) for role in get_args(Role)]
            token = await new_service_token(session, system, "test-gateway")
        await db.close()
        vault = security.open_vault(settings)
        return token, {person.username: vault.access_token(person.id, 0, 3600) for person in people}

    return folder, *asyncio.run(fill())


@pytest.fixture
def start_control(_template: tuple[Path, str, dict[str, str]], tmp_path: Path) -> Iterator[Start]:
    """Start a control plane with settings of `[console]` and of other tables: `start_control(oidc={…}, …)`."""
    running: list[Running] = []

    def start(
        *,
        oidc: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        knowledge: dict[str, Any] | None = None,
        **console: Any,
    ) -> Running:
        folder, token, tokens = _template
        data_dir = tmp_path / f"control-{len(running)}"
        shutil.copytree(folder, data_dir)
        tables = Settings(
            console=ConsoleTable(data_dir=data_dir, **console), oidc=OidcTable(**oidc or {}),
            training=TrainingTable(**training or {}), knowledge=KnowledgeTable(**knowledge or {}),
        )  # fmt: skip
        one = Running(tables, token, tokens)
        running.append(one)
        one.start()
        return one

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def control(start_control: Start) -> Running:
    """A control plane with the default settings."""
    return start_control()


@pytest.fixture
def admin(control: Running) -> httpx.Client:
    """Signed in as `admin` at `control`."""
    return control.admin


@pytest.fixture
def idp(monkeypatch: pytest.MonkeyPatch) -> Iterator[IdentityProvider]:
    """An OpenID Connect provider on loopback; `idp.settings()` is the `[oidc]` that trusts it."""
    one = IdentityProvider()
    monkeypatch.setenv("IDP_SECRET", one.secret)
    yield one
    one.close()
