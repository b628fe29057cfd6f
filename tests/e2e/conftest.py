"""The real thing, once for all end-to-end tests: `tunegate up` with vLLM on a free port and an empty data directory."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import httpx2 as httpx
import pytest
from openai import OpenAI
from playwright.sync_api import Page, sync_playwright

from control.firstrun import has_vllm
from gateway.contract.usage import Tokens
from tests.console.browsing import ARGUMENTS, STILL
from tests.console.conftest import BUILT, CHROMIUM
from tests.processes import eventually, free_port, processes_with
from trainer.engines import procfs

VLLM_PYTHON = Path(__file__).parents[2] / ".venv-vllm/bin/python"
START_SECONDS = 300
PASSWORD = "a password of my own"
"""Of the admin, once the first one was changed."""


class LedgerRow:
    """One row of the ledger, with the words of a usage event."""

    def __init__(self, row: sqlite3.Row) -> None:
        self.tokens = Tokens(**{name: row[f"{name}_tokens"] for name in Tokens.model_fields})
        self.cost_nano: int = row["cost_nano"]
        self.usage_source: str = row["usage_source"]
        self.end: str = row["ended"]
        self.status: int = row["status"]
        self.route: str = row["route"]
        self.endpoint: str = row["endpoint"]
        self.key: str = row["key"]
        self.stream: bool = bool(row["stream"])


@dataclass
class Stack:
    """A running `tunegate up`."""

    process: subprocess.Popen[bytes]
    data: Path
    url: str
    before: procfs.Files = field(default_factory=procfs.shared_memory_files)
    password_changed: bool = False

    @property
    def key(self) -> str:
        return (self.data / "first-key").read_text().strip()

    @property
    def engine_url(self) -> str:
        config = tomllib.loads((self.data / "config.toml").read_text())
        return f"http://127.0.0.1:{config['engine'][0]['port']}"

    @property
    def expect(self) -> dict[str, str]:
        texts: dict[str, str] = json.loads((self.data / "models/tiny/expect.json").read_text())
        return {"tiny": texts["base"], "alpha": texts["alpha"], "beta": texts["beta"]}

    @property
    def output(self) -> str:
        return (self.data / "up.log").read_text()

    def client(self, key: str | None = None) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0, timeout=30)

    def ledger_row(self, request_id: str) -> LedgerRow:
        """The one row of a request in control's ledger, by the x-request-id that the client gave it."""
        rows: list[LedgerRow] = []

        def found() -> bool:
            with closing(sqlite3.connect(self.data / "control/tunegate.db", timeout=10)) as connection:
                connection.row_factory = sqlite3.Row
                query = "SELECT * FROM usage_event WHERE request_id = ?"
                rows[:] = [LedgerRow(row) for row in connection.execute(query, (request_id,))]
            return bool(rows)

        eventually(found)
        (row,) = rows
        return row

    @cached_property
    def admin(self) -> httpx.Client:
        """The control API as admin, who has changed the first password as asked."""
        client = httpx.Client(base_url=self.console_url, timeout=30, trust_env=False)
        login = {"username": "admin", "password": self.password}
        client.headers["authorization"] = (
            f"Bearer {client.post('/api/v1/auth/login', json=login).json()['access_token']}"
        )
        if not self.password_changed:
            change = {"current": self.password, "new": PASSWORD}
            token = client.post("/api/v1/auth/password", json=change).json()["access_token"]
            client.headers["authorization"] = f"Bearer {token}"
            self.password_changed = True
        return client

    @property
    def console_url(self) -> str:
        config = tomllib.loads((self.data / "config.toml").read_text())
        return str(config["control"]["url"])

    @property
    def password(self) -> str:
        """Of the admin."""
        return PASSWORD if self.password_changed else (self.data / "first-password").read_text().strip()

    def sign_in(self, page: Page) -> None:
        """Sign in as admin on the login page, and choose a password where the first one is asked to be changed."""
        page.fill("#username", "admin")
        page.fill("#password", self.password)
        page.locator("button[type=submit]").click()
        page.wait_for_url(lambda url: "/login" not in url)
        if not self.password_changed:
            page.fill("#current", self.password)
            page.fill("#next", PASSWORD)
            page.fill("#again", PASSWORD)
            with page.expect_response("**/api/v1/auth/password") as changed:
                page.locator("[data-test=change-password]").click()
            assert changed.value.ok
            self.password_changed = True

    def engine_metric(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.engine_url}/metrics", timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"vllm:{name}{{"))

    def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        if "admin" in self.__dict__:
            self.admin.close()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(12)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The one of most tests here; the last of them stops it."""
    with _running(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Another one, for tests that load adapters into its engine: on a CPU, their slots are not given back."""
    with _running(tmp_path_factory.mktemp("workshop")) as running:
        yield running


@contextmanager
def _running(data: Path) -> Iterator[Stack]:
    if not has_vllm(VLLM_PYTHON):
        missing = "vLLM for the CPU is not installed; `make install` says why"
        if os.environ.get("REQUIRE_VLLM") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    address = f"127.0.0.1:{free_port()}"
    console = f"127.0.0.1:{free_port()}"
    options = ["--data", str(data), "--listen", address, "--console", console, "--vllm-python", str(VLLM_PYTHON)]
    with (data / "up.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "control", "up", *options], stdout=log, stderr=log)
    running = Stack(process, data, f"http://{address}")
    try:
        eventually(lambda: "Ctrl-C stops everything" in running.output or process.poll() is not None, START_SECONDS)
        assert process.poll() is None, running.output
        assert "does not answer yet" not in running.output, running.output
        yield running
    finally:
        if process.poll() is None:
            running.stop()
        for pid in processes_with(str(data)):  # only when a test found that something stayed
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def page() -> Iterator[Page]:
    """A tab of a browser with a profile of its own."""
    if CHROMIUM is None or not BUILT.exists():
        missing = "no chromium on this machine, or console/dist is not built"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(locale="en-US", viewport={"width": 1280, "height": 800}, reduced_motion=STILL)
        page.set_default_timeout(15_000)
        yield page
        browser.close()
