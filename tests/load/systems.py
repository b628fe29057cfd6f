"""The systems under test: how each is installed, configured and started. All listen on 127.0.0.1 only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.processes import free_port

from . import install
from .native import KEY

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Place:
    """Where a system is to run."""

    work: Path
    """Empty folder for its files."""
    port: int
    upstream: int
    """Port of the scripted upstream."""
    tool: Path
    """What its `prepare` gave back."""

    def write(self, name: str, text: str) -> Path:
        """Write a configuration file, with the placeholders filled in."""
        values = {"PORT": self.port, "UPSTREAM": self.upstream, "KEY": KEY, "WORK": self.work}
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        path = self.work / name
        path.write_text(text)
        return path


@dataclass(frozen=True)
class Launch:
    """How to start a system and how to talk to it."""

    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    model: str = "bench"
    path: str = "/v1/chat/completions"
    port_pattern: str = ""
    """For a system that picks its port itself: a pattern over its output."""


@dataclass(frozen=True)
class System:
    """One row of the comparison."""

    title: str
    does: str
    """What it does per request, in a few words: rows are only comparable with this in mind."""
    prepare: Callable[[Path], Path]
    launch: Callable[[Place], Launch] | None
    """None: the load goes to the upstream itself."""
    start_seconds: float = 20.0


NGINX = """
daemon off; worker_processes 1; pid @WORK@/nginx.pid; error_log @WORK@/error.log;
events { worker_connections 16384; }
http {
  access_log off; tcp_nodelay on; keepalive_requests 1000000000; client_max_body_size 64m;
  client_body_buffer_size 2m;
  client_body_temp_path @WORK@/body; proxy_temp_path @WORK@/proxy; fastcgi_temp_path @WORK@/fastcgi;
  uwsgi_temp_path @WORK@/uwsgi; scgi_temp_path @WORK@/scgi;
  map $http_authorization $known { default 0; "Bearer @KEY@" 1; }
  upstream up { server 127.0.0.1:@UPSTREAM@; keepalive 4096; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:@PORT@ backlog=4096;
    location / {
      if ($known = 0) { return 401; }
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }
  }
}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  http-reuse always
  option http-no-delay
frontend in
  bind 127.0.0.1:@PORT@ backlog 4096
  http-request deny deny_status 401 unless { req.hdr(authorization) -m str "Bearer @KEY@" }
  default_backend up
backend up
  server one 127.0.0.1:@UPSTREAM@ pool-max-conn 4096
"""

LITELLM = """
model_list:
  - model_name: bench
    litellm_params: { model: openai/bench, api_base: "http://127.0.0.1:@UPSTREAM@/v1", api_key: sk-none }
general_settings: { master_key: @KEY@ }
"""

TENSORZERO = """
[gateway]
observability.enabled = false
[models.bench]
routing = ["up"]
[models.bench.providers.up]
type = "openai"
model_name = "bench"
api_base = "http://127.0.0.1:@UPSTREAM@/v1/"
api_key_location = "none"
"""

TENSORZERO_START = """
import sys, time
from tensorzero import tensorzero
gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False)
print("PORT", gateway.base_url, flush=True)
time.sleep(3600)
"""

# Portkey has no option for the address it binds: this is loaded before it and makes every listener local.
PORTKEY_LOOPBACK = """
const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (first, ...rest) {
  if (first && typeof first === "object") return listen.call(this, { ...first, host: "127.0.0.1" }, ...rest);
  return listen.call(this, first, "127.0.0.1", ...rest.filter((arg) => typeof arg === "function"));
};
"""

TUNEGATE = """
[gateway]
listen = "127.0.0.1:@PORT@"
workers = 1
data_dir = "@WORK@/data"

[[endpoint]]
name = "up"
provider = "@PROVIDER@"
base_url = "http://127.0.0.1:@UPSTREAM@/v1"
api_key = "file:@WORK@/upstream-key"
max_connections = 8192
max_queue = 8192

[[route]]
name = "bench"
@ROUTE@
[[route.target]]
endpoint = "up"
model = "bench-upstream"

@TEAM@
[[key]]
name = "bench"
sha256 = "@DIGEST@"
@LIMITS@
"""

# Every control that there is, all far too high to bite.
LIMITS = "limits = { rpm = 900000000, tpm = 900000000, concurrency = 1000000 }\n"
BUDGETS = """budget = [
  { amount = 900000000, window = "day", timezone = "Asia/Shanghai" },
  { amount = 900000000, window = "month" },
]
"""
PRICE = "price = { input = 2.5, cached_input = 1.25, output = 10 }\n"


def tunegate_config(*, controls: bool, provider: str = "openai") -> str:
    """The gateway's configuration, with all controls or with none but the key itself."""
    parts = {
        "PROVIDER": provider,
        "DIGEST": sha256(KEY.encode()).hexdigest(),
        "ROUTE": PRICE + LIMITS if controls else "",
        "TEAM": f'[[team]]\nname = "bench"\n{LIMITS}{BUDGETS}' if controls else "",
        "LIMITS": f'team = "bench"\nmodels = ["bench"]\n{LIMITS}{BUDGETS}' if controls else "",
    }
    text = TUNEGATE
    for key, value in parts.items():
        text = text.replace(f"@{key}@", value)
    return text


def _tunegate(place: Place, *, controls: bool, provider: str = "openai") -> Launch:
    place.write("upstream-key", "sk-none")
    config = place.write("config.toml", tunegate_config(controls=controls, provider=provider))
    return Launch([str(place.tool), "-m", "gateway", "serve", "--config", str(config)])


def _nginx(place: Place) -> Launch:
    config = place.write("nginx.conf", NGINX)
    return Launch([str(place.tool), "-p", str(place.work), "-c", str(config), "-e", str(place.work / "error.log")])


def _haproxy(place: Place) -> Launch:
    return Launch([str(place.tool), "-db", "-f", str(place.write("haproxy.cfg", HAPROXY))])


def _router(place: Place, command: list[str]) -> Launch:
    """vllm-router and sglang-router share their options."""
    options = {
        "--host": "127.0.0.1",
        "--port": str(place.port),
        "--worker-urls": f"http://127.0.0.1:{place.upstream}",
        "--policy": "round_robin",
        "--max-concurrent-requests": "8192",
        "--prometheus-host": "127.0.0.1",
        "--prometheus-port": str(free_port()),
        "--log-level": "error",
    }
    return Launch(command + [word for option in options.items() for word in option])


def _vllm_router(place: Place) -> Launch:
    return _router(place, [str(place.tool / "vllm-router")])


def _sglang_router(place: Place) -> Launch:
    return _router(place, [str(place.tool / "sglang-router"), "launch"])


def _tensorzero(place: Place) -> Launch:
    config = place.write("tensorzero.toml", TENSORZERO)
    return Launch(
        [str(place.tool / "python"), "-c", TENSORZERO_START, str(config)],
        model="tensorzero::model_name::bench",
        path="/openai/v1/chat/completions",
        port_pattern=r"PORT http://127\.0\.0\.1:(\d+)",
    )


def _litellm(place: Place) -> Launch:
    config = place.write("litellm.yaml", LITELLM)
    command = [
        str(place.tool / "litellm"),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(place.port),
    ]
    # Its price map is a file of the package; without this it is fetched from the network at start.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}
    return Launch([*command, "--num_workers", "1", "--telemetry", "False"], env=quiet)


def _portkey(place: Place) -> Launch:
    loopback = place.write("loopback.cjs", PORTKEY_LOOPBACK)
    command = ["node", "--require", str(loopback), str(place.tool), f"--port={place.port}", "--headless"]
    headers = ("x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{place.upstream}/v1")
    return Launch(command, env={"NODE_ENV": "production"}, headers=headers)


def _python(_: Path) -> Path:
    if not (REPO / "gateway" / "__main__.py").exists():
        raise install.Unavailable("gateway/__main__.py is not in this checkout")
    return Path(sys.executable)


def _nothing(cache: Path) -> Path:
    return cache


SYSTEMS: dict[str, System] = {
    "direct": System("no gateway", "the upstream itself: the harness's own cost", _nothing, None),
    "nginx": System("nginx `proxy_pass`", "key map", install.debian("nginx"), _nginx),
    "haproxy": System("haproxy", "key rule", install.debian("haproxy"), _haproxy),
    "tunegate": System(
        "Tunegate, all controls on",
        "key, model grant, rate, token, concurrency and budget limits at key, team and route, spool, metrics",
        _python,
        lambda place: _tunegate(place, controls=True),
    ),
    "tunegate-off": System(
        "Tunegate, controls off",
        "key, model grant, spool, metrics",
        _python,
        lambda place: _tunegate(place, controls=False),
    ),
    "tunegate-translated": System(
        "Tunegate, translating",
        "as with all controls on; the upstream speaks Anthropic's Messages API, the client chat completions",
        _python,
        lambda place: _tunegate(place, controls=True, provider="anthropic"),
    ),
    "vllm-router": System(
        "vllm-router 0.1.17 (Rust)",
        "routes; no key, limits or usage",
        install.pip("vllm-router==0.1.17"),
        _vllm_router,
    ),
    "sglang-router": System(
        "sglang-router 0.3.2 (Rust)",
        "routes; no key, limits or usage",
        install.pip("sglang-router==0.3.2"),
        _sglang_router,
    ),
    "tensorzero": System(
        "TensorZero 2026.6.0 (Rust)",
        "translates; no key, no database",
        install.pip("tensorzero==2026.6.0"),
        _tensorzero,
    ),
    "portkey": System(
        "Portkey 1.15.2 (Node)",
        "translates; no key",
        install.npm("@portkey-ai/gateway", "1.15.2", "build/start-server.js"),
        _portkey,
    ),
    "litellm": System(
        "LiteLLM proxy 1.106.2 (Python)",
        "key (master), no database",
        install.pip("litellm[proxy]==1.106.2"),
        _litellm,
        start_seconds=90.0,
    ),
}
