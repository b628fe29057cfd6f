"""What the first `tunegate up` writes: a configuration that works at once, and the first API key."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

ADAPTERS = ("alpha", "beta")

_HEAD = """\
# Written by the first `tunegate up`; it is yours to edit and is not written again. config.example.toml in the
# source tree documents every key. Endpoints, routes and keys are live within a second of saving; the other
# tables are read at start.

[gateway]
listen = {listen}
data_dir = {gateway_dir}
drain_timeout = 3.0  # `tunegate up` stops everything within 10 seconds

[[endpoint]]
name = "dummy"
provider = "dummy"  # answers by itself
"""

_LOCAL = """
[[endpoint]]
name = "local"
provider = "vllm"
base_url = "http://127.0.0.1:{port}/v1"
"""

_ROUTE = """
[[route]]
name = {name}
price = {{ input = {input}, output = {output} }}  # per million tokens
[[route.target]]
endpoint = {endpoint}
model = {name}
"""

_KEY = """
[[key]]
name = "first"
sha256 = "{digest}"  # of the key in {key_file}
limits = {{ rpm = 600, tpm = 1000000, concurrency = 64 }}
budget = [{{ amount = 10, window = "day" }}]
"""

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
max_lora_rank = 8
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


def new_key() -> str:
    """A new API key: 256 random bits."""
    return "sk-tg-" + secrets.token_urlsafe(32)


def config_text(files: Files, listen: str, key: str, engine: LocalEngine | None) -> str:
    """The first configuration; without an engine its models are answered by the dummy provider."""
    parts = [_HEAD.format(listen=_toml(listen), gateway_dir=_toml(files.data / "gateway"))]
    if engine is not None:
        parts.append(_LOCAL.format(port=engine.port))
    endpoint = "dummy" if engine is None else "local"
    for name, input_price, output_price in (("tiny", 0.1, 0.4), ("alpha", 0.2, 0.8), ("beta", 0.2, 0.8)):
        parts.append(_route(name, endpoint, input_price, output_price))
    parts.append(_route("dummy", "dummy", 0.0, 0.0))
    digest = hashlib.sha256(key.encode("ascii")).hexdigest()
    parts.append(_KEY.format(digest=digest, key_file=files.first_key.name))
    if engine is not None:
        parts.append(
            _ENGINE.format(
                model=_toml(files.model / "base"),
                alpha=_toml(files.model / "alpha"),
                beta=_toml(files.model / "beta"),
                port=engine.port,
                python=_toml(engine.python),
                logs=_toml(files.data / "logs"),
            )
        )
    return "".join(parts)


def write(files: Files, listen: str, engine: LocalEngine | None) -> None:
    """Write the key and then the configuration: when the configuration is there, everything is."""
    key = new_key()
    write_private(files.first_key, key + "\n")
    write_private(files.config, config_text(files, listen, key, engine))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _route(name: str, endpoint: str, input_price: float, output_price: float) -> str:
    return _ROUTE.format(name=_toml(name), endpoint=_toml(endpoint), input=input_price, output=output_price)


def _toml(value: object) -> str:
    """A TOML string: its escapes are JSON's, as long as characters beyond ASCII stay what they are."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
