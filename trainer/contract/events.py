"""What a recipe tells while it runs: one JSON object a line in `events.jsonl`, flushed line by line.

This file is the truth about a run. Trackers see a metric after it was written here, and control takes the lines by
number, so that each is taken once whatever restarts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Failure = Literal["oom", "data", "config", "disk", "checkpoint", "infra", "stall", "timeout", "unknown"]
"""Why an attempt failed: what may be tried again, and with what, depends on it."""


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    at: float
    """Seconds since 1970."""


class Started(_Event):
    """The first step is about to be computed."""

    kind: Literal["started"] = "started"
    total_steps: int
    first_step: int = 0
    """Steps that a checkpoint has already."""
    device: str
    """Such as `cpu` or `NVIDIA H100 80GB HBM3`."""
    processes: int = 1
    parameters: int = 0
    """Of the model with its adapter."""
    trainable: int = 0
    rows: int = 0
    tokens: int = 0
    """Of one pass over the training rows, after cutting."""
    truncated: int = 0
    """Rows that were longer than `max_length`."""


class Metrics(_Event):
    """Figures of a step: `loss`, `eval_loss`, `learning_rate`, `grad_norm`, `epoch`, `tokens_per_second`, `memory_mib`,
    `gpu_percent`. A step may come twice, after going on from a checkpoint: the later one counts.
    """

    kind: Literal["metrics"] = "metrics"
    step: int
    values: dict[str, float]


class Checkpoint(_Event):
    """A checkpoint is whole on disk."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: int
    folder: str
    """Relative to the run's folder."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file."""
    size: int = 0
    """Bytes."""


class Sample(_Event):
    """What the model said to one of the spec's prompts."""

    kind: Literal["sample"] = "sample"
    step: int
    prompt: str
    text: str


class Warned(_Event):
    """Something that does not stop the run, such as a tracker that does not answer."""

    kind: Literal["warned"] = "warned"
    message: str


class Phase(_Event):
    """What the run does from now on, after its last step."""

    kind: Literal["phase"] = "phase"
    name: Literal["keep", "evaluate"]
    """It writes what came out; it asks the questions of the spec's `eval`."""


class Finished(_Event):
    """The last line of a run that ended by itself."""

    kind: Literal["finished"] = "finished"
    outcome: Literal["completed", "stopped", "failed"]
    """Stopped: it was asked to, and a checkpoint is there."""
    step: int = 0
    failure: Failure | None = None
    message: str = ""
    """What failed and what to do, with numbers."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """The last of each."""
    output: str = ""
    """Folder of the adapter (or, of full_sft, of the model), relative to the run's folder."""
    details: dict[str, Any] = Field(default_factory=dict)
    """For the adapter's card: versions of the libraries, SHA-256 of the base model's weights and of the template."""


Event = Annotated[
    Started | Metrics | Checkpoint | Sample | Warned | Phase | Finished,
    Field(discriminator="kind"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads one line."""
