"""What a worker and control say to each other. The worker calls; control never does.

POST /internal/v1/trainer/sync                        WorkerStatus → Orders, every few seconds: the heartbeat
POST /internal/v1/trainer/attempts/{id}/events        EventBatch → Taken
POST /internal/v1/trainer/attempts/{id}/log?offset=N  bytes of the log → Taken
GET  /internal/v1/trainer/data/{version}/{split}      rows of a dataset version, of a `Split`
PUT  /internal/v1/trainer/attempts/{id}/files/{path}  a file of the adapter, streamed, `x-sha256` its hash
GET  /internal/v1/trainer/adapters/{id}/files/{path}  a file of an adapter
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from trainer.contract.spec import BaseModelRef, JobSpec, Line, RecipeName, Sha256

Whole = Annotated[int, Field(strict=True)]
"""A number, and not true or "1"."""
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""What any database takes."""
BINS = 2048
"""Most bins of a histogram of token lengths."""
MODELS = 200
"""Most model names that are told of an engine."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Device(_Message):
    """A GPU, or where there is none a slot of the CPU: what one process of a job or one engine has for itself."""

    index: Whole
    uuid: str
    """Of the GPU; `cpu-0`, `cpu-1`, … of a slot."""
    name: str
    memory_mib: Whole
    used_mib: Whole = 0
    percent: Whole = 0
    """How busy it was in the last second."""
    node: str = ""
    """The machine of the worker's cluster that it is in; empty where the worker is one machine."""
    held_by: str = ""
    """`engine NAME` where one of the worker's engines has it."""


AttemptState = Literal["preparing", "running", "finalizing", "ended"]
"""finalizing: its process has ended, and what it made is being sent. ended: control has all of its events, its log
and the files of its adapter."""


class AttemptStatus(_Message):
    """An attempt that this worker runs or has run and not been told to forget."""

    attempt: str
    state: AttemptState
    exit_status: Whole | None = None
    """Of the recipe; negative: the signal. None while it runs, and where it was lost with the worker."""
    failure: str = ""
    """Why it could not run at all, where no event of its own says so."""


class EngineAdapter(_Message):
    """An adapter in an engine."""

    name: str
    """As requests call it: `support-bot@v3`."""
    state: Literal["waiting", "loading", "loaded", "evicted", "failed"]
    message: str = ""


class EngineStatus(_Message):
    """A local model server of this worker."""

    name: str
    base: str
    """Model name of the base model."""
    model: str
    """Folder of the base model."""
    base_sha256: str = ""
    """Of the base model's weights: an adapter of other weights is not loaded."""
    url: str
    external: StrictBool = False
    """Somebody else starts and stops it."""
    state: Literal["starting", "ready", "failed"]
    message: Annotated[Text, Field(max_length=1000)] = ""
    """Why it is not ready, where that is known."""
    latency_ms: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None
    """How long its last answer to `GET /v1/models` took."""
    models: tuple[Text, ...] = Field((), max_length=MODELS)
    """Model names that it answers to: base models, and adapters whoever has put them there."""
    max_loras: Whole
    max_lora_rank: Whole
    adapters: tuple[EngineAdapter, ...] = ()


class LengthBin(_Message):
    """Rows of about one length."""

    to: Whole
    """Tokens of the longest that are counted here; the bin before says where it begins."""
    rows: Whole


class TokenLengths(_Message):
    """How long the rows of a dataset version are in tokens of a base model, uncut."""

    rows: Whole
    total: Whole
    min: Whole
    p50: Whole
    p95: Whole
    max: Whole
    width: Whole
    """Of the bins, each of which ends at a multiple of it."""
    bins: tuple[LengthBin, ...] = Field(max_length=BINS)
    """From short to long; empty ones are left out."""


class CountStatus(_Message):
    """A count that has ended on this worker."""

    count: str
    lengths: TokenLengths | None = None
    """None: it failed."""
    failure: str = ""


class WorkerStatus(_Message):
    """The heartbeat."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "worker": "gpu-1", "boot": "8f14e45f", "version": "0.1.0", "recipes": ["lora_sft"],
                    "devices": [{"index": 0, "uuid": "GPU-1", "name": "NVIDIA H100", "memory_mib": 81559}],
                    "attempts": [{"attempt": "01936f3a-0000-7000-8000-000000000001", "state": "running"}],
                }
            ]
        }
    )  # fmt: skip

    worker: Line
    """Name of this worker; two workers have two names."""
    boot: str
    """Changes with every start of the worker."""
    version: str
    recipes: tuple[RecipeName, ...] = ()
    """That can run here: their environments are there."""
    devices: tuple[Device, ...] = ()
    attempts: tuple[AttemptStatus, ...] = ()
    jobs: tuple[Text, ...] = ()
    """Of which it has checkpoints or other files."""
    engines: tuple[EngineStatus, ...] = ()
    counts: tuple[CountStatus, ...] = ()
    dashboard: Annotated[str, Field(max_length=1024, pattern=r"^(https?://[^\s\x00-\x1f]+)?$")] = ""
    """URL of a tracker's pages about its jobs; empty: there are none."""


Split = Literal["train", "validation", "evaluation"]
"""What a job does with rows: it learns, measures its loss, or is asked questions."""


class DataFile(_Message):
    """Rows to fetch, unless a file of this hash is there already."""

    version: str
    split: Split
    sha256: Sha256
    rows: int


class AdapterFiles(_Message):
    """An adapter to fetch."""

    adapter: str
    """Id of the adapter version."""
    base_sha256: str = ""
    """Of the weights on which it was trained, where that is known."""
    files: dict[str, Sha256]


class AttemptOrder(_Message):
    """Run this. Repeated in every answer until the worker lists the attempt."""

    attempt: str
    job: str
    number: int
    """1, 2, … of the job's attempts."""
    spec: JobSpec
    """With what the plan after an out-of-memory failure changed."""
    data: tuple[DataFile, ...] = ()
    adapter: AdapterFiles | None = None
    """Of the recipes that take one (`OF_AN_ADAPTER`)."""
    devices: tuple[str, ...] = ()
    """UUIDs."""
    resume: bool = False
    """Go on from the last good checkpoint in the job's folder."""
    trace: str = ""
    """W3C's `traceparent` of the call that started the job; empty: it belongs to no recorded trace."""


class StopOrder(_Message):
    """End this attempt: with a checkpoint, then firmly after `grace` seconds."""

    attempt: str
    grace: float = 60.0


class Probe(_Message):
    """What the adapter answered after training, greedily: the engine must say the same before it takes traffic."""

    messages: list[dict[str, Any]]
    text: str


class AdapterOrder(AdapterFiles):
    """An adapter that an engine should have."""

    name: str
    """As requests call it."""
    probes: tuple[Probe, ...] = ()


class EngineOrder(_Message):
    """All adapters that an engine should have; others that this worker loaded are unloaded."""

    engine: str
    adapters: tuple[AdapterOrder, ...] = ()


class CountOrder(_Message):
    """Count the tokens of a dataset version's rows. Repeated until control has heard of the end."""

    count: str
    base: BaseModelRef
    data: DataFile


class Orders(_Message):
    """What control wants of a worker now."""

    start: tuple[AttemptOrder, ...] = ()
    stop: tuple[StopOrder, ...] = ()
    forget: tuple[str, ...] = ()
    """Attempts whose end is stored: not to be reported any more."""
    over: tuple[str, ...] = ()
    """Jobs of which no attempt will follow: their files are not needed any more."""
    unknown: tuple[str, ...] = ()
    """Jobs of which control has no trace, though the worker has files of them: nothing of them is removed."""
    engines: tuple[EngineOrder, ...] = ()
    counts: tuple[CountOrder, ...] = ()
    """A count that is not here any more is ended."""
    lease_seconds: float = 30.0
    """A worker that has not reached control for so long must take its attempts for lost, and end them."""


class EventBatch(_Message):
    """Lines of an attempt's `events.jsonl`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"first": 0, "lines": [{"kind": "metrics", "at": 1796774400.0, "step": 1, "values": {"loss": 2.31}}]}
            ]
        }
    )

    first: Whole = Field(ge=0)
    """Number of the first one, from 0."""
    lines: list[dict[str, Any]] = Field(max_length=1000)


class Taken(_Message):
    """How far control has it."""

    next: int
    """Number of the line, or offset of the byte, that should come next."""
