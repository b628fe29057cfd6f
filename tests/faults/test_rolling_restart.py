"""PostgreSQL, Redis, control and three gateways behind nginx, all real: each process is restarted under load, one after
another, and no client sees it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import httpx2 as httpx
import pytest
from openai import OpenAI, OpenAIError

from tests.fakes.gateway import eventually
from tests.fakes.nginx import Nginx, needs_nginx
from tests.fakes.plane import Plane
from tests.fakes.replicas import Replicas, replicas

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
        with self._sdk:
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


def test_nobody_sees_that_every_process_is_restarted(tmp_path: Path) -> None:
    with replicas(tmp_path) as whole:
        _restarted(whole)


def _restarted(whole: Replicas) -> None:
    control, redis, nginx = whole.control, whole.redis, whole.nginx
    clients = [Client(nginx, whole.secret, f"client{number}") for number in range(CLIENTS)]
    marks: list[str] = []

    def mark(what: str) -> None:
        marks.append(f"{time.monotonic():.3f} {what}")

    for client in clients:
        client.start()
    try:
        time.sleep(1)
        for number, gateway in enumerate(whole.gateways):
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
