"""Texts to vectors: through a route of the gateway, or by a model in control itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from control.knowledge import schemas
from control.knowledge.chunking import estimated
from control.knowledge.gateway import Gateway, Unreachable, digest_of_key, message_of
from control.knowledge.local_model import Floats, LocalModel, Unusable, unit
from control.knowledge.trouble import Trouble

BATCH = 32
"""Texts in one request."""
QUERIES_KEPT = 1000
"""Vectors of queries that are in memory, the least recently used go first."""
_SECONDS = 60.0


class Embedder(Protocol):
    """One model."""

    name: str
    """Says which: vectors of different names must not be compared."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        ...

    async def embed(self, texts: Sequence[str]) -> Floats:
        """Vectors of length one, shape (texts, dimension). Raises Trouble."""
        ...


def digest_of(embedder: Embedder, text: str) -> str:
    """Name of the vector of a text by this model."""
    return hashlib.sha256(f"{embedder.name}\0{text}".encode()).hexdigest()


class Embedders:
    """Every model that there is; one for a process."""

    def __init__(self, gateway: Gateway, folders: Mapping[str, Path]) -> None:
        self.gateway, self.folders = gateway, dict(folders)
        self._models: dict[str, LocalModel] = {}
        self._one_at_a_time = asyncio.Lock()
        self._queries: OrderedDict[tuple[str, str], Floats] = OrderedDict()

    async def get(self, session: AsyncSession, embedding: Mapping[str, Any]) -> Embedder:
        """The model of an index. Raises Trouble where it cannot be had."""
        if embedding["kind"] == "local":
            return await self._local(embedding["model"])
        digest = await digest_of_key(session, embedding["key"])
        if digest is None:
            said = f"the API key {embedding['key']!r} is gone: choose another"
            raise Trouble("embedding_refused", said, passes=False)
        return _Route(self.gateway, schemas.RouteEmbedding.model_validate(embedding), digest)

    async def query(self, embedder: Embedder, text: str) -> Floats:
        """Vector of a query, shape (dimension,)."""
        known = (embedder.name, text)
        if known not in self._queries:
            self._queries[known] = (await embedder.embed([text]))[0]
            if len(self._queries) > QUERIES_KEPT:
                self._queries.popitem(last=False)
        self._queries.move_to_end(known)
        return self._queries[known]

    async def _local(self, name: str) -> Embedder:
        async with self._one_at_a_time:
            if name not in self.folders:
                raise Trouble("embedding_refused", f"there is no model {name!r} in [knowledge] models", passes=False)
            if name not in self._models:
                try:
                    self._models[name] = await asyncio.to_thread(LocalModel, self.folders[name])
                except Unusable as exc:
                    raise Trouble("embedding_refused", str(exc), passes=False) from exc
        return _Local(name, self._models[name], self._one_at_a_time)


class _Local:
    def __init__(self, name: str, model: LocalModel, lock: asyncio.Lock) -> None:
        self.name = f"local:{name}"
        self._model, self._lock = model, lock

    def count(self, texts: Sequence[str]) -> list[int]:
        return self._model.count(texts)

    async def embed(self, texts: Sequence[str]) -> Floats:
        async with self._lock:  # two at once take twice as long each
            return await asyncio.to_thread(self._model.embed, texts)


class _Route:
    def __init__(self, gateway: Gateway, embedding: schemas.RouteEmbedding, digest: str) -> None:
        self.name = f"route:{embedding.route}:{embedding.dimensions or ''}"
        self._gateway, self._embedding, self._digest = gateway, embedding, digest

    def count(self, texts: Sequence[str]) -> list[int]:
        return estimated(texts)

    async def embed(self, texts: Sequence[str]) -> Floats:
        body: dict[str, Any] = {"model": self._embedding.route, "input": list(texts), "encoding_format": "float"}
        if self._embedding.dimensions is not None:
            body["dimensions"] = self._embedding.dimensions
        try:
            status, content = await self._gateway.post("/v1/embeddings", self._digest, body, _SECONDS)
        except Unreachable as exc:
            raise Trouble("embedding_down", str(exc)) from exc
        if status != 200:
            passes = status in (408, 429) or status >= 500
            said = f"the route {self._embedding.route!r} answers {status}: {message_of(content)}"
            raise Trouble("embedding_down" if passes else "embedding_refused", said, passes=passes)
        try:
            data = sorted(json.loads(content)["data"], key=lambda one: one["index"])
            vectors = np.array([one["embedding"] for one in data], np.float32)
        except (ValueError, KeyError, TypeError) as exc:
            raise Trouble("embedding_down", f"{self._embedding.route!r} answers no vectors") from exc
        if vectors.shape[:1] != (len(texts),) or vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise Trouble("embedding_down", f"{self._embedding.route!r} answers {vectors.shape} for {len(texts)} texts")
        return unit(vectors)
