"""Settings of the job plane: the `[[engine]]` tables of config.toml, one local model server each, and `[trainer]`.

Frozen and read once at start. Of `[control]`, which the gateway has too, url and token are read: a worker has the same
way in. The other tables of the file belong to other planes and are not looked at.
"""

from __future__ import annotations

import os
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from trainer.contract.spec import RecipeName

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class SettingsError(Exception):
    """The configuration file cannot be used; the message says which setting and why."""


class Engine(BaseModel):
    """One local model server: which model it serves, where it listens, and how it is started."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    """In log lines and in the name of the engine's log file."""
    kind: Literal["vllm"] = "vllm"
    model: Path
    """Folder of the base model."""
    served_name: str = ""
    """Model name that requests use for the base model; the engine's name if empty."""
    adapters: dict[Name, Path] = Field(default_factory=dict)
    """LoRA adapters by the model name that requests use for them."""
    host: str = "127.0.0.1"
    """An engine has no keys of its own: keep it where only the gateway can reach it."""
    port: Annotated[int, Field(ge=1, le=65_535)]
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    """Tokens of prompt and answer together; the model's own limit if absent."""
    max_num_seqs: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Requests that are generated at the same time."""
    kv_cache_bytes: Annotated[int, Field(ge=1_048_576)] | None = None
    """Memory for attention caches. Absent: a share of all memory, so always set it on a CPU."""
    max_loras: Annotated[int, Field(ge=1, le=256)] | None = None
    """Adapter slots. Absent: one for each adapter and one more, which stays empty. Set fewer, to save memory, on a
    GPU only: vLLM 0.32 on a CPU runs requests for the base model with the weights of the last slot when others in
    the batch use adapters, so that with all slots filled the base answers as the last adapter."""
    max_cpu_loras: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Adapters that it keeps in main memory, at least as many as there are slots; all of them if absent. A request for
    another one waits until that is read from the disk again, in the place of the least recently used one."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Adapters with a higher rank are refused at start."""
    published_adapters: Annotated[int, Field(ge=0, le=256)] = 0
    """Adapters that control may have loaded while the engine runs, besides those of `adapters`. May be more than
    `max_loras`."""
    python: Path = Path(".venv-vllm/bin/python")
    """Interpreter of the environment that has vLLM installed."""
    env: dict[Variable, str] = Field(default_factory=dict)
    """Environment variables for the engine, such as CUDA_VISIBLE_DEVICES."""
    start_timeout: Annotated[float, Field(gt=0, le=7200)] = 300.0
    """Seconds from start to ready; a slower engine is stopped and started again."""
    log_dir: Path = Path("var/logs")
    """The engine writes engine-NAME.log here; the run before it is kept as engine-NAME.log.1."""

    @model_validator(mode="after")
    def _distinct_names(self) -> Engine:
        if self.base_name in self.adapters:
            raise ValueError(f"adapter {self.base_name!r} has the same name as the base model")
        if self.max_cpu_loras is not None and self.max_cpu_loras < self.slots:
            raise ValueError(f"max_cpu_loras: {self.slots} slots need as many adapters in main memory")
        return self

    @property
    def base_name(self) -> str:
        """Model name that requests use for the base model."""
        return self.served_name or self.name

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def slots(self) -> int:
        """Adapters that it can compute with at a time; 0: none at all."""
        wanted = len(self.adapters) + self.published_adapters
        return self.max_loras or (wanted + 1 if wanted else 0)  # the empty one: see `max_loras`

    @property
    def log_file(self) -> Path:
        """Where the engine's own output goes."""
        return self.log_dir / f"engine-{self.name}.log"


class ExternalEngine(BaseModel):
    """A model server that somebody else starts and stops: vLLM, SGLang, Ollama, KServe, whatever answers /v1/models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    """Another one than that of any engine here."""
    url: Annotated[str, StringConstraints(max_length=1024, pattern=r"^https?://[^/\s?#@]+(/[^\s?#@]*)?$")]
    """With or without `/v1`."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """The base model, as jobs call it (`base.id`): adapters of another one are not put there. A folder that is here is
    hashed, too."""
    api_key: str = ""
    """What it asks for as bearer token, as env:NAME or file:PATH; empty if it asks for none."""
    ca_file: Path | None = None
    """PEM bundle of the authority that signed its certificate."""
    adapters_dir: Path | None = None
    """Where it sees `adapters` of this worker's `data_dir`, by a shared folder; the same path if absent."""
    published_adapters: Annotated[int, Field(ge=0, le=256)] = 8
    """Most adapters that control puts there at a time."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Adapters with a higher rank are not put there."""


class Tracking(BaseModel):
    """Who hears of a job's figures besides control. A tracker never fails a job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    swanlab: Literal["disabled", "local", "offline", "cloud", "self-hosted"] = "disabled"
    """SwanLab; the last two need the network and a key (`swanlab login`)."""
    swanlab_host: str = ""
    """URL of a self-hosted SwanLab."""
    swanlab_dir: Path | None = None
    """Where SwanLab keeps its files, of all jobs together; absent: in the folder of each run, which goes with it."""
    swanlab_url: Annotated[str, StringConstraints(max_length=1024, pattern=r"^(https?://[^\s]+)?$")] = ""
    """Where browsers reach SwanLab's pages, of a server or of `swanlab watch DIR`: jobs' pages link to it. For the mode
    `local` the environment of the recipes must have that dashboard (`swanlab[dashboard]`)."""
    project: str = "tunegate"
    """SwanLab's project."""
    tensorboard: bool = True
    """Keep TensorBoard's files in the run's folder."""

    def told(self) -> dict[str, Any]:
        """What a run is told of it."""
        folder = "" if self.swanlab_dir is None else str(self.swanlab_dir.absolute())
        return self.model_dump(exclude={"swanlab_dir", "swanlab_url"}) | {"swanlab_dir": folder}


class RayTable(BaseModel):
    """`[trainer.ray]`: the cluster on which `runner = "ray"` runs jobs. It shares the worker's folders (`data_dir`, the
    interpreters, base models) under the same paths.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, StringConstraints(pattern=r"^https?://[^/\s?#]+[^\s?#]*$")] = "http://127.0.0.1:8265"
    """URL of the head's dashboard, which has the Jobs API. Who reaches it can run anything on the cluster."""
    token: str = ""
    """Token of a cluster with RAY_AUTH_MODE=token, as env:NAME or file:PATH; empty if the cluster asks for none."""
    lease: Annotated[float, Field(ge=3, le=600)] = 30.0
    """Seconds after which a node ends its share of a job whose head it does not hear any more."""


class SlurmTable(BaseModel):
    """`[trainer.slurm]`: the cluster on which `runner = "slurm"` runs jobs, by Slurm's commands on this machine. It
    shares the worker's folders under the same paths.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: Annotated[str, StringConstraints(pattern=r"^[\w.\-]*$")] = ""
    """Whose nodes are used; empty: all nodes, and Slurm's default partition."""
    options: tuple[Annotated[str, StringConstraints(pattern=r"^--")], ...] = ()
    """More options of sbatch, such as `--account=ml`, `--qos=high`, `--time=2-0`, `--cpus-per-task=8`."""
    python: str = "python3"
    """On the nodes, what starts the recipes' interpreter: any Python from 3.9 on."""
    gpu_memory_mib: Annotated[int, Field(ge=0)] = 0
    """MiB of each GPU, which Slurm does not tell. 0: not known, and no job is refused for want of it."""
    lease: Annotated[float, Field(ge=3, le=600)] = 30.0
    """Seconds after which a node ends its share of a job whose batch script it does not hear any more."""


class WorkerTable(BaseModel):
    """`[trainer]`: the worker that runs training jobs beside the GPUs. It needs `[control] url` and `token`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    """Name of this worker; the machine's if empty. Two workers have two names."""
    data_dir: Path = Path("var/trainer")
    """Runs with their checkpoints, rows, adapters of engines."""
    python: Path = Path(".venv-train/bin/python")
    """Interpreter of the environment that has the packages of the recipes."""
    llamafactory_python: Path = Path(".venv-llamafactory/bin/python")
    """The same of the recipe `llamafactory`, which `make llamafactory` fills."""
    runner: Literal["local", "ray", "slurm"] = "local"
    """Where jobs run: processes of this machine, of the Ray cluster of `[trainer.ray]`, or of the Slurm cluster of
    `[trainer.slurm]`."""
    ray: RayTable = RayTable()
    """The Ray cluster."""
    slurm: SlurmTable = SlurmTable()
    """The Slurm cluster."""
    slots: Annotated[int, Field(ge=1, le=256)] = 1
    """Without a GPU: how many jobs share the CPU, of each node of a cluster."""
    interval: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Seconds between heartbeats."""
    stop_grace: Annotated[float, Field(ge=0, le=600)] = 10.0
    """Seconds that runs have for a checkpoint when the worker is told to stop; their jobs go on later."""
    tracking: Tracking = Tracking()
    """SwanLab and TensorBoard."""
    otlp_endpoint: Annotated[str, StringConstraints(pattern=r"^(https?://[^\s?#@]+)?$")] = ""
    """OTLP/HTTP traces URL, such as http://127.0.0.1:4318/v1/traces: spans of jobs that were started in a recorded
    trace. Empty: no tracing. Needs the extra `otel`."""

    def interpreter(self, recipe: RecipeName) -> Path:
        """What runs a recipe."""
        return (self.llamafactory_python if recipe == "llamafactory" else self.python).absolute()

    @property
    def dashboard(self) -> str:
        """Where people see what the tracker has; empty where it has no pages."""
        mode, url = self.tracking.swanlab, self.tracking.swanlab_url
        packages = self.interpreter("lora_sft").parents[1].glob("lib/python*/site-packages/swanboard")
        has_pages = mode in ("cloud", "self-hosted") or (mode == "local" and any(packages))
        return url if has_pages else ""

    @property
    def worker_name(self) -> str:
        """As control calls it."""
        return self.name or socket.gethostname()


class ControlTable(BaseModel):
    """`[control]`, as far as a worker reads it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str | None = None
    """Base URL of control. Absent: no jobs, only the engines of the file."""
    token: str = ""
    """Service token, as env:NAME or file:PATH."""
    ca_file: Path | None = None
    """PEM bundle of the authority that signed its certificate."""


class Settings(BaseModel):
    """Engines and worker of one configuration file."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    engines: tuple[Engine, ...] = Field(default=(), alias="engine")
    external: tuple[ExternalEngine, ...] = Field(default=(), alias="external_engine")
    worker: WorkerTable = Field(default=WorkerTable(), alias="trainer")
    control: ControlTable = ControlTable()

    @model_validator(mode="after")
    def _no_clash(self) -> Settings:
        every: list[Engine | ExternalEngine] = [*self.engines, *self.external]
        for what, values in (
            ("name", [engine.name for engine in every]),
            ("address", [engine.url.rstrip("/").removesuffix("/v1") for engine in every]),
        ):
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"two engines have the {what} {value}")
        return self


def load(path: Path) -> Settings:
    """Read the `[[engine]]` tables of a configuration file; SettingsError names every mistake in them."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        if url := os.environ.get("TUNEGATE_CONTROL_URL"):
            tables["control"] = {**tables.get("control", {}), "url": url}
        return Settings.model_validate(tables)
    except OSError as exc:
        raise SettingsError(f"{path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: not valid TOML: {exc}") from exc
    except ValidationError as exc:
        raise SettingsError("\n".join(f"{path}: {_place(e['loc'])}{e['msg']}" for e in exc.errors())) from exc


def _place(location: tuple[int | str, ...]) -> str:
    """`('engine', 0, 'port')` as `[[engine]] 1: port: `, `('trainer', 'slots')` as `[trainer]: slots: `."""
    if not location:
        return ""
    table, *keys = location
    where = f"[[{table}]]" if table in ("engine", "external_engine") else f"[{table}]"
    match keys:
        case [int(number), *keys]:
            where = f"{where} {number + 1}"
    return ": ".join([where, *map(str, keys), ""])


def secret(reference: str, setting: str) -> str:
    """The text behind `env:NAME` or `file:PATH`. `setting`: whose value that is.

    Raises:
        SettingsError: it is neither, or there is nothing.
    """
    kind, _, rest = reference.partition(":")
    try:
        text = os.environ.get(rest, "") if kind == "env" else Path(rest).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise SettingsError(f"{setting}: cannot read {rest}: {exc.strerror}") from exc
    if kind not in ("env", "file") or not text:
        raise SettingsError(f"{setting}: write env:NAME or file:PATH of a token")
    return text
