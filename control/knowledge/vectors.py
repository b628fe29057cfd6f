"""Milvus: finds chunks by vectors and by words. It holds nothing that the database does not have too.

The client is synchronous and is called in threads: Milvus Lite knows no index when it is asked asynchronously. It takes
a second to load, so it is loaded when it is first needed: most installations begin without a knowledge base.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from control.knowledge.local_model import Floats
from control.knowledge.trouble import Trouble

if TYPE_CHECKING:
    from pymilvus import MilvusClient

T = TypeVar("T")
TIMEOUT = 10.0
"""Seconds for one call."""
MOST_IN_FILTER = 5000
"""Documents that a filter names to Milvus; of more, only those that were found are looked at."""
_NOT_LOADED = 101
_EF = 100
_LITE = "milvus_lite"


@dataclass(frozen=True, slots=True)
class Row:
    """A chunk, as Milvus has it."""

    id: str
    document: str
    vector: Floats
    terms: str


@dataclass(frozen=True, slots=True)
class Among:
    """Documents that a search looks into, or leaves out. It saves places, and decides nothing: see `found.py`."""

    documents: frozenset[str] = frozenset()
    inside: bool = False
    """Only these; else all but these."""

    @property
    def filter(self) -> str:
        """The same for Milvus: empty where there is nothing to say, or too much."""
        if not 0 < len(self.documents) <= MOST_IN_FILTER:
            return ""
        return (
            one_of("document", sorted(self.documents)) if self.inside else none_of("document", sorted(self.documents))
        )


ALL = Among()


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found, best first."""

    id: str
    score: float
    """Cosine or BM25."""


class Vectors:
    """The collections of one Milvus: one for each index."""

    def __init__(self, uri: str, token: str) -> None:
        self._uri, self._token = uri, token
        self._client: MilvusClient | None = None
        self.lite = False
        """Whether it is Milvus Lite; known from the first call on."""
        self._loaded: set[str] = set()
        self._connecting = threading.Lock()
        self._one_at_a_time = asyncio.Lock()
        self._searching = asyncio.Lock()

    async def prepare(self, collection: str, dimension: int) -> None:
        """Make the collection if it is not there. Raises Trouble, as every method does."""
        async with self._one_at_a_time:
            await self._call(lambda client: prepared(client, collection, dimension))

    async def put(self, collection: str, rows: Sequence[Row]) -> None:
        """Write chunks; those with an id that is there are replaced."""
        data = [
            {"id": row.id, "document": row.document, "vector": row.vector.tolist(), "terms": row.terms} for row in rows
        ]
        await self._call(lambda client: client.upsert(collection, data, timeout=60))

    async def settle(self, collection: str) -> None:
        """Have Milvus Lite index what was written; a server does so by itself. Until then a search on Lite looks at one
        chunk after another: with 2,000 of them it takes 15 times as long.
        """

        def work(client: MilvusClient) -> None:
            if self.lite and client.has_collection(collection, timeout=TIMEOUT):
                client.flush(collection, timeout=60)

        await self._call(work)

    async def forget(self, collection: str, document: str) -> None:
        """Delete the chunks of a document; nothing, if the collection is not there."""

        def work(client: MilvusClient) -> None:
            if client.has_collection(collection, timeout=TIMEOUT):
                client.load_collection(collection, timeout=TIMEOUT)
                client.delete(collection, filter=one_of("document", [document]), timeout=60)

        await self._call(work)

    async def drop(self, collection: str) -> None:
        """Delete a collection, if it is there."""
        await self._call(lambda client: client.drop_collection(collection, timeout=60))

    async def near(self, collection: str, vector: Floats, limit: int, among: Among) -> list[Hit]:
        """Chunks whose vectors are most like this one."""
        asked = {"metric_type": "COSINE", "params": {"ef": max(_EF, limit)}}
        return await self._search(collection, vector.tolist(), "vector", limit, among, asked)

    async def saying(self, collection: str, terms: str, limit: int, among: Among) -> list[Hit]:
        """Chunks with the most telling words in common, by BM25."""
        return await self._search(collection, terms, "sparse", limit, among, {"metric_type": "BM25"})

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    async def _search(
        self, collection: str, asked: Any, field: str, limit: int, among: Among, params: dict[str, Any]
    ) -> list[Hit]:
        def work(client: MilvusClient) -> list[Hit]:
            if collection not in self._loaded:
                client.load_collection(collection, timeout=60)
                self._loaded.add(collection)
            found = client.search(
                collection, [asked], anns_field=field, limit=limit, filter=among.filter, search_params=params,
                output_fields=["id"], timeout=TIMEOUT,  # without any, Milvus Lite gives all
            )[0]  # fmt: skip
            return list(map(Hit, found.ids, found.distances))

        async with self._searching if self.lite else contextlib.nullcontext():  # two at once would hinder each other
            try:
                return await self._call(work)
            except _Unloaded:  # Milvus was started again meanwhile
                self._loaded.discard(collection)
                return await self._call(work)

    async def _call(self, work: Callable[[MilvusClient], T]) -> T:
        return await asyncio.to_thread(self._work, work)

    def _work(self, work: Callable[[MilvusClient], T]) -> T:
        from grpc import RpcError  # noqa: PLC0415 - see above
        from pymilvus import MilvusClient, MilvusException  # noqa: PLC0415

        try:
            with self._connecting:
                if self._client is None:
                    client = MilvusClient(uri=self._uri, token=self._token, timeout=TIMEOUT)
                    self.lite = client.get_server_version(timeout=TIMEOUT).startswith(_LITE)
                    self._client = client
            return work(self._client)
        except MilvusException as exc:
            kind = _Unloaded if exc.code == _NOT_LOADED else Trouble
            raise kind("index_down", f"Milvus at {self._uri} fails: {exc.message}"[:500]) from exc
        except RpcError as exc:  # how pymilvus tells that no answer came in time
            raise Trouble("index_down", f"Milvus at {self._uri} gives no answer: {exc.code().name}") from exc
        except OSError as exc:
            raise Trouble("index_down", f"Milvus at {self._uri} is not reached: {exc}"[:500]) from exc


class _Unloaded(Trouble):
    """The collection has to be loaded again."""


def one_of(field: str, values: Sequence[str]) -> str:
    """A filter: the field has one of these values. Milvus Lite knows no parameters, so they are quoted here."""
    return f"{field} in [{', '.join(json.dumps(value) for value in values)}]"


def none_of(field: str, values: Sequence[str]) -> str:
    """A filter: the field has none of these values."""
    return f"not ({one_of(field, values)})"


def prepared(client: MilvusClient, collection: str, dimension: int) -> None:
    """Make the collection of an index, with what searches by vector and by words, if it is not there."""
    from pymilvus import DataType, Function, FunctionType  # noqa: PLC0415 - loaded by now

    if client.has_collection(collection, timeout=TIMEOUT):
        return
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=36)
    schema.add_field("document", DataType.VARCHAR, max_length=36)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    # the words are made by `terms`: the analyzer has only to split them at spaces
    schema.add_field("terms", DataType.VARCHAR, max_length=65_535, enable_analyzer=True)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, input_field_names=["terms"], output_field_names=["sparse"]))
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type="HNSW", metric_type="COSINE", params={"M": 16, "efConstruction": 200})
    indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_collection(collection, schema=schema, index_params=indexes, timeout=60)
