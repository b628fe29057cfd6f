"""PostgreSQL, Redis, control and three gateways behind nginx, all real, in front of an upstream that is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.databases import Server, server
from tests.fakes.gateway import Gateway, eventually
from tests.fakes.nginx import Nginx
from tests.fakes.plane import Plane
from tests.fakes.redis_server import RedisServer
from tests.fakes.upstream import Upstream
from tests.processes import free_port

MANY = 3
_PASSWORD = "let-me-in"


@dataclass(frozen=True, slots=True)
class Replicas:
    """Its parts. `secret` is of a key that may use the route `gpt`; nginx calls the gateways `localhost`."""

    database: Server
    redis: RedisServer
    control: Plane
    gateways: list[Gateway]
    upstream: Upstream
    nginx: Nginx
    secret: str


@contextmanager
def replicas(folder: Path) -> Iterator[Replicas]:
    """All of it, once every gateway knows the route and the key."""
    with ExitStack() as stack:
        database = stack.enter_context(server("postgresql"))
        redis = stack.enter_context(RedisServer(password=_PASSWORD))
        upstream = stack.enter_context(Upstream())
        control = stack.enter_context(Plane(folder, database.new_url()))
        gateways = []
        for number in range(MANY):
            place = folder / f"gateway-{number}"
            place.mkdir()
            config = {
                "gateway": {"listen": f"127.0.0.1:{free_port()}"},
                "control": {"url": control.url, "token": "env:TOKEN"},
                "limits": {"backend": "redis", "url": redis.url, "password": "env:REDIS"},
            }
            env = {"TOKEN": control.service_token, "REDIS": _PASSWORD}
            gateways.append(stack.enter_context(Gateway(config, place, env=env)))
        secret = _served(control, upstream)
        for gateway in gateways:
            eventually(lambda g=gateway: g.chat("gpt", secret=secret).status == 200, 10)
        urls = [gateway.url for gateway in gateways]
        nginx = stack.enter_context(Nginx(folder / "nginx", control.url, urls, gateway_name="localhost"))
        yield Replicas(database, redis, control, gateways, upstream, nginx, secret)


def _served(control: Plane, upstream: Upstream) -> str:
    control.post("/endpoints", name="up", provider="openai", spec={"base_url": f"{upstream.url}/v1"})
    control.post("/endpoints/up/credentials", name="main", secret="sk-upstream-secret-0123456789")
    spec = {"target": [{"endpoint": "up", "model": "one"}], "price": {"input": "1000", "output": "1000"}}
    control.post("/routes", name="gpt", spec=spec, grants=[{"principal_kind": "everyone"}])
    secret: str = control.post("/keys", name="app", limits={"rpm": 10_000_000, "concurrency": 1000})["secret"]
    return secret
