"""Bodies of runs and their cells."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, JsonValue, StringConstraints, field_validator, model_validator

from control.comparisons.schemas import check_parameters
from control.kit.schemas import A_MOMENT, Body, Flag, Moment, Note, Slug, example
from gateway.contract.base import Name

State = Literal["queued", "running", "paused", "done", "partial", "failed", "canceled"]
MOST_CELLS = 100_000
"""Of one run."""
Label = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]
Nano = Annotated[int, Field(strict=True, ge=1, le=9_000_000_000_000_000_000)]


class Candidate(Body):
    """What answers: a route, by one of the version's prompts, with parameters of its own."""

    name: Label | None = None
    """In reports; the route, and the prompt where there are several, if absent."""
    route: Name
    prompt: Slug | None = None
    """Absent: each of the version's prompts is a candidate."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict, max_length=40)
    """Instead of those of the version."""

    _parameters = field_validator("parameters")(check_parameters)


class RunCreate(Body):
    """A run that is going to begin, or to be estimated."""

    model_config = example(candidates=[{"route": "gpt-4o"}, {"route": "support-bot"}], repeats=2, concurrency=8)

    version: Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)] | None = None
    """Of the suite; the newest if absent."""
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1, max_length=16)]
    key: Annotated[str, StringConstraints(min_length=1, max_length=250)] | None = None
    """API key that pays, one that you may change; absent: your own one named `comparisons`, made when it is needed."""
    repeats: Annotated[int, Field(strict=True, ge=1, le=20)] = 1
    """How often each candidate answers each case."""
    concurrency: Annotated[int, Field(strict=True, ge=1, le=256)] = 8
    """Requests at a time to each route."""
    tries: Annotated[int, Field(strict=True, ge=1, le=10)] = 4
    """For one answer, where another try may help."""
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = 120
    """For one whole answer."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2_000_000_000)] | None = None
    """Sent as `seed`, one more for each repeat."""
    stream: Flag = True
    """Ask for streams: only they tell the time to the first token."""
    budget_nano: Nano | None = None
    """The run pauses once it has cost as much, in nano-units of the currency; what is under way is still paid for."""
    reuse_days: Annotated[int, Field(strict=True, ge=1, le=365)] | None = None
    """Answers of earlier runs of the suite that are at most so old are taken over where the request, to the byte, and
    the version of the route are the same; absent: everything is asked for. Scores are given anew."""
    note: Note = ""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [one.name for one in self.candidates if one.name is not None]
        if len(set(names)) != len(names):
            raise ValueError("two candidates have the same name")
        return self


class ShadowRun(Body):
    """A run over answers that the request log has of a route and of its shadow; nobody is asked."""

    model_config = example(route="gpt-4o", since=A_MOMENT)

    route: Name
    since: Moment
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 200
    """Most pairs, the newest first."""
    note: Note = ""


class RunSettings(BaseModel):
    """How a run asks: `RunCreate` without what it asks of whom."""

    repeats: int
    concurrency: int
    tries: int
    timeout_seconds: int
    seed: int | None
    stream: bool
    budget_nano: int | None
    reuse_days: int | None


class RunResume(Body):
    """Go on with a run."""

    model_config = example(budget_nano=5_000_000_000)

    budget_nano: Nano | None = None
    """A new budget; the old one stays if absent."""
    failed_again: Flag = False
    """Ask again for cells for which every try failed, and for pairs of which the judge did not say."""


class CandidateEstimate(BaseModel):
    """What a candidate is likely to cost."""

    candidate: str
    route: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost_nano: int
    """At the dearest target of the route."""
    priced: bool
    """False: nobody has said a price, so 0 means nothing."""


class RunEstimate(BaseModel):
    """What a run is likely to cost, before it begins."""

    model_config = example(
        cells=100, cost_nano=12_000_000, output_basis="guess",
        candidates=[
            {
                "candidate": "gpt-4o", "route": "gpt-4o", "requests": 100, "input_tokens": 1000,
                "output_tokens": 50_000, "cost_nano": 12_000_000, "priced": True,
            },
        ],
    )  # fmt: skip

    cells: int
    cost_nano: int
    output_basis: Literal["limit", "guess"]
    """`limit`: every answer is as long as `max_tokens` allows. `guess`: 500 tokens, since nothing limits them."""
    candidates: list[CandidateEstimate]
    """Judges and embeddings, too, as `judge: …`."""


class RunCandidate(BaseModel):
    """A candidate of a run."""

    name: str
    route: str
    route_version: int
    """Number of the route's version when the run began."""
    prompt: str
    parameters: dict[str, Any]


class Run(BaseModel):
    """A run and how far it is."""

    model_config = example(
        id="01936f3a-0000-7000-8000-000000000001", suite="support-questions", version=1, note="",
        key="comparisons@alice",
        candidates=[{"name": "gpt-4o", "route": "gpt-4o", "route_version": 3, "prompt": "plain", "parameters": {}}],
        settings={
            "repeats": 1, "concurrency": 8, "tries": 4, "timeout_seconds": 120, "seed": None, "stream": True,
            "budget_nano": None, "reuse_days": None,
        },
        estimate={"cells": 100, "cost_nano": 0, "output_basis": "guess", "candidates": []},
        state="running", wanted="run", code="", message="", total=100, done=40, failed=0, reused=0, pairs=0,
        judged=0, rate=4.0, seconds_left=15.0,
        billed_nano=3_000_000, mine=True, created_at=A_MOMENT, created_by="alice", started_at=A_MOMENT, ended_at=None,
    )  # fmt: skip

    id: str
    suite: str
    version: int
    note: str
    key: str
    """That pays; empty: its answers are from the request log, and nobody was asked."""
    candidates: list[RunCandidate]
    settings: RunSettings
    estimate: RunEstimate
    state: State
    wanted: Literal["run", "pause", "cancel"]
    code: str
    """Why it was paused or failed: `budget`, `refused`, `key`, `disk` or `broken`; empty where a person did it."""
    message: str
    total: int
    """Cells that there are to be."""
    done: int
    failed: int
    reused: int
    """Of the done ones, those whose answer is from an earlier run."""
    pairs: int
    """Pairs of answers that judges are to compare; 0 until all cells are there."""
    judged: int
    """Those of them of which a judge was asked."""
    rate: float
    """Cells and pairs a second, lately."""
    seconds_left: float | None
    """At that rate; null while nobody can tell."""
    billed_nano: int
    """What the ledger says that it has cost so far, failed tries and judges included."""
    mine: bool
    created_at: datetime
    created_by: str
    started_at: datetime | None
    ended_at: datetime | None


class CellSummary(BaseModel):
    """A cell in a list."""

    case: int
    candidate: int
    repeat: int
    ok: bool
    text: str
    """The beginning of the answer, or what went wrong."""
    scores: dict[str, Any]
    """By scorer: value, passed, note."""
    latency_ms: float | None
    cost_nano: int | None


class Cells(BaseModel):
    """Some cells of a run."""

    model_config = example(
        items=[
            {
                "case": 1, "candidate": 0, "repeat": 0, "ok": True, "text": "42",
                "scores": {"exact": {"value": 1.0, "passed": True, "note": ""}}, "latency_ms": 412.5,
                "cost_nano": 30_000,
            }
        ],
        total=1,
    )  # fmt: skip

    items: list[CellSummary]
    total: int


class Verdict(BaseModel):
    """What a judge says of two candidates' answers to one case."""

    case: int
    first: int
    """Place of a candidate, from 0."""
    second: int
    repeat: int
    scorer: str
    forward: Literal["first", "second", "tie"] | None
    """Asked with the first answer shown first; null: the judge did not say."""
    backward: Literal["first", "second", "tie"] | None
    """Likewise with the second answer shown first."""
    winner: Literal["first", "second", "tie"] | None
    """What both orders together say: a tie where they differ."""
    note: str
    """Why there is none."""
    finished_at: datetime


class Verdicts(BaseModel):
    """Some verdicts of a run."""

    model_config = example(
        items=[
            {
                "case": 1, "first": 0, "second": 1, "repeat": 0, "scorer": "better", "forward": "first",
                "backward": "first", "winner": "first", "note": "", "finished_at": A_MOMENT,
            }
        ],
        total=1,
    )  # fmt: skip

    items: list[Verdict]
    total: int


class Cell(BaseModel):
    """Everything of a cell."""

    model_config = example(
        case=1, candidate=0, repeat=0, ok=True, request_id="01936f3a-0000-7000-8000-000000000001.1.0.0.0",
        request={"model": "gpt-4o", "messages": [{"role": "user", "content": "6 × 7?"}]},
        answer={"text": "42", "finish_reason": "stop"}, error=None, scores={}, tries=1, limited=0,
        cost_nano=30_000, snapshot="7",
        reused_from="", finished_at=A_MOMENT,
    )  # fmt: skip

    case: int
    candidate: int
    repeat: int
    ok: bool
    request_id: str
    """As in the request log."""
    request: dict[str, Any]
    """As it was sent."""
    answer: dict[str, Any] | None
    """Text, tool calls, finish reason, citations, usage, timings and headers of what came back."""
    error: dict[str, Any] | None
    """Status, code and message of the last try."""
    scores: dict[str, Any]
    tries: int
    limited: int
    """Of the tries, those that were answered 429."""
    cost_nano: int | None
    """Null until the ledger has it."""
    snapshot: str
    """Of the gateway's configuration that answered."""
    reused_from: str
    """Request id of the answer of an earlier run that was taken over; empty: it was asked for."""
    finished_at: datetime
