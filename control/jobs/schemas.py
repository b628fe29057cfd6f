"""Bodies of training jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from control.jobs.states import State
from control.kit.schemas import A_MOMENT, Body, Flag, Slug, example
from trainer.contract.spec import JobSpec

Priority = Annotated[int, Field(strict=True, ge=-100, le=100)]
Retries = Annotated[int, Field(strict=True, ge=0, le=20)]

SPEC: dict[str, Any] = {
    "name": "support-bot", "recipe": "lora_sft", "base": {"source": "path", "id": "/models/qwen3-8b"},
    "data": {"train": "support-dialogues@1", "validation_share": 0.1}, "lora": {"r": 16, "alpha": 32},
    "training": {"epochs": 3, "eval_every": 50},
}  # fmt: skip


class JobCheck(Body):
    """A job that somebody thinks of."""

    model_config = example(spec=SPEC)

    spec: JobSpec
    """What is trained from what, and how."""


class JobCreate(JobCheck):
    """A new job."""

    model_config = example(JobCheck, priority=0)

    team: Slug | None = None
    """Whose it is, and whose quota it counts for; yours if absent."""
    priority: Priority = 0
    """Higher goes first."""
    max_retries: Retries = 2
    """Failures that are not the job's own fault, and come before it has got any further, are tried again so often."""
    draft: Flag = False
    """Keep it, and queue it later."""
    cloned_from: Slug | None = None
    """The job whose settings were taken."""


class JobUpdate(Body):
    """Changes of a job that waits or runs."""

    model_config = example(priority=10)

    priority: Priority
    """Higher goes first."""


class JobWarning(BaseModel):
    """Something about a job that is better known before it runs."""

    code: Literal["servable", "fit"]
    """servable: engines will refuse the result. fit: it will not fit, or hardly."""
    message: str
    """The rule, and the setting to change."""


class Estimate(BaseModel):
    """What a job is going to take."""

    steps: int | None
    tokens: int | None
    """Of all epochs together."""
    memory_mib: int | None
    """Of a device, at its peak."""
    seconds: float | None
    fits: bool | None
    """Null: nobody knows the model here, or the worker's memory."""
    advice: str


class JobChecked(BaseModel):
    """What is known of a job before it is queued."""

    model_config = example(
        warnings=[{"code": "servable", "message": "…"}],
        estimate={"steps": 75, "tokens": 120000, "memory_mib": 900, "seconds": None, "fits": True, "advice": ""},
        refused="",
    )  # fmt: skip

    warnings: list[JobWarning]
    estimate: Estimate
    refused: str
    """Why it cannot be queued; empty: it can."""


class Job(BaseModel):
    """A job in a list."""

    model_config = example(
        name="support-bot", recipe="lora_sft", base="/models/qwen3-8b", owner_kind="user", owner="alice", mine=True,
        state="running", wanted="run", failure="", message="", priority=0, devices=1, worker="gpu-1", attempts=1,
        step=30, total_steps=75, latest={"loss": 1.23}, eta_seconds=120.0, position=None, waits_for="",
        adapter=None, queued_at=A_MOMENT, started_at=A_MOMENT, ended_at=None, created_at=A_MOMENT, created_by="alice",
    )  # fmt: skip

    name: str
    recipe: str
    base: str
    owner_kind: Literal["user", "team"]
    owner: str
    mine: bool
    """Whether you may change it."""
    state: State
    wanted: Literal["run", "pause", "cancel"]
    failure: str
    message: str
    """Why it failed, or why it was tried again."""
    priority: int
    devices: int
    worker: str
    attempts: int
    step: int
    total_steps: int
    latest: dict[str, float]
    """Last value of each metric."""
    eta_seconds: float | None
    """Until its last step, at the speed of its last steps."""
    position: int | None
    """In the queue, from 1."""
    waits_for: str
    """Why it waits."""
    adapter: str | None
    """What came out of it: `name@vN`."""
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    created_by: str


class JobEvent(BaseModel):
    """Something that happened to a job."""

    at: datetime
    attempt: int
    state_before: str
    state: str
    actor: str
    message: str


class Attempt(BaseModel):
    """One run of a job."""

    number: int
    worker: str
    state: Literal["ordered", "preparing", "running", "finalizing", "ended", "lost"]
    devices: list[str]
    device: str
    """Such as `cpu`."""
    resume: bool
    exit_status: int | None
    failure: str
    message: str
    log_bytes: int
    plan: dict[str, Any]
    """Settings that differ from the job's."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class Checkpoint(BaseModel):
    """A state from which the job can go on."""

    step: int
    attempt: int
    at: datetime
    folder: str
    size: int


class Sample(BaseModel):
    """What the model said to a prompt."""

    step: int
    number: int
    prompt: str
    text: str


class JobData(BaseModel):
    """A dataset version that a job learns from."""

    name: str
    number: int
    sha256: str
    rows: int


class JobDetail(Job):
    """A job with its history."""

    model_config = example(
        Job, spec=SPEC, data={"train": {"name": "support-dialogues", "number": 1, "sha256": "0" * 64, "rows": 100}},
        warnings=[], estimate=None, retries=0, max_retries=2, cloned_from="", dashboard="", events=[], runs=[],
        checkpoints=[], samples=[],
    )  # fmt: skip

    spec: JobSpec
    data: dict[str, JobData]
    """`train`, `validation` and `evaluation`, as far as it has them."""
    warnings: list[JobWarning]
    estimate: Estimate | None
    retries: int
    max_retries: int
    cloned_from: str
    dashboard: str
    """URL of the pages of a tracker, such as SwanLab, at the worker of its last run; empty: there are none."""
    events: list[JobEvent]
    runs: list[Attempt]
    """The newest first."""
    checkpoints: list[Checkpoint]
    samples: list[Sample]


class MetricPoint(BaseModel):
    """The figures of a step."""

    step: int
    attempt: int
    at: datetime
    values: dict[str, float]


class Metrics(BaseModel):
    """Figures of a job, by step."""

    model_config = example(items=[{"step": 1, "attempt": 1, "at": A_MOMENT, "values": {"loss": 2.5}}])

    items: list[MetricPoint]


class LogPiece(BaseModel):
    """Part of the log of an attempt."""

    model_config = example(text="step 1\n", next=7, size=7)

    text: str
    next: int
    """Offset of the byte that follows."""
    size: int
    """Bytes that there are."""


class LogMatch(BaseModel):
    """A line of a log that was searched for."""

    line: int
    offset: int
    text: str


class LogMatches(BaseModel):
    """Lines of a log that contain a text."""

    model_config = example(items=[{"line": 1, "offset": 0, "text": "step 1"}], more=False)

    items: list[LogMatch]
    more: bool
    """There are more than these."""
