"""Bodies of datasets and their versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue, StringConstraints

from control.kit.schemas import A_MOMENT, Body, Flag, Moment, Note, RowVersion, Slug, example
from trainer.contract.spec import BaseModelRef
from trainer.contract.worker import TokenLengths

Format = Literal["auto", "messages", "alpaca", "sharegpt", "preference", "kto", "text", "choice"]
State = Literal["uploading", "checking", "ready", "rejected"]
Source = Literal["upload", "requests", "chats", "votes", "edit"]
Filename = Annotated[
    str, StringConstraints(max_length=200, pattern=r"^[^/\\\x00-\x1f\x7f]+\.(jsonl|ndjson|json|csv|parquet)$")
]
SessionId = Annotated[str, StringConstraints(max_length=36)]
Line = Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)]


class DatasetCreate(Body):
    """A new dataset, still without rows."""

    model_config = example(name="support-dialogues", description="Answers of the help desk")

    name: Slug
    """Never changes and is never reused while an adapter has learned from it."""
    description: Note = ""
    """What it is for."""
    team: Slug | None = None
    """Whose it is; yours if absent."""


class DatasetUpdate(Body):
    """Changes of a dataset."""

    model_config = example(row_version=1, description="Answers of the help desk, 2026")

    row_version: RowVersion
    """From the last read."""
    description: Note
    """What it is for."""


class DatasetVersionCreate(Body):
    """A file that is going to be sent."""

    model_config = example(filename="dialogues.jsonl")

    filename: Filename
    """Its ending says how it is read: .jsonl, .ndjson, .json, .csv or .parquet."""
    format: Format = "auto"
    """What its rows are; found out from them by default."""


class DatasetCheck(Body):
    """All of the file is there."""

    model_config = example(size=1234)

    size: Annotated[int, Field(strict=True, ge=1)]
    """Bytes: 409 if another number has arrived."""


class DatasetSize(BaseModel):
    """How much of the file has arrived."""

    model_config = example(size=1234)

    size: int
    """Bytes: the offset from which to go on."""


class RowRepair(Body):
    """A row that takes the place of a rejected one, in the canonical form."""

    line: Line
    """Of the rejected row."""
    row: dict[str, JsonValue]
    """Such as `{"messages": […]}`."""


class DatasetEdit(Body):
    """A next version: the rows of another one without some, and with rejected ones repaired."""

    model_config = example(version=1, delete=[3], repair=[])

    version: Annotated[int, Field(strict=True, ge=1)]
    """That is edited; it stays as it is."""
    delete: Annotated[tuple[Line, ...], Field(max_length=100_000)] = ()
    """Lines of accepted rows to leave out."""
    repair: Annotated[tuple[RowRepair, ...], Field(max_length=1000)] = ()
    """Rejected rows, put right."""


class FromRequests(Body):
    """A next version from kept bodies of requests; each row keeps the id of its request."""

    model_config = example(route="gpt-4o", since=A_MOMENT)

    since: Moment
    """Requests from then on."""
    until: Moment | None = None
    """And before then; now if absent."""
    route: Annotated[str, StringConstraints(max_length=200)] | None = None
    """Of this route only."""
    key: Annotated[str, StringConstraints(max_length=250)] | None = None
    """Of this key only."""
    limit: Annotated[int, Field(strict=True, ge=1, le=50_000)] = 5000
    """Most rows, the newest first."""


class FromChats(Body):
    """A next version from your own chat sessions, a row for each."""

    model_config = example(sessions=["01936f3a-0000-7000-8000-000000000001"])

    sessions: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=36)], ...], Field(min_length=1, max_length=500)
    ]
    """Ids."""


class FromVotes(Body):
    """A next version from votes on answers side by side: yours, or all with `comparisons:read`."""

    model_config = example(kind="preference", since=A_MOMENT)

    kind: Literal["preference", "sft"]
    """`preference`: the answer that was better, or how it should have been, against each of the others; `sft`: that
    answer alone."""
    since: Moment
    """Votes from this moment on."""
    blind: Flag = False
    """Only those in which names were hidden."""
    limit: Annotated[int, Field(strict=True, ge=1, le=20_000)] = 20_000
    """At most so many votes, the newest."""


class DatasetVersion(BaseModel):
    """One version of a dataset."""

    model_config = example(
        number=1, state="ready", source="upload", parent=None, filename="dialogues.jsonl", format="auto", size=1234,
        sha256="0" * 64, kind="sft", rows=100,
        report={"total": 102, "accepted": 100, "rejected": 1, "duplicates": 1}, message="", created_at=A_MOMENT,
        created_by="alice",
    )  # fmt: skip

    number: int
    state: State
    source: Source
    parent: int | None
    """Of an edit: what was edited."""
    filename: str
    format: Format
    """As it was asked for; the report says what was found."""
    size: int
    """Bytes of the file that have arrived."""
    sha256: str
    """Of the checked rows; empty until they are."""
    kind: str
    """What the rows are for: sft, preference, kto, pretrain or choice."""
    rows: int
    """Accepted ones."""
    report: dict[str, Any]
    """Where every row went. While it is checked: `progress`."""
    message: str
    """Why it was rejected."""
    created_at: datetime
    created_by: str


class UsedBy(BaseModel):
    """An adapter version that has learned from a version of the dataset."""

    adapter: str
    version: int
    number: int
    """Of the dataset's version."""


class Dataset(BaseModel):
    """A dataset in a list."""

    model_config = example(
        name="support-dialogues", description="", owner_kind="user", owner="alice", mine=True, versions=1, kind="sft",
        rows=100, ready=1, created_at=A_MOMENT, updated_at=A_MOMENT, row_version=1,
    )  # fmt: skip

    name: str
    description: str
    owner_kind: Literal["user", "team"]
    owner: str
    mine: bool
    """Whether you may change it."""
    versions: int
    kind: str
    """Of the last version that is ready."""
    rows: int
    """Likewise."""
    ready: int
    """Its number; 0 if none is."""
    created_at: datetime
    updated_at: datetime
    row_version: int


class DatasetDetail(Dataset):
    """A dataset with its versions, the newest first."""

    model_config = example(Dataset, items=[], adapters=[{"adapter": "support-bot", "version": 1, "number": 1}])

    items: list[DatasetVersion]
    adapters: list[UsedBy]
    """Which have learned from it."""


class TokenCountCreate(Body):
    """Whose tokens are counted."""

    model_config = example(base={"source": "path", "id": "/models/qwen3-8b"})

    base: BaseModelRef
    """A folder is one of a worker."""


class TokenCount(BaseModel):
    """How long the rows of a version are in tokens of a base model, with its chat template."""

    model_config = example(
        base={"source": "path", "id": "/models/qwen3-8b", "revision": ""}, state="done", message="",
        lengths={
            "rows": 3, "total": 90, "min": 10, "p50": 30, "p95": 50, "max": 50, "width": 1,
            "bins": [{"to": 10, "rows": 1}, {"to": 30, "rows": 1}, {"to": 50, "rows": 1}],
        },
        worker="gpu-1", created_at=A_MOMENT, created_by="alice",
    )  # fmt: skip

    base: BaseModelRef
    state: Literal["waiting", "counting", "done", "failed"]
    message: str
    """Why it failed, or what it waits for."""
    lengths: TokenLengths | None
    """None: they are not counted yet."""
    worker: str
    """That counts, or has counted."""
    created_at: datetime
    created_by: str


class TokenCounts(BaseModel):
    """Counts of a version, the newest first."""

    model_config = example(items=[])

    items: list[TokenCount]


class DatasetRow(BaseModel):
    """An accepted row."""

    line: int
    """Of the source."""
    row: dict[str, Any]
    origin: str
    """Request id or session from which it came."""
    consent: str
    """What allowed it to be kept."""


class RejectedRow(BaseModel):
    """A row that was not accepted."""

    line: int
    code: str
    message: str
    text: str
    """Its beginning."""


class DatasetRows(BaseModel):
    """Some rows of a version."""

    model_config = example(items=[{"line": 1, "row": {"messages": []}, "origin": "", "consent": ""}], total=1)

    items: list[DatasetRow]
    total: int


class RejectedRows(BaseModel):
    """Some rejected rows of a version."""

    model_config = example(items=[{"line": 7, "code": "no_assistant", "message": "…", "text": "{}"}], total=1)

    items: list[RejectedRow]
    total: int


class Edited(BaseModel):
    """A version that was begun, and who has learned from the rows that it leaves out."""

    model_config = example(
        version=2, adapters=[{"adapter": "support-bot", "version": 1, "number": 1}], skipped={"unreadable": 0}
    )

    version: int
    adapters: list[UsedBy]
    skipped: dict[str, int]
    """Requests or sessions that gave no row, by reason."""
