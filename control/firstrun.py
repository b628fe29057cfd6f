"""What the first `tunegate up` writes: a configuration that works at once, and the first secrets."""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEAD = """\
# Written by the first `tunegate up`; it is yours to edit and is not written again. config.example.toml in the
# source tree documents every key. All of this is read at start: endpoints, routes, teams and keys are in the console.

[gateway]
listen = {listen}
data_dir = {gateway_dir}
drain_timeout = 3.0  # `tunegate up` stops everything within 10 seconds

[control]
url = {control_url}
token = {token}

[console]
listen = {console}
data_dir = {control_dir}
allow_private_upstreams = true  # this machine's own model servers may be tested

[trainer]
name = "local"
data_dir = {trainer_dir}
python = {train_python}
stop_grace = 3.0
tracking = {{ swanlab = "local" }}
"""

_TRAIN_PYTHON = Path(".venv-train/bin/python")
"""Of the environment that `make install` fills for training jobs."""
_ENGINE = """
[[engine]]
name = "tiny"
kind = "vllm"
model = {model}
adapters = {{ alpha = {alpha}, beta = {beta} }}
port = {port}
dtype = "float32"
max_model_len = 1024
max_num_seqs = 16
kv_cache_bytes = 67108864
max_lora_rank = 16
published_adapters = 8
python = {python}
log_dir = {logs}
env = {{ OMP_NUM_THREADS = "1", VLLM_CPU_OMP_THREADS_BIND = "nobind" }}  # more threads gain nothing here
"""


@dataclass(frozen=True, slots=True)
class Files:
    """Where things live in a data directory."""

    data: Path

    @property
    def config(self) -> Path:
        """The configuration of all planes."""
        return self.data / "config.toml"

    @property
    def first_key(self) -> Path:
        """The first API key, readable by its owner only."""
        return self.data / "first-key"

    @property
    def first_password(self) -> Path:
        """The admin's first password, likewise."""
        return self.data / "first-password"

    @property
    def service_token(self) -> Path:
        """What the gateway shows to control, likewise."""
        return self.data / "service-token"

    @property
    def model(self) -> Path:
        """The tiny base model and its adapters."""
        return self.data / "models" / "tiny"


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """The vLLM server that the first configuration describes."""

    python: Path
    port: int


def has_vllm(python: Path) -> bool:
    """Whether this interpreter's environment has vLLM installed; looks only at files, which takes no time."""
    packages = python.parent.parent.glob("lib/python3*/site-packages/vllm/__init__.py")
    return python.exists() and any(packages)


def free_port(preferred: int) -> int:
    """The preferred loopback port, or one that the system chooses when that is taken."""
    if not port_taken("127.0.0.1", preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_taken(host: str, port: int) -> bool:
    """Whether another program listens on an address, or we may not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def make_secrets(files: Files) -> dict[str, str]:
    """The first password, service token and API key: made, and written, where they are not there yet."""
    made = {}
    for name, path, prefix, size in (
        ("password", files.first_password, "", 15),
        ("service_token", files.service_token, "st-tg-", 32),
        ("api_key", files.first_key, "sk-tg-", 32),
    ):
        if not path.exists():
            write_private(path, f"{prefix}{secrets.token_urlsafe(size)}\n")
        made[name] = path.read_text(encoding="ascii").strip()
    return made


def served(engine: LocalEngine | None) -> dict[str, list[dict[str, Any]]]:
    """Endpoints and routes of the first run; without an engine its models are answered by the dummy provider."""
    endpoints: list[dict[str, Any]] = [{"name": "dummy", "provider": "dummy"}]
    if engine is not None:
        endpoints.append({"name": "local", "provider": "vllm", "base_url": f"http://127.0.0.1:{engine.port}/v1"})
    routes = [
        {
            "name": name,
            "target": [{"endpoint": "dummy" if engine is None or name == "dummy" else "local", "model": name}],
            "price": {"input": input_price, "output": output_price},
        }
        for name, input_price, output_price in (
            ("tiny", "0.1", "0.4"),
            ("alpha", "0.2", "0.8"),
            ("beta", "0.2", "0.8"),
            ("dummy", "0", "0"),
        )
    ]
    return {"endpoints": endpoints, "routes": routes}


def config_text(files: Files, listen: str, console: str, engine: LocalEngine | None) -> str:
    """The first configuration."""
    text = _HEAD.format(
        listen=_toml(listen),
        gateway_dir=_toml(files.data / "gateway"),
        control_url=_toml(f"http://{console}"),
        token=_toml(f"file:{files.service_token}"),
        console=_toml(console),
        control_dir=_toml(files.data / "control"),
        trainer_dir=_toml(files.data / "trainer"),
        train_python=_toml(_TRAIN_PYTHON.absolute()),
    )
    if engine is None:
        return text
    return text + _ENGINE.format(
        model=_toml(files.model / "base"),
        alpha=_toml(files.model / "alpha"),
        beta=_toml(files.model / "beta"),
        port=engine.port,
        python=_toml(engine.python),
        logs=_toml(files.data / "logs"),
    )


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _toml(value: object) -> str:
    """A TOML string: its escapes are JSON's, as long as characters beyond ASCII stay what they are."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
