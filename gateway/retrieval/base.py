"""What the gateway needs of whoever searches knowledge bases."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from gateway.contract.trace import Trace


class RetrievalError(Exception):
    """A search brought nothing, and not because there is nothing. The message holds no secret and no question.

    `status`: 404 where a base is not there for this caller, 422 where the question or its limits are wrong, 503 for
    all else.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Found(NamedTuple):
    """What a search brought."""

    passages: list[dict[str, Any]]
    """Best first, each with the members of `gateway.contract.retrieval.Passage`."""
    rerank: str = "none"
    """`gateway.contract.retrieval.RerankOutcome`."""
    indexes: Mapping[str, int] = MappingProxyType({})
    """Base -> number of the index that was searched."""


class Retriever(Protocol):
    """Searches knowledge bases."""

    async def search(self, request: dict[str, Any], patience: float, trace: Trace | None = None) -> Found:
        """The passages for a question.

        `request` has the members of `RetrievalRequest`; `patience` is in seconds; `trace` is the span of the search.
        Raises RetrievalError.
        """
        ...

    async def bases(self, request: dict[str, Any], patience: float) -> list[dict[str, Any]]:
        """Bases that the caller may read, each with the members of `gateway.contract.retrieval.ReadableBase`.

        `request` has the members of `BasesRequest`; `patience` is in seconds. Raises RetrievalError.
        """
        ...


class Nowhere:
    """A gateway of its own configuration: there is no control plane to ask."""

    async def search(self, request: dict[str, Any], patience: float, trace: Trace | None = None) -> Found:
        """Always a RetrievalError."""
        raise _nowhere()

    async def bases(self, request: dict[str, Any], patience: float) -> list[dict[str, Any]]:
        """Always a RetrievalError."""
        raise _nowhere()


def _nowhere() -> RetrievalError:
    return RetrievalError(503, "this gateway has no control plane, which searches knowledge bases: set [control] url")
