"""Texts to vectors: through a route of the gateway, or by a model in control itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.knowledge import schemas
from control.knowledge.chunking import estimated
from control.knowledge.local_model import Floats, LocalModel, Unusable, unit
from control.knowledge.trouble import Trouble
from control.models import ApiKey
from control.security import Vault

BATCH = 32
"""Texts in one request."""
QUERIES_KEPT = 1000
"""Vectors of queries that are in memory, the least recently used go first."""
_TOKEN_SECONDS = 300
_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=5)


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

    def __init__(self, gateway_url: str, vault: Vault, folders: Mapping[str, Path]) -> None:
        self._gateway_url, self._vault, self.folders = gateway_url.rstrip("/"), vault, dict(folders)
        self._models: dict[str, LocalModel] = {}
        self._one_at_a_time = asyncio.Lock()
        self._queries: OrderedDict[tuple[str, str], Floats] = OrderedDict()
        self._http: aiohttp.ClientSession | None = None

    async def get(self, session: AsyncSession, embedding: Mapping[str, Any]) -> Embedder:
        """The model of an index. Raises Trouble where it cannot be had."""
        if embedding["kind"] == "local":
            return await self._local(embedding["model"])
        key = await session.scalar(select(ApiKey).where(ApiKey.public_name == embedding["key"]))
        if key is None or key.revoked_at is not None:
            said = f"the API key {embedding['key']!r} is gone: choose another"
            raise Trouble("embedding_refused", said, passes=False)
        return _Route(self, schemas.RouteEmbedding.model_validate(embedding), key.digest)

    async def query(self, embedder: Embedder, text: str) -> Floats:
        """Vector of a query, shape (dimension,)."""
        known = (embedder.name, text)
        if known not in self._queries:
            self._queries[known] = (await embedder.embed([text]))[0]
            if len(self._queries) > QUERIES_KEPT:
                self._queries.popitem(last=False)
        self._queries.move_to_end(known)
        return self._queries[known]

    async def post(self, digest: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """Status and body of `/v1/embeddings`, as the API key with this SHA-256."""
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=_TIMEOUT)
        token = self._vault.session_token(digest, int(time.time()) + _TOKEN_SECONDS)
        headers = {"authorization": f"Bearer {token}"}
        try:
            async with self._http.post(f"{self._gateway_url}/v1/embeddings", json=body, headers=headers) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            said = f"the gateway at {self._gateway_url} does not answer: {type(exc).__name__}"
            raise Trouble("embedding_down", said) from exc

    async def close(self) -> None:
        """Close connections."""
        if self._http is not None:
            await self._http.close()

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
    def __init__(self, all_: Embedders, embedding: schemas.RouteEmbedding, digest: str) -> None:
        self.name = f"route:{embedding.route}:{embedding.dimensions or ''}"
        self._all, self._embedding, self._digest = all_, embedding, digest

    def count(self, texts: Sequence[str]) -> list[int]:
        return estimated(texts)

    async def embed(self, texts: Sequence[str]) -> Floats:
        body: dict[str, Any] = {"model": self._embedding.route, "input": list(texts), "encoding_format": "float"}
        if self._embedding.dimensions is not None:
            body["dimensions"] = self._embedding.dimensions
        status, content = await self._all.post(self._digest, body)
        if status != 200:
            passes = status in (408, 429) or status >= 500
            said = f"the route {self._embedding.route!r} answers {status}: {_message(content)}"
            raise Trouble("embedding_down" if passes else "embedding_refused", said, passes=passes)
        try:
            data = sorted(json.loads(content)["data"], key=lambda one: one["index"])
            vectors = np.array([one["embedding"] for one in data], np.float32)
        except (ValueError, KeyError, TypeError) as exc:
            raise Trouble("embedding_down", f"{self._embedding.route!r} answers no vectors") from exc
        if vectors.shape[:1] != (len(texts),) or vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise Trouble("embedding_down", f"{self._embedding.route!r} answers {vectors.shape} for {len(texts)} texts")
        return unit(vectors)


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return "no message"
