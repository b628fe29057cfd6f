"""Bodies of adapters and their versions."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator

from control.comparisons.gate import A_GATE, Gate
from control.comparisons.run_schemas import Nano
from control.comparisons.scorers.specs import Label
from control.kit.schemas import A_MOMENT, Body, Note, RowVersion, Slug, example
from gateway.contract.snapshot import Price
from trainer.contract.evaluation import Evaluated
from trainer.contract.spec import BaseModelRef

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
EngineName = Annotated[str, StringConstraints(max_length=120)]


class AdapterCreate(Body):
    """A new adapter, for versions that were trained elsewhere."""

    model_config = example(name="support-bot", description="Tone of the help desk")

    name: Slug
    """Its published route is called so. Never changes and is never reused."""
    description: Note = ""
    """What it is for."""
    team: Slug | None = None
    """Whose it is; yours if absent."""


class AdapterUpdate(Body):
    """Changes of an adapter."""

    model_config = example(row_version=1, description="Tone of the help desk, 2026")

    row_version: RowVersion
    """From the last read."""
    description: Note
    """What it is for."""
    gate: Gate | None = None
    """What each version has to pass before it is published; null: nothing. As it is if absent."""


class AdapterVersionCreate(Body):
    """A folder in the format of PEFT that is going to be sent, file by file."""

    model_config = example(base={"source": "path", "id": "/models/qwen3-8b"})

    base: BaseModelRef
    """What it was trained on."""


class AdapterFile(BaseModel):
    """A file of a version."""

    path: str
    size: int
    sha256: str


class LearnedFrom(BaseModel):
    """A dataset version that an adapter version has learned from."""

    name: str
    number: int
    sha256: str


class EngineRef(Body):
    """An engine of a worker."""

    worker: EngineName
    """Name of the worker."""
    engine: EngineName
    """Name of the engine there."""


class Deploy(Body):
    """Where a version should be, and what its adapter's name should lead to then."""

    model_config = example(share=0.1)

    engines: Annotated[tuple[EngineRef, ...], Field(min_length=1, max_length=200)] | None = None
    """All that can have it, if absent."""
    share: Share = 0.0
    """Once it is live: of the requests to the adapter's name. 0: it is reached as `name@vN` only. The first version
    that is published has all."""
    price: Price | None = None
    """Of its answers; if absent what it cost before, else what its base model costs at these engines."""
    gate: Gate | None = None
    """What it has to pass before it has its share; the adapter's own if absent."""


class ArmFigures(BaseModel):
    """What the ledger says about attempts at some versions."""

    attempts: int = 0
    failed: int = 0
    p95_ms: float | None = None
    """Of the time to the first content of good answers."""


class Promote(Body):
    """How many requests to the adapter's name a version answers."""

    model_config = example(share=1.0)

    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    """1: all of them."""
    price: Price | None = None
    """Of its answers; as it is if absent."""
    gate: Gate | None = None
    """What it has to pass first; the adapter's own if absent."""


_A_RULE: dict[str, Any] = {
    "steps": [0.1, 0.5, 1.0], "min_requests": 100, "max_error_rate": 0.02, "max_latency_ratio": 2.0,
}  # fmt: skip


_A_SCORE: dict[str, Any] = {
    "suite": "support-questions", "version": 1, "scorer": "good", "cases": "requests", "margin": 0.05, "alpha": 0.05,
    "min_samples": 40, "max_samples": 500, "at_max": "roll_back", "key": None, "budget_nano": None,
}  # fmt: skip


class ScoreRule(Body):
    """By which scores a canary is not worse than the version before it: both are asked the same, and a test that may
    look after every sample decides."""

    model_config = example(**_A_SCORE)

    suite: Slug
    """Whose scorer decides."""
    version: Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)] | None = None
    """Of the suite; the newest one when the rollout begins, if absent."""
    scorer: Label
    """Or judge, by its name in the suite."""
    cases: Literal["requests", "suite"] = "requests"
    """What is asked: what the request log keeps of the adapter's route, drawn by chance as it comes (needs the
    permission to read bodies), or cases of the suite, drawn by chance again and again."""
    margin: Annotated[float, Field(ge=0.001, le=1, allow_inf_nan=False)] = 0.05
    """So much lower may the mean score be, of 1."""
    alpha: Annotated[float, Field(ge=0.0001, le=0.5, allow_inf_nan=False)] = 0.05
    """Chance of a wrong decision, however often one looks; half of it of taking a worse version."""
    min_samples: Annotated[int, Field(strict=True, ge=1, le=5000)] = 40
    """Pairs of scores before anything is decided."""
    max_samples: Annotated[int, Field(strict=True, ge=1, le=5000)] = 500
    """Most questions."""
    at_max: Literal["roll_back", "hold"] = "roll_back"
    """What becomes of a version that cannot be told from a worse one then: it goes, or the rollout ends where it is."""
    key: Annotated[str, StringConstraints(min_length=1, max_length=250)] | None = None
    """API key that pays; absent: the one named `comparisons` of whoever begins."""
    budget_nano: Nano | None = None
    """Once all questions have cost as much, no more are asked."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.min_samples > self.max_samples:
            raise ValueError("min_samples is more than max_samples: nothing would ever be decided")
        return self


class RolloutRule(Body):
    """How a version takes over its adapter's name, and when it is taken back."""

    model_config = example(**_A_RULE)

    steps: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)], ...], Field(min_length=1, max_length=20)
    ] = (0.1, 0.5, 1.0)
    """Shares of the requests, each more than the one before."""
    min_requests: Annotated[int, Field(strict=True, ge=1, le=4000)] = 100
    """Attempts at the version in a step, before the next step is taken."""
    max_error_rate: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.02
    """A step with more failed attempts, and more often than at the other versions, ends the rollout."""
    max_latency_ratio: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] | None = 2.0
    """The p95 of the time to the first content may be so many times the other versions'; null: it may be any."""
    score: ScoreRule | None = None
    """Scores by which the first step is left, or the version goes; null: errors and latency alone decide."""

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(steps)):
            raise ValueError("each step is more than the one before")
        return steps


class RollOut(RolloutRule):
    """A rule, and what the version has to pass first."""

    gate: Gate | None = None
    """The adapter's own if absent."""


class GateTry(BaseModel):
    """A version that is asked a suite before it is published."""

    model_config = example(
        number=2, served_name="support-bot@v2", gate=A_GATE | {"version": 1, "repeats": 1}, state="running", reason="",
        share=0.1, run="01936f3a-0000-7000-8000-000000000001", created_at=A_MOMENT, ended_at=None, created_by="alice",
    )  # fmt: skip

    number: int
    served_name: str
    gate: Gate
    state: Literal["running", "passed", "failed", "stopped"]
    reason: str
    """Why it has failed or was stopped, or why it is not published although it has passed."""
    share: float | None
    """Of the requests, that waits for it; null: a rollout does."""
    run: str
    """In which it is asked."""
    created_at: datetime
    ended_at: datetime | None
    created_by: str


class ScorePoint(BaseModel):
    """The mean difference after so many pairs of scores, and where it lies."""

    n: int
    mean: float
    low: float
    high: float


class CanaryScores(BaseModel):
    """How a canary's scores compare so far."""

    state: Literal["collecting", "not_worse", "worse", "undecided"]
    against: str
    """Version that is asked the same."""
    suite: str
    """That keeps questions and answers."""
    run: str | None
    """Of the batch under way."""
    runs: list[str]
    """Of all batches, in order; they may be deleted."""
    drawn: int
    """Questions so far."""
    left_out: int
    """Those of which one of the two has no score."""
    points: list[ScorePoint]
    """Some of the numbers of pairs, the last one among them: score of the version less that of the other one."""
    message: str
    """What it waits for."""


class Rollout(BaseModel):
    """A version that takes over step by step."""

    model_config = example(
        number=2, served_name="support-bot@v2", state="running", reason="", rule=_A_RULE, step=1,
        since=A_MOMENT, new={"attempts": 40, "failed": 0, "p95_ms": 210.0},
        old={"attempts": 360, "failed": 1, "p95_ms": 205.0}, score=None, created_at=A_MOMENT, ended_at=None,
        created_by="alice",
    )  # fmt: skip

    number: int
    served_name: str
    state: Literal["running", "promoted", "rolled_back", "stopped"]
    reason: str
    """Why it has ended."""
    rule: RolloutRule
    step: int
    """Number of the step under way, or of the last one, from 1."""
    since: datetime
    """When that step began."""
    new: ArmFigures
    """Of the version, in this step."""
    old: ArmFigures
    """Of the other versions in the same time."""
    score: CanaryScores | None
    """Null where the rule has none."""
    created_at: datetime
    ended_at: datetime | None
    created_by: str


class Deployment(BaseModel):
    """A version on an engine."""

    worker: str
    engine: str
    state: Literal["placing", "live", "degraded", "draining", "retired", "failed"]
    message: str
    live_at: datetime | None
    created_by: str


class Evaluation(BaseModel):
    """How a version and its base model answered multiple-choice questions."""

    data: str
    """Dataset version of the questions."""
    job: str
    """That asked them."""
    found: Evaluated
    created_at: datetime


class AdapterVersion(BaseModel):
    """One version of an adapter; it never changes."""

    model_config = example(
        number=1, state="ready", source="job", kind="lora", served_name="support-bot@v1", size=1234567,
        base={"source": "path", "id": "/models/qwen3-8b", "revision": ""}, base_sha256="0" * 64, rank=16, problems=[],
        metrics={"eval_loss": 1.1}, details={}, job="support-bot", data=[], files=[], deployments=[], share=0.0,
        evaluations=[],
        card="",
        created_at=A_MOMENT, created_by="alice",
    )  # fmt: skip

    number: int
    state: Literal["uploading", "ready", "archived"]
    source: Literal["job", "upload"]
    kind: Literal["lora", "full"]
    served_name: str
    """As requests call it, once it is deployed."""
    size: int
    base: BaseModelRef
    base_sha256: str
    rank: int
    problems: list[str]
    """Rules by which engines refuse it; empty: it can be served."""
    metrics: dict[str, float]
    details: dict[str, Any]
    job: str
    """That made it."""
    data: list[LearnedFrom]
    files: list[AdapterFile]
    deployments: list[Deployment]
    share: float
    """Of the requests to the adapter's name."""
    evaluations: list[Evaluation]
    """The newest first."""
    card: str
    """Markdown."""
    created_at: datetime
    created_by: str


class Adapter(BaseModel):
    """An adapter in a list."""

    model_config = example(
        name="support-bot", description="", owner_kind="user", owner="alice", mine=True, versions=1, latest=1,
        live=["support-bot@v1"], published=True, base="/models/qwen3-8b", created_at=A_MOMENT, updated_at=A_MOMENT,
        row_version=1,
    )  # fmt: skip

    name: str
    description: str
    owner_kind: Literal["user", "team"]
    owner: str
    mine: bool
    """Whether you may change it."""
    versions: int
    latest: int
    """Number of the newest version; 0: there is none yet."""
    live: list[str]
    """Versions that an engine has."""
    published: bool
    """Whether there is a route of its name."""
    base: str
    """Of the newest version."""
    created_at: datetime
    updated_at: datetime
    row_version: int


class AdapterDetail(Adapter):
    """An adapter with its versions, the newest first."""

    model_config = example(Adapter, items=[])

    items: list[AdapterVersion]
    gate: Gate | None = None
    """What each version has to pass before it is published."""
    gate_try: GateTry | None = None
    """The one under way, or the last one."""
    rollout: Rollout | None = None
    """The one under way, or the last one."""
