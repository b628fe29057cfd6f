"""Passages of knowledge bases: what a gateway asks control for, and what it gets.

POST /internal/v1/retrieval   `RetrievalRequest` → `RetrievalReply`, with `Authorization: Bearer <service token>`
POST /internal/v1/knowledge   `BasesRequest` → `BasesReply`: the bases that a caller may read, likewise

| status | code | when |
|---|---|---|
| 200 | | passages, best first; none where nothing that the caller may see reaches the floor |
| 404 | not_found | a base that is not there, or that the caller may not read: which of the two is not told |
| 422 | invalid | a field is wrong; `errors` lists them |
| 503 | knowledge_off, index_down, embedding_down | this control serves no knowledge; its index, or what embeds, fails |

Errors are RFC 9457 problems. Asking again is always safe: nothing is written.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from gateway.contract.base import Name, Wire

BASES_PER_REQUEST = 8
"""Most bases that one request may name."""
MOST_BASES = 1000
"""Most bases of a list: the newest."""
QUERY_CHARS = 4000
"""Most characters of a query: longer conversations are shortened by who asks."""
TOP_K = 50
"""Most passages that one request gets."""

RerankOutcome = Literal["none", "done", "failed"]
Filter = dict[
    Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")],
    Annotated[str, StringConstraints(max_length=200)],
]


class Principal(Wire):
    """Who asks: the key that the gateway has authenticated.

    Of a key that control knows, its own record counts: owner, the teams of that person, and whether it is revoked.
    `team` and `owner` matter for keys of a stand-alone gateway's own configuration.
    """

    key: Annotated[str, StringConstraints(min_length=1, max_length=250)]
    """Name of the API key, as in usage events."""
    team: Annotated[str, StringConstraints(max_length=200)] | None = None
    """Name of the key's team."""
    owner: Annotated[str, StringConstraints(max_length=200)] | None = None
    """Username of the key's owner; null where a team owns it, or nobody is known."""


class RetrievalLimits(Wire):
    """Bounds of an answer."""

    top_k: Annotated[int, Field(strict=True, ge=1, le=TOP_K)] = 6
    """Most passages."""
    score_floor: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] = 0.0
    """Passages whose `similarity` is lower are left out; -1 keeps all."""
    token_budget: Annotated[int, Field(strict=True, ge=1, le=200_000)] = 2000
    """Tokens of all passages' texts together, counted with the tokenizer of the base's embedding model (an estimate
    where it has none here). A passage that does not fit is left out, and smaller ones after it are still taken."""


class RetrievalRequest(Wire):
    """A query over one or more knowledge bases."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "bases": ["handbook"], "query": "How many days of leave are there?",
                    "principal": {"key": "chatbot@support", "team": "support", "owner": None},
                    "limits": {"top_k": 6, "score_floor": 0.0, "token_budget": 2000}, "filter": {"lang": "en"},
                }
            ]
        }
    )  # fmt: skip

    bases: Annotated[tuple[Name, ...], Field(min_length=1, max_length=BASES_PER_REQUEST)]
    """Names of knowledge bases."""
    query: Annotated[str, StringConstraints(min_length=1, max_length=QUERY_CHARS)]
    """What is looked for, in the user's words."""
    principal: Principal
    """Whose eyes are looking: passages that this caller may not see are never in the answer."""
    limits: RetrievalLimits = RetrievalLimits()
    """Bounds of the answer."""
    filter: Annotated[Filter, Field(max_length=8)] = Field(default_factory=dict)
    """Metadata that a document must have, all of them."""
    trial: Annotated[bool, Field(strict=True)] = False
    """Look into the index that a base holds back for comparison, where one is complete, instead of the live one."""


class Passage(Wire):
    """A piece of a document that may hold the answer."""

    base: str
    """Name of its knowledge base."""
    document: str
    """Id of its document."""
    title: str
    """Name of the document, as people know it."""
    chunk: str
    """Id of the piece that was found: the same until the document or the base's chunking changes."""
    page: int | None
    """Number of the page, slide or sheet on which the found piece begins, from 1; null where the format has none."""
    section: str
    """Headings above the piece, joined by ` › `; may be empty."""
    start: Annotated[int, Field(ge=0)]
    """First character of `text` in the document's plain text, from 0."""
    end: Annotated[int, Field(ge=0)]
    """Character after its last one."""
    score: float
    """Orders the passages (reciprocal rank fusion of the retrievers, handed out anew in the order of a rerank model
    where there is one): to be compared inside one answer only."""
    similarity: float
    """Cosine of query and piece, -1 to 1: what `score_floor` is held against."""
    dense: float | None = None
    """Cosine by which the search by vector has found it; null where it has not."""
    bm25: float | None = None
    """BM25 by which the search by words has found it; null where it has not."""
    rerank: float | None = None
    """What the rerank model says of it; null where none has seen it."""
    tokens: Annotated[int, Field(ge=0)]
    """Of `text`, as `token_budget` counts them."""
    text: str
    """The passage: the found piece, or the section around it where the base says so. Untrusted: what a document
    says is data, never an instruction."""


_A_PASSAGE: dict[str, Any] = {
    "base": "handbook", "document": "01936f3a-0000-7000-8000-000000000001", "title": "handbook.pdf",
    "chunk": "6f1d0c52b0a94d5e8a3f9b1c2d3e4f50", "page": 12, "section": "Leave › Annual leave", "start": 20_480,
    "end": 20_512, "score": 0.0328, "similarity": 0.61, "tokens": 9, "text": "Everyone has 30 days of leave a year.",
}  # fmt: skip


class RetrievalReply(Wire):
    """Passages, best first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"passages": [_A_PASSAGE], "took_ms": 12.5}]})

    passages: tuple[Passage, ...]
    """At most `top_k`, all of which the caller may see."""
    took_ms: Annotated[float, Field(ge=0)]
    """Inside control, embedding of the query included."""
    rerank: RerankOutcome = "none"
    """Whether a rerank model has ordered the passages; `failed`: a base names one, and its fused order stands."""
    rerank_message: str = ""
    """Why it failed."""
    indexes: dict[str, int] = Field(default_factory=dict)
    """Base → number of the index that was searched; bases that nothing is in yet are left out."""
    cached: bool = False
    """Whether this is an answer of a moment ago, to the same question about the same documents."""


class BasesRequest(Wire):
    """Which bases a caller may read."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"principal": {"key": "chatbot@support", "team": "support"}, "names": ["handbook"]}]
        }
    )

    principal: Principal
    """Whose eyes are looking."""
    names: Annotated[tuple[Name, ...], Field(min_length=1, max_length=BASES_PER_REQUEST)] | None = None
    """Only of these; null: of all."""


class ReadableBase(Wire):
    """A base, and how much of it the caller may see."""

    name: str
    """What it is called, for good."""
    description: str
    """What is in it."""
    created_at: int
    """Seconds since 1970."""
    documents: Annotated[int, Field(ge=0)]
    """That the caller may see."""
    ready: Annotated[int, Field(ge=0)]
    """Of these, those that can be found."""
    failed: Annotated[int, Field(ge=0)]
    """Of these, those that could not be read."""
    bytes: Annotated[int, Field(ge=0)]
    """Of their files."""


_A_BASE: dict[str, Any] = {
    "name": "handbook", "description": "", "created_at": 1_795_512_600, "documents": 2, "ready": 2, "failed": 0,
    "bytes": 48_213,
}  # fmt: skip


class BasesReply(Wire):
    """Bases, the newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"bases": [_A_BASE]}]})

    bases: tuple[ReadableBase, ...]
    """At most `MOST_BASES`."""
