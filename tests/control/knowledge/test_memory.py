"""An index in memory against plain arithmetic, and against what Milvus Lite finds in the same chunks."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from control.knowledge.local_model import unit
from control.knowledge.memory import K1, B, Memory
from control.knowledge.vectors import ALL, Among, Hit, Row, Vectors
from tests.fakes.milvus import MilvusLite

WORDS = ("leave", "holiday", "年假", "invoice", "gpu", "error")
DIMENSION = 4
Chunks = dict[str, list[str]]
"""Document → the words of its chunks."""

texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
chunks = st.dictionaries(st.sampled_from("abcdef"), st.lists(texts, min_size=1, max_size=4), max_size=5)


def rows(documents: Chunks) -> list[Row]:
    """Chunks with a vector that only their name decides."""
    return [
        Row(f"{name}{at}", name, unit(_drawn(f"{name}{at}"))[0], text)
        for name, texts in documents.items()
        for at, text in enumerate(texts)
    ]


def _drawn(name: str) -> np.ndarray:
    return np.random.default_rng(list(name.encode())).standard_normal((1, DIMENSION), np.float32)


def made(documents: Chunks) -> Memory:
    return Memory.empty(DIMENSION).changed((), rows(documents))


def near(memory: Memory, limit: int, among: Among = ALL) -> list[Hit]:
    return asyncio.run(memory.near(unit(_drawn("question"))[0], limit, among))


def saying(memory: Memory, terms: str, limit: int, among: Among = ALL) -> list[Hit]:
    return asyncio.run(memory.saying(terms, limit, among))


def best(scores: dict[str, float], limit: int) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda one: (-one[1], one[0]))[:limit]


def same(hits: list[Hit], wanted: list[tuple[str, float]]) -> None:
    """The same scores in the same order; of chunks with the same one, any."""
    assert np.allclose([hit.score for hit in hits], [score for _, score in wanted], atol=1e-5)
    assert len({hit.id for hit in hits}) == len(hits)


def bm25(some: list[Row], terms: str) -> dict[str, float]:
    """As books have it."""
    counts = {row.id: Counter(row.terms.split()) for row in some}
    usual = sum(one.total() for one in counts.values()) / len(counts) if counts else 0.0
    scores: dict[str, float] = {}
    for id, count in counts.items():
        for word, times in Counter(terms.split()).items():
            if count[word]:
                having = sum(word in one for one in counts.values())
                rarity = math.log(1 + (len(counts) - having + 0.5) / (having + 0.5))
                damped = K1 * (1 - B + B * count.total() / usual)
                scores[id] = scores.get(id, 0.0) + times * rarity * count[word] * (K1 + 1) / (count[word] + damped)
    return scores


@settings(max_examples=60, deadline=None)
@given(chunks, texts, st.integers(1, 20), st.sets(st.sampled_from("abcdefgh")), st.booleans())
def test_it_finds_what_arithmetic_finds(
    documents: Chunks, terms: str, limit: int, named: set[str], inside: bool
) -> None:
    memory, all_rows, among = made(documents), rows(documents), Among(frozenset(named), inside)
    seen = {row.id for row in all_rows if not named or (row.document in named) == inside}
    question = unit(_drawn("question"))[0]
    likeness = {row.id: float(row.vector @ question) for row in all_rows if row.id in seen}
    same(near(memory, limit, among), best(likeness, limit))
    told = {id: score for id, score in bm25(all_rows, terms).items() if id in seen}
    same(saying(memory, terms, limit, among), best(told, limit))


def test_a_large_one_is_searched_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = made({"a": ["leave"], "b": ["holiday"]})
    small, threads = (near(memory, 2), saying(memory, "leave", 2)), list[str]()
    monkeypatch.setattr("control.knowledge.memory.SMALL", 0)
    monkeypatch.setattr(Memory, "_best", noting(Memory._best, threads))
    assert (near(memory, 2), saying(memory, "leave", 2)) == small
    assert len(threads) == 2
    assert "MainThread" not in threads


def noting(work: Callable[..., list[Hit]], threads: list[str]) -> Callable[..., list[Hit]]:
    """The same, that also notes where it runs."""

    def noted(*told: Any) -> list[Hit]:
        threads.append(threading.current_thread().name)
        return work(*told)

    return noted


@settings(max_examples=60, deadline=None)
@given(chunks, chunks, texts)
def test_changed_again_and_again_it_is_as_if_made_anew(before: Chunks, after: Chunks, terms: str) -> None:
    """What is in both stays, as documents do that never change."""
    after = {name: before.get(name, texts) for name, texts in after.items()}
    new = {name: texts for name, texts in after.items() if name not in before}
    changed = made(before).changed(before.keys() - after.keys(), rows(new))
    anew = made(after)
    assert sorted(changed.ids) == sorted(anew.ids)
    assert set(changed.documents) == set(after)
    assert near(changed, 20) == near(anew, 20)
    same(saying(changed, terms, 20), [(hit.id, hit.score) for hit in saying(anew, terms, 20)])


def test_it_finds_what_milvus_lite_finds(milvus: MilvusLite) -> None:
    """The same chunks near, with the same scores; by words the same chunks in the same order, though Milvus Lite has
    constants of its own, so only where these cannot decide.
    """
    documents = {
        "a": ["leave leave holiday", "invoice", "gpu error"],
        "b": ["leave", "年假 holiday", "error error error invoice"],
        "c": ["gpu gpu", "holiday"],
    }

    async def found() -> tuple[list[Hit], list[Hit], list[Hit]]:
        vectors, collection = Vectors(milvus.uri, ""), "beside"
        await vectors.prepare(collection, DIMENSION)
        await vectors.put(collection, rows(documents))
        await vectors.settle(collection)
        question, without_b = unit(_drawn("question"))[0], Among(frozenset("b"))
        told = (
            await vectors.near(collection, question, 5, ALL),
            await vectors.near(collection, question, 5, without_b),
            await vectors.saying(collection, "年假 gpu", 5, ALL),
        )
        await vectors.drop(collection)
        await vectors.close()
        return told

    memory = made(documents)
    all_near, without_b, telling = asyncio.run(found())
    for mine, theirs in ((near(memory, 5), all_near), (near(memory, 5, Among(frozenset("b"))), without_b)):
        assert [hit.id for hit in mine] == [hit.id for hit in theirs]
        assert np.allclose([hit.score for hit in mine], [hit.score for hit in theirs], atol=1e-5)
    assert {hit.id for hit in saying(memory, "年假 gpu", 5)} == {hit.id for hit in telling} == {"b1", "c0", "a2"}
