"""Bodies of suites and their versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, field_validator, model_validator

from control.comparisons.scorers.specs import ScorerSpec
from control.kit.schemas import A_MOMENT, Body, Flag, Moment, Note, RowVersion, Slug, example
from gateway.contract.base import Name

MOST_CASES = 10_000
"""Of one version."""
TAKEN = ("model", "messages", "stream", "stream_options", "n", "seed")
"""Parameters that a run sets itself."""
Text = Annotated[str, StringConstraints(max_length=200_000)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_\u4e00-\u9fff][A-Za-z0-9_.\-\u4e00-\u9fff]{0,63}$")]
Count = Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)]


class Message(Body):
    """A message as chat completions take it; members besides these are sent as they are."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, JsonValue]] | None = None
    """Text, or parts."""


Messages = Annotated[tuple[Message, ...], Field(max_length=200)]


class Prompt(Body):
    """What is asked before the messages of a case. `{{name}}` is the variable of the case."""

    name: Slug
    messages: Messages
    """May be empty: then cases bring all of their messages."""


def check_parameters(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Refuse those that a run sets itself."""
    if taken := sorted(set(value) & set(TAKEN)):
        raise ValueError(f"a run sets {', '.join(taken)} itself")
    return value


class Content(Body):
    """What a version asks and how it scores, without its cases."""

    prompts: Annotated[tuple[Prompt, ...], Field(min_length=1, max_length=8)]
    """Every route answers each of them."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict, max_length=40)
    """Of chat completions, such as `temperature`, `max_tokens` or `tools`."""
    scorers: Annotated[tuple[ScorerSpec, ...], Field(max_length=20)] = ()
    """Their texts may have places for variables: a case without such a variable is not scored by it."""

    _parameters = field_validator("parameters")(check_parameters)

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        for what, names in (
            ("prompts", [one.name for one in self.prompts]),
            ("scorers", [s.name for s in self.scorers]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"two {what} have the same name")
        return self


class SuiteCase(Body):
    """One case."""

    messages: Messages = ()
    """After those of the prompt."""
    variables: dict[Variable, Text] = Field(default_factory=dict, max_length=100)
    expected: Text | None = None
    """What a good answer says; scorers decide how it is compared."""
    tags: Annotated[tuple[Tag, ...], Field(max_length=20)] = ()
    document: Annotated[str, StringConstraints(max_length=255)] | None = None
    """Name of the document that a good answer cites, for routes with knowledge bases."""


class OwnCases(Body):
    """Cases that are written here."""

    kind: Literal["cases"]
    cases: Annotated[tuple[SuiteCase, ...], Field(min_length=1, max_length=MOST_CASES)]


class TextCases(Body):
    """A file of cases: CSV with a header, or JSON lines. The members `messages`, `prompt` (one user message),
    `expected`, `tags` and `document` are what they say; all others are variables."""

    kind: Literal["csv", "jsonl"]
    text: Annotated[str, StringConstraints(min_length=1)]


class VersionCases(Body):
    """The cases of another version of this suite."""

    kind: Literal["version"]
    number: Count


class DatasetCases(Body):
    """Rows of a dataset: the last answer of each is what is expected."""

    kind: Literal["dataset"]
    dataset: Slug
    number: Count
    limit: Annotated[int, Field(strict=True, ge=1, le=MOST_CASES)] = 1000


class ChatCases(Body):
    """Your own chat sessions: the last answer of each is what is expected."""

    kind: Literal["chats"]
    sessions: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=36)], ...], Field(min_length=1, max_length=500)
    ]


class RequestCases(Body):
    """Dialogues whose bodies the request log keeps; needs the permission to read bodies."""

    kind: Literal["requests"]
    since: Moment
    route: Annotated[str, StringConstraints(max_length=200)] | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=MOST_CASES)] = 200
    sample: Flag = False
    """Draw them by chance from all since then (the newest 100,000), instead of taking the newest ones."""


CaseSource = Annotated[
    OwnCases | TextCases | VersionCases | DatasetCases | ChatCases | RequestCases, Field(discriminator="kind")
]
A_CONTENT: dict[str, Any] = {
    "prompts": [{"name": "plain", "messages": [{"role": "user", "content": "{{question}}"}]}],
    "parameters": {"temperature": 0},
    "scorers": [{"name": "exact", "kind": "exact", "ignore_case": True}],
}
A_CASE: dict[str, Any] = {
    "messages": [], "variables": {"question": "What is 6 × 7?"}, "expected": "42", "tags": ["sums"], "document": None,
}  # fmt: skip


class SuiteCreate(Body):
    """A new suite, still without versions."""

    model_config = example(name="support-questions", description="What customers ask")

    name: Slug
    """Never changes."""
    description: Note = ""
    team: Slug | None = None
    """Whose it is; yours if absent."""


class SuiteUpdate(Body):
    """Changes of a suite."""

    model_config = example(row_version=1, description="What customers ask, 2026")

    row_version: RowVersion
    description: Note


class SuiteVersionCreate(Content):
    """A next version."""

    model_config = example(**A_CONTENT, sources=[{"kind": "cases", "cases": [A_CASE]}])

    sources: Annotated[tuple[CaseSource, ...], Field(min_length=1, max_length=20)]
    """Where the cases come from; they follow one another."""


class PromptfooImport(Body):
    """promptfoo's configuration."""

    model_config = example(
        text="prompts: ['{{question}}']\nproviders: ['openai:gpt-4o']\ntests: [{vars: {question: What is 6 × 7?}}]",
        providers={"openai:gpt-4o": "gpt-4o"},
    )

    text: Annotated[str, StringConstraints(min_length=1)]
    """The YAML."""
    providers: dict[Annotated[str, StringConstraints(max_length=250)], Name] = Field(
        default_factory=dict, max_length=100
    )
    """Which route stands for which provider."""
    judge: Name | None = None
    """Route that answers for `llm-rubric`."""
    leave_out: Flag = False
    """Take the rest where some assertions have no meaning here; otherwise nothing is taken."""


class SuiteVersion(BaseModel):
    """One version of a suite."""

    model_config = example(number=1, sha256="0" * 64, **A_CONTENT, cases=1, created_at=A_MOMENT, created_by="alice")

    number: int
    sha256: str
    """Of prompts, parameters, scorers and cases."""
    prompts: list[Prompt]
    parameters: dict[str, Any]
    scorers: list[ScorerSpec]
    cases: int
    created_at: datetime
    created_by: str


class VersionMade(BaseModel):
    """The version that holds what was sent."""

    model_config = example(number=2, made=True, skipped={"no_answer": 1})

    number: int
    made: bool
    """False: an earlier version has just this content."""
    skipped: dict[str, int]
    """What of the sources gave no case, by reason."""


class Mapped(BaseModel):
    """A provider of promptfoo's configuration."""

    provider: str
    route: str
    """That stands for it; empty if nobody has said which."""


class Imported(VersionMade):
    """What became of promptfoo's configuration."""

    model_config = example(VersionMade, providers=[{"provider": "openai:gpt-4o", "route": "gpt-4o"}], left_out=[])

    providers: list[Mapped]
    left_out: list[str]
    """Assertions that have no meaning here, and why."""


class Suite(BaseModel):
    """A suite in a list."""

    model_config = example(
        name="support-questions", description="", owner_kind="user", owner="alice", mine=True, version=1, cases=1,
        runs=0, scheduled=True, regressed=False, created_at=A_MOMENT, updated_at=A_MOMENT, row_version=1,
    )  # fmt: skip

    name: str
    description: str
    owner_kind: Literal["user", "team"]
    owner: str
    mine: bool
    """Whether you may change it."""
    version: int
    """Number of the newest; 0 if there is none."""
    cases: int
    """Of the newest version."""
    runs: int
    scheduled: bool
    """Whether it is asked by itself."""
    regressed: bool
    """Whether its last scheduled run has something worse."""
    created_at: datetime
    updated_at: datetime
    row_version: int


class NumberedCase(SuiteCase):
    """A case of a version."""

    number: int
    """From 1."""


class SuiteCases(BaseModel):
    """Some cases of a version."""

    model_config = example(items=[{"number": 1, **A_CASE}], total=1)

    items: list[NumberedCase]
    total: int
