"""A whole installation whose processes can be paused and whose cables can be cut: PostgreSQL, Redis, control, a gateway
and an upstream that speaks OpenAI's wire format.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.fakes.cable import Cable
from tests.fakes.databases import Server, server
from tests.fakes.gateway import Gateway, eventually, new_id
from tests.fakes.plane import Plane
from tests.fakes.redis_server import RedisServer
from tests.fakes.upstream import Upstream

Cables = dict[str, Cable]


@dataclass
class Stack:
    """Its parts; `cables` by what they lead to: `database`, `control`, `redis`, `upstream`."""

    database: Server
    redis: RedisServer
    control: Plane
    gateway: Gateway
    upstream: Upstream
    cables: Cables
    secret: str = ""
    answered: list[str] = field(default_factory=list)
    """Request ids that were answered with 200."""

    def ask(self) -> int:
        """Status of one request."""
        rid = new_id()
        status = self.gateway.chat("gpt", secret=self.secret, rid=rid).status
        if status == 200:
            self.answered.append(rid)
        return status

    def ledger(self) -> Counter[str]:
        """How often each request is in control's ledger."""
        rows: Counter[str] = Counter()
        before: int | None = None
        while True:
            page = self.control.get("/usage/requests", per_page=200, **({"before": before} if before else {}))
            rows.update(row["request_id"] for row in page["items"])
            before = page["before"]
            if before is None:
                return rows

    def settled(self, within: float) -> None:
        """Every answered request comes to be in the ledger, once."""
        eventually(
            lambda: set(self.answered) <= self.ledger().keys(), within, "an answered request is not in the ledger"
        )
        assert {rid: many for rid, many in self.ledger().items() if many != 1} == {}

    def known(self, within: float) -> None:
        """A change made in control is live in the gateway again."""
        secret = self.control.post("/keys", name=new_id()[:20])["secret"]
        eventually(lambda: self.gateway.chat("gpt", secret=secret).status == 200, within, "the new key is not known")


@contextmanager
def stack(folder: Path, database_url: str = "") -> Iterator[Stack]:
    """A running one, with the route `gpt` and a key. With `database_url`, that instead of PostgreSQL."""
    with ExitStack() as parts:
        database = parts.enter_context(server("postgresql"))
        redis = parts.enter_context(RedisServer())
        upstream = parts.enter_context(Upstream())
        cables = {
            "database": parts.enter_context(Cable(database.port)),
            "redis": parts.enter_context(Cable(redis.port)),
            "upstream": parts.enter_context(Cable(urlsplit(upstream.url).port or 0)),
        }
        url = database_url or database.new_url().replace(f":{database.port}/", f":{cables['database'].port}/")
        control = parts.enter_context(Plane(folder, url))
        cables["control"] = parts.enter_context(Cable(control.port))
        config = {
            "control": {"url": f"http://127.0.0.1:{cables['control'].port}", "token": "env:TOKEN"},
            "limits": {"backend": "redis", "url": f"redis://127.0.0.1:{cables['redis'].port}/0"},
        }
        (folder / "gateway").mkdir()
        gateway = parts.enter_context(Gateway(config, folder / "gateway", env={"TOKEN": control.service_token}))
        whole = Stack(database, redis, control, gateway, upstream, cables)
        _serve(whole)
        yield whole


def _serve(whole: Stack) -> None:
    control, port = whole.control, whole.cables["upstream"].port
    timeouts = {"connect": 1.0, "first_byte": 1.0, "idle": 1.0, "total": 10.0}
    spec = {"base_url": f"http://127.0.0.1:{port}/v1", "timeouts": timeouts}
    control.post("/endpoints", name="up", provider="openai", spec=spec)
    control.post("/endpoints/up/credentials", name="main", secret="sk-upstream-secret-0123456789")
    route = {"target": [{"endpoint": "up", "model": "one"}], "breaker": {"failures": 3, "cooldown": 0.5}}
    control.post("/routes", name="gpt", spec=route, grants=[{"principal_kind": "everyone"}])
    whole.secret = control.post("/keys", name="app", limits={"rpm": 1_000_000})["secret"]
    eventually(lambda: whole.ask() == 200, 10)


@contextmanager
def paused(*pids: int) -> Iterator[None]:
    """SIGSTOP for these processes, and SIGCONT at the end."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
