"""PostgreSQL, Redis, control and three gateways behind nginx, all real: each process is restarted under load, one after
another, and no client sees it.
"""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import pytest
import trustme
from openai import OpenAI, OpenAIError

from tests.fakes.databases import Server, server
from tests.fakes.gateway import Gateway, eventually
from tests.fakes.plane import Plane
from tests.fakes.redis_server import RedisServer
from tests.fakes.upstream import Upstream
from tests.integration.test_session import serve
from tests.processes import free_port

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CLIENTS = 6
pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
    pytest.mark.timeout(240),
]


class Nginx:
    """The site of charts/nginx for several gateways, on a port of its own."""

    def __init__(self, folder: Path, control: str, gateways: list[str]) -> None:
        folder.mkdir()
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        self.ca, self.folder, port = folder / "ca.pem", folder, free_port()
        self.url = f"https://localhost:{port}"
        text = (ROOT / "charts/nginx/tunegate.conf").read_text()
        for old, new in (
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("server_name llm.example.com", "server_name localhost"),
            ("server 127.0.0.1:8000 fail_timeout=1s;", " ".join(f"server {one} fail_timeout=1s;" for one in gateways)),
            ("server 127.0.0.1:8080;", f"server {control};"),
            *((f"/etc/ssl/{name}.example.com.{end}", str(folder / pem))
              for name in ("console", "llm") for end, pem in (("crt", "cert.pem"), ("key", "key.pem"))),
        ):  # fmt: skip
            assert old in text
            text = text.replace(old, new)
        (folder / "site.conf").write_text(text)
        folders = " ".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log off; {folders} include {folder}/site.conf; }}"
        )

    def __enter__(self) -> Nginx:
        command = [str(NGINX), "-c", str(self.folder / "nginx.conf"), "-e", str(self.folder / "error.log")]
        self.process = subprocess.Popen(command)
        eventually((self.folder / "pid").exists, 5, "nginx does not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)

    def reload(self) -> None:
        """New workers; the old ones finish what they have."""
        self.process.send_signal(signal.SIGHUP)


class Client(threading.Thread):
    """Asks one question after another, every other one as a stream."""

    def __init__(self, nginx: Nginx, secret: str, name: str) -> None:
        super().__init__()
        self.answered: list[str] = []
        self.failures: list[str] = []
        self.over = threading.Event()
        self._name = name
        http = httpx.Client(verify=ssl.create_default_context(cafile=nginx.ca), trust_env=False)
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
    addresses = [gateway.url.removeprefix("http://") for gateway in gateways]
    nginx = stack.enter_context(Nginx(tmp_path / "nginx", control.url.removeprefix("http://"), addresses))
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
