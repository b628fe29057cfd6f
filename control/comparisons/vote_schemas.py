"""Bodies of votes on answers that were shown side by side."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from control.comparisons.report_schemas import RatingFigure
from control.comparisons.schemas import Message
from control.kit.schemas import A_MOMENT, Body, Flag, Note, example
from gateway.contract.base import Name

MOST_ROUTES = 8
"""Side by side."""
Outcome = Literal["best", "tie", "bad"]
Text = Annotated[str, StringConstraints(max_length=200_000, pattern=r"^[^\x00]*$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]+$")]
Milliseconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Tokens = Annotated[int, Field(strict=True, ge=0, le=2_000_000_000)]


class VoteAnswer(Body):
    """An answer as it was shown."""

    route: Name
    """Who gave it."""
    text: Text
    """Empty: it failed, or called tools only."""
    request_id: Annotated[str, StringConstraints(max_length=120, pattern=r"^[\x21-\x7e]*$")] = ""
    """By which the ledger knows it."""
    finish_reason: Annotated[str, StringConstraints(max_length=40, pattern=r"^[^\x00]*$")] = ""
    """As the route said; `failed` where there was no whole answer."""
    latency_ms: Milliseconds | None = None
    """Until its end."""
    ttft_ms: Milliseconds | None = None
    """Until the first of it."""
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None


_MESSAGE = {"role": "user", "content": "Where is the office?"}
_ANSWERS = [{"route": "gpt-4o", "text": "In Paris."}, {"route": "support-bot", "text": "12 Rue Cler, Paris."}]
_VOTE: dict[str, Any] = {
    "blind": True, "messages": [_MESSAGE], "answers": _ANSWERS, "outcome": "best", "best": 1, "reasons": ["precise"],
}  # fmt: skip


class VoteCreate(Body):
    """What somebody says of answers to one dialogue."""

    model_config = example(**_VOTE)

    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=200)]
    """What all of them were asked."""
    answers: Annotated[tuple[VoteAnswer, ...], Field(min_length=2, max_length=MOST_ROUTES)]
    """In the order in which they were shown, each of another route."""
    outcome: Outcome
    """`best`: one is better than all others; `tie`: none is; `bad`: none is any good."""
    best: Annotated[int, Field(strict=True, ge=0, lt=MOST_ROUTES)] | None = None
    """Place of the best answer, from 0, with the outcome `best` and no other."""
    blind: Flag = False
    """Whether names were hidden until the vote."""
    reasons: Annotated[tuple[Reason, ...], Field(max_length=10)] = ()
    """Tags, such as `precise` or `made up`."""
    ideal: Text | None = None
    """How the answer should have been."""
    note: Note = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.outcome == "best") != (self.best is not None):
            raise ValueError("`best` goes with the outcome `best`, and no other")
        if self.best is not None and self.best >= len(self.answers):
            raise ValueError(f"`best` is {self.best}, and there are {len(self.answers)} answers, from 0")
        if len({one.route for one in self.answers}) < len(self.answers):
            raise ValueError("two answers are of the same route")
        if self.ideal is not None and not self.ideal.strip():
            raise ValueError("`ideal` is empty: leave it out")
        return self


class Vote(BaseModel):
    """A vote."""

    model_config = example(
        id="01936f3a-0000-7000-8000-000000000001", voter="ann", ideal=None, note="", created_at=A_MOMENT, **_VOTE
    )

    id: str
    voter: str
    """Username."""
    blind: bool
    messages: list[dict[str, Any]]
    answers: list[VoteAnswer]
    outcome: Outcome
    best: int | None
    reasons: list[str]
    ideal: str | None
    note: str
    created_at: datetime


class RouteVotes(BaseModel):
    """How a route did."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    route: str
    votes: int
    """In which it had an answer."""
    best: int
    """Where it was the best."""
    tied: int
    bad: int
    """Where all were bad."""


class VotePair(BaseModel):
    """Two routes that met."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    first: str
    second: str
    points: float
    """That the first won, ties half."""
    met: int


class VoteReport(BaseModel):
    """What votes say of routes."""

    model_config = example(
        votes=1, resampling_seed=0,
        routes=[{"route": "gpt-4o", "votes": 1, "best": 0, "tied": 0, "bad": 0}], pairs=[], ratings=[], reasons={},
    )  # fmt: skip

    votes: int
    """That were counted."""
    resampling_seed: int
    routes: list[RouteVotes]
    """By name."""
    pairs: list[VotePair]
    """Each pair that met, once."""
    ratings: list[RatingFigure]
    """Strongest first. The best answer of a vote beats each of the others; where none was best, all are tied."""
    reasons: dict[str, int]
    """How often each was named."""
