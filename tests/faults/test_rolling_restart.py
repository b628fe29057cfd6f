"""PostgreSQL, Redis, control and three gateways behind nginx, all real: each process is restarted under load, one after
another, and no client sees it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import pytest
from openai import OpenAI, OpenAIError

from tests.fakes.databases import Server, server
from tests.fakes.gateway import Gateway, eventually
from tests.fakes.nginx import Nginx, needs_nginx
from tests.fakes.plane import Plane
from tests.fakes.redis_server import RedisServer
from tests.fakes.upstream import Upstream
from tests.integration.test_session import serve
from tests.processes import free_port

CLIENTS = 6
pytestmark = [needs_nginx, pytest.mark.timeout(240)]


class Client(threading.Thread):
    """Asks one question after another, every other one as a stream."""

    def __init__(self, nginx: Nginx, secret: str, name: str) -> None:
        super().__init__()
        self.answered: list[str] = []
        self.failures: list[str] = []
        self.over = threading.Event()
        self._name = name
        http = httpx.Client(verify=nginx.trust, trust_env=False)
        self._sdk = OpenAI(base_url=f"{nginx.url}/v1", api_key=secret, max_retries=0, timeout=20, http_client=http)

    def run(self) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            rid = f"{self._name}-{number}"
            try:
                self._ask(rid, stream=number % 2 == 0)
                self.answered.append(rid)
            except (OpenAIError, AssertionError) as exc:
                self.failures.append(f"{time.monotonic():.3f} {rid}: {exc!r}")
            time.sleep(0.005)

    def _ask(self, rid: str, *, stream: bool) -> None:
        asked = {
            "model": "gpt", "messages": [{"role": "user", "content": "Who are you?"}],
            "extra_headers": {"x-request-id": rid}, "extra_body": {"metadata": {"words": 4, "gap": 0.01}},
        }  # fmt: skip
        if not stream:
            assert self._sdk.chat.completions.create(**asked).choices[0].message.content
            return
        chunks = list(self._sdk.chat.completions.create(**asked, stream=True))
        assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Server, RedisServer, Plane, list[Gateway], Upstream, ExitStack]]:
    """All of it but nginx and the clients."""
    with ExitStack() as stack:
        database = stack.enter_context(server("postgresql"))
        redis = stack.enter_context(RedisServer(password="let-me-in"))
        upstream = stack.enter_context(Upstream())
        control = stack.enter_context(Plane(tmp_path, database.new_url()))
        gateways = []
        for number in range(3):
            folder = tmp_path / f"g{number}"
            folder.mkdir()
            config = {
                "gateway": {"listen": f"127.0.0.1:{free_port()}"},
                "control": {"url": control.url, "token": "env:TOKEN"},
                "limits": {"backend": "redis", "url": redis.url, "password": "env:REDIS"},
            }
            env = {"TOKEN": control.service_token, "REDIS": "let-me-in"}
            gateways.append(stack.enter_context(Gateway(config, folder, env=env)))
        yield database, redis, control, gateways, upstream, stack


def test_nobody_sees_that_every_process_is_restarted(parts, tmp_path: Path) -> None:
    _, redis, control, gateways, upstream, stack = parts
    serve(control, upstream)
    secret = control.post("/keys", name="app", limits={"rpm": 1_000_000, "concurrency": 1000})["secret"]
    for gateway in gateways:
        eventually(lambda g=gateway: g.chat("gpt", secret=secret).status == 200, 10)
    urls = [gateway.url for gateway in gateways]
    nginx = stack.enter_context(Nginx(tmp_path / "nginx", control.url, urls, gateway_name="localhost"))
    clients = [Client(nginx, secret, f"client{number}") for number in range(CLIENTS)]
    marks: list[str] = []

    def mark(what: str) -> None:
        marks.append(f"{time.monotonic():.3f} {what}")

    for client in clients:
        client.start()
    try:
        time.sleep(1)
        for number, gateway in enumerate(gateways):
            mark(f"gateway {number} stops")
            assert gateway.stop() == 0
            mark(f"gateway {number} starts")
            gateway.start()
            time.sleep(1)
        mark("control")
        assert control.process is not None
        control.process.terminate()
        control.process.wait(20)
        control.start()
        mark("redis")
        redis.kill()
        time.sleep(0.5)
        redis.start()
        mark("nginx")
        nginx.reload()
        time.sleep(1.5)
    finally:
        for client in clients:
            client.over.set()
        for client in clients:
            client.join(30)
    failures = sorted(one for client in clients for one in client.failures)
    answered = sorted(one for client in clients for one in client.answered)
    assert not failures, "\n".join(sorted([*failures[:20], *marks]))
    assert len(answered) > 200
    eventually(lambda: set(answered) <= set(_ledger(control)), 20, "an answered request is not in the ledger")
    rows = _ledger(control)
    assert {rid: count for rid, count in rows.items() if count != 1} == {}
    assert rows.keys() >= set(answered)


def _ledger(control: Plane) -> Counter[str]:
    """How often each request is in the ledger."""
    rows: Counter[str] = Counter()
    before: int | None = None
    while True:
        page = control.get("/usage/requests", per_page=200, **({"before": before} if before else {}))
        rows.update(row["request_id"] for row in page["items"])
        before = page["before"]
        if before is None:
            return rows
