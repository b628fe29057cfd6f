"""Tasks: what is asked of models beside conversations, one whole answer each. As for those, there is one form between
the dialects, with a field for what at least two of them can say; all else is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from gateway.protocols.base import Origin
from gateway.protocols.canonical import Document, Usage

InputType = Literal["search_document", "search_query", "classification", "clustering"]
"""What vectors are for, in Cohere's words."""


@dataclass(slots=True)
class Embed:
    """Texts that are to become vectors."""

    texts: list[str]
    input_type: InputType | None = None
    dimensions: int | None = None
    base64: bool = False
    """The client wants little-endian float32 in base64."""
    single: bool = False
    """The client asked for one vector, not for a list of them (Gemini's `embedContent`)."""
    extra: Document = field(default_factory=dict)
    """What only the client's dialect knows."""


@dataclass(slots=True)
class Vectors:
    """One vector for each text, in their order."""

    values: list[list[float]]
    usage: Usage | None = None


@dataclass(slots=True)
class Rank:
    """Documents that are to be put in the order in which they answer the query."""

    query: str
    documents: list[str]
    top: int | None = None
    with_documents: bool = False
    """The client wants them back with their places."""
    extra: Document = field(default_factory=dict)


class Place(NamedTuple):
    """One document's."""

    at: int
    score: float


@dataclass(slots=True)
class Ranking:
    """The best first."""

    places: list[Place]
    usage: Usage | None = None


class TaskIn(Protocol):
    """A dialect in which clients ask for a task."""

    task: str
    """Which one: a key of `Provider.tasks`."""

    def read(self, document: Document) -> Any:
        """The request of a body. Raises GatewayError(caller_bad_request) naming the member that is wrong."""
        ...

    def write(self, answer: Any, request: Any, origin: Origin) -> bytes:
        """The body of the answer."""
        ...


class TaskOut(Protocol):
    """A dialect in which an upstream is asked."""

    operation: str
    """Its name as an operation of a provider."""

    def write(self, request: Any, model: str) -> Document:
        """The body for an upstream. Raises `unsupported` for what the dialect cannot say."""
        ...

    def read(self, document: Document, request: Any) -> Any:
        """The answer. Raises BadReply."""
        ...


class Task(NamedTuple):
    """One request on its way from the client's dialect to the upstream's, and back."""

    inbound: TaskIn
    target: TaskOut
    request: Any
    origin: Origin
