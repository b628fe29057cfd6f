"""An installation to look at: the one of `installation.json` with a month of usage, or an empty one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from control import security
from control.auth.service import create_user
from control.db import Database
from control.internal.tokens import new_service_token
from control.kit.audit import Actor
from control.migrations.run import migrate
from control.settings import ConsoleTable, KnowledgeTable, Settings
from tests.console import comparisons, knowledge, training
from tests.console.test_endpoint_health import report
from tests.control.api.conftest import PASSWORD, Running
from tests.control.api.test_request_log import keep
from tests.control.api.test_usage import send
from tests.control.test_bodies import entry
from tests.control.test_gateways import target
from tests.control.test_ledger import event
from tests.fakes.milvus import MilvusLite
from tests.load.seed import seed

CALLS = Path(__file__).with_name("installation.json")
"""What an administrator has set up, as calls of the API: method and path -> bodies."""
REQUEST = "01936f3a-0000-7000-8000-000000000010"
"""A request that was answered by the second target, with a shadow, and whose bodies are kept."""


@contextmanager
def installation(folder: Path, *, filled: bool) -> Iterator[Running]:
    """A running control plane whose admin has the password of the tests."""

    async def prepare() -> tuple[str, dict[str, str]]:
        settings = Settings(console=ConsoleTable(data_dir=folder))
        db = Database(settings.database_url)
        await migrate(db.engine)
        if filled:
            await seed(db, rows=30_000, keys=60)
        hashed = await security.hash_password(PASSWORD)
        async with db.write() as session:
            admin = await create_user(session, Actor("system"), "admin", "admin", hashed)
            token = await new_service_token(session, Actor("system"), "gateway-1")
        await db.close()
        return token, {"admin": security.open_vault(settings).access_token(admin.id, 0, 3600)}

    with ThreadPoolExecutor(1) as pool:  # in this thread, Playwright's loop may be running
        prepared = pool.submit(asyncio.run, prepare()).result()
    with ExitStack() as parts:
        settings = Settings(console=ConsoleTable(data_dir=folder))
        if filled:
            milvus = parts.enter_context(MilvusLite(folder / "milvus"))
            settings = settings.model_copy(update={"knowledge": KnowledgeTable(milvus_uri=milvus.uri)})
        running = Running(settings, *prepared)
        running.start()
        parts.callback(running.stop)
        if filled:
            _set_up(running)
            _use(running)
            training.fill(running)
            knowledge.fill(running)
            comparisons.fill(running)
        yield running


def _set_up(control: Running) -> None:
    for call, bodies in json.loads(CALLS.read_text(encoding="utf-8")).items():
        method, path = call.split()
        for body in bodies:
            answer = control.admin.request(method, f"/api/v1{path}", json=body)
            assert answer.is_success, f"{call}: {answer.text}"


def _use(control: Running) -> None:
    """A day of the endpoint gpu-01 with an hour in which its breaker was open, and REQUEST."""
    asked: dict[str, Any] = {
        "key": "key-00003@team-01", "team": "team-01", "model": "chat-large", "route": "chat-large",
        "endpoint": "gpu-01", "upstream_model": "qwen3-32b",
    }  # fmt: skip
    moment = time.time() - 60
    failed = {"endpoint": "gpu-01", "model": "qwen3-32b", "status": 503, "error": "provider_5xx", "ms": 61.0}
    good = {"endpoint": "qwen-cn", "model": "qwen3-max", "status": 200, "error": "", "ms": 412.0}
    known = asked | {"ts": moment, "id": REQUEST, "request_id": "req-7c41d2", "endpoint": "qwen-cn"}
    known |= {"upstream_model": "qwen3-max", "attempts": [failed, good], "cost_nano": 4_210_000, "duration_ms": 2_310.0}
    copy = asked | {"ts": moment, "id": REQUEST[:-1] + "1", "request_id": "req-7c41d2", "shadow_of": REQUEST}
    copy |= {
        "endpoint": "deepseek",
        "upstream_model": "deepseek-chat",
        "attempts": [{**good, "endpoint": "deepseek", "model": "deepseek-chat"}],
    }
    events = [asked | {"ts": moment - 600 * n, "duration_ms": 900.0 + n, "ttft_ms": 90.0 + n} for n in range(140)]
    broken = {"end": "upstream_error", "status": 502, "error": "provider_5xx"}
    send(control, *(event(**one | (broken if n % 29 == 7 else {})) for n, one in enumerate(events)))
    send(control, event(**known), event(**copy))
    question = {
        "model": "chat-large",
        "messages": [{"role": "user", "content": "What is the rate today? Mail [email]."}],
    }
    answer = {"choices": [{"message": {"role": "assistant", "content": "1.1, as of noon. " * 12}}]}
    bodies = {"request": json.dumps(question), "response": json.dumps(answer), "response_cut": False}
    keep(control, entry(id=REQUEST, ts=moment, **bodies))
    report(control, "gw-1/w0", target("gpu-01", "qwen3-32b", breaker="open", error="provider_5xx"))
    report(control, "gw-1/w0", target("gpu-01", "qwen3-32b"))
    for column, hours in (("began_at", 3.0), ("ended_at", 2.0)):
        stamp = (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%d %H:%M:%S.%f")
        control.sql(f"UPDATE breaker_span SET {column} = ?", stamp)
