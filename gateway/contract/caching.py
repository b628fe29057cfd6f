"""The wire form of a route's response cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.contract.base import Name, Seconds, Share, Wire


class SemanticCache(Wire):
    """Answers of questions that mean the same. Only of conversations of one question in plain text: all else of the
    request must be equal."""

    route: Name
    """Route that embeds the questions; each is a request of its own in the ledger of the key that asks."""
    threshold: Annotated[float, Field(ge=0.9, le=1, allow_inf_nan=False)] = 0.95
    """Cosine similarity that two questions must have."""
    candidates: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1000
    """Latest questions that a new one is compared with, per worker, of the same caller with the same settings."""
    timeout: Annotated[float, Field(gt=0, le=10)] = 0.5
    """Seconds that a request waits for its embedding; without it, the model is asked."""


class Cache(Wire):
    """Answers that are given again to equal requests of the same caller. See docs/cache.md for what is equal."""

    ttl: Seconds = 3600.0
    """Seconds that an answer is kept."""
    max_bytes: Annotated[int, Field(strict=True, ge=1024, le=1_048_576)] = 262_144
    """A longer answer is not kept."""
    scope: Literal["key", "team"] = "key"
    """Who shares answers: nobody but the key itself, or all keys of its team."""
    billing: Share = 0.0
    """Part of the price that a repeated answer costs its caller, 0 to 1."""
    semantic: SemanticCache | None = None
    """Whether questions that mean the same are equal, too. Its vectors are in the memory of each worker."""
