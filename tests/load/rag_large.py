"""Many made-up chunks: in Milvus Lite, written and searched by control, beside pymilvus alone; and in a copy."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pymilvus import MilvusClient

from control.knowledge.local_model import Floats, unit
from control.knowledge.memory import Memory
from control.knowledge.terms import asked, terms
from control.knowledge.trouble import Trouble
from control.knowledge.vectors import ALL, Row, Vectors
from tests.fakes.milvus import MilvusLite
from tests.load.rag_parts import CANDIDATES, both, timed

BATCH = 500
SENTENCES = 5
REPEATS = 30
LONGEST = 600.0
"""Seconds of writing."""
LEAST_FREE = 4.0
"""GiB of memory that are left to the machine."""


Search = Callable[..., Awaitable[Any]]


class Large(NamedTuple):
    """What came of it; searches in milliseconds."""

    wanted: int
    chunks: int
    seconds: float
    gigabytes: float
    """Of the server's memory, at the end."""
    ours: list[float]
    plain: list[float]
    copied: list[float]
    """In a copy."""
    copying: float
    """Seconds of making it of what the database would give."""
    mib: float
    """Of its memory."""
    why: str
    """Why there is less of it than was wanted; may be empty."""


def filled(folder: Path, chunks: int, dimension: int, texts: Mapping[str, str], questions: Sequence[str]) -> Large:
    """A collection of so many chunks, as far as time and memory allow, and searches in it."""
    with MilvusLite(folder) as milvus:
        return asyncio.run(_measured(milvus, chunks, dimension, texts, questions))


async def _measured(
    milvus: MilvusLite, chunks: int, dimension: int, texts: Mapping[str, str], questions: Sequence[str]
) -> Large:
    vectors, collection = Vectors(milvus.uri, ""), "large"
    await vectors.prepare(collection, dimension)
    began, written, why = time.monotonic(), 0, ""
    memory, copying = Memory.empty(dimension), 0.0
    ours, plain, copied, all_rows = list[float](), list[float](), list[float](), list[Row]()
    try:
        for rows in _rows(chunks, dimension, texts):
            await vectors.put(collection, rows)
            written += len(rows)
            all_rows += rows
            if why := _enough(time.monotonic() - began):
                break
        await vectors.settle(collection)
        seconds = time.monotonic() - began
        memory = Memory.empty(dimension).changed((), all_rows)
        copying = time.monotonic() - began - seconds
        all_rows.clear()
        client = MilvusClient(uri=milvus.uri)
        vector = _vectors(1, dimension)[0]
        near, saying = partial(vectors.near, collection), partial(vectors.saying, collection)
        await _first(lambda: _search(near, saying, questions[-1], vector))
        for text, vector in zip(questions[:REPEATS], _vectors(REPEATS, dimension), strict=True):
            ours.append(await _search(near, saying, text, vector))
            copied.append(await _search(memory.near, memory.saying, text, vector))
            as_list = vector.tolist()
            plain.append(await asyncio.to_thread(timed, lambda: both(client, collection, text, as_list)))  # noqa: B023
    except Trouble as exc:
        seconds, why = time.monotonic() - began, "; ".join(filter(None, (why, str(exc))))
    await vectors.close()
    mib = memory.bytes / 2**20
    return Large(chunks, written, seconds, milvus.gigabytes(), ours, plain, copied, copying, mib, why)


async def _search(near: Search, saying: Search, text: str, vector: Floats) -> float:
    """Milliseconds of both."""
    began = time.perf_counter()
    await asyncio.gather(near(vector, CANDIDATES, ALL), saying(asked(text), CANDIDATES, ALL))
    return (time.perf_counter() - began) * 1000


async def _first(search: Callable[[], Awaitable[float]]) -> None:
    """Search until it comes to something: the first searches wait for an index, and longer than they may."""
    deadline = time.monotonic() + LONGEST
    while True:
        try:
            await search()
            return
        except Trouble:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(5)


def _rows(chunks: int, dimension: int, texts: Mapping[str, str]) -> Iterator[list[Row]]:
    draw = random.Random(7)
    sentences = [terms(one) for text in texts.values() for one in re.split(r"(?<=[.!?])\s+", text) if len(one) > 20]
    for start in range(0, chunks, BATCH):
        vectors = _vectors(min(BATCH, chunks - start), dimension, start)
        yield [
            Row(f"{start + at}", f"{start // BATCH}", vector, " ".join(draw.choices(sentences, k=SENTENCES))[:2000])
            for at, vector in enumerate(vectors)
        ]


def _vectors(many: int, dimension: int, seed: int = -1) -> Floats:
    return unit(np.random.default_rng(seed + 1).standard_normal((many, dimension), np.float32))


def _enough(seconds: float) -> str:
    """Why writing ends early; empty where it goes on."""
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(memory["MemAvailable"].split()[0]) / 2**20
    if free < LEAST_FREE:
        return f"writing ended with {free:.1f} GiB of memory left"
    return f"writing ended after {seconds:.0f} s" if seconds > LONGEST else ""
