"""An index in memory: finds chunks by vectors and by words, in a few milliseconds where Milvus Lite takes many.

What it finds is exact: every vector is compared. Words are weighed by BM25 with the constants and the statistics that a
Milvus server has: over all chunks of the index.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control.knowledge.local_model import Floats
from control.knowledge.vectors import Among, Hit, Row

Ints = NDArray[np.int32]
K1, B = 1.2, 0.75
"""BM25: how soon more of the same word stops to count, and how much a long text counts for less."""
SMALL = 2**20
"""Numbers in all vectors up to which a search takes less time than a walk to a thread and back: half a millisecond."""
_BYTES_OF_AN_ID = 96


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Which words are in which chunks: one place for each word of each chunk, those of a word side by side."""

    numbers: dict[str, int]
    """Word → its number."""
    starts: NDArray[np.int64]
    """Where the places of each number begin, and at the end how many there are."""
    rows: Ints
    """Chunk of each place."""
    counts: NDArray[np.uint16]
    """How often the word is in that chunk."""
    weights: Floats
    """What it counts for there, but for how rare the word is."""

    @property
    def bytes(self) -> int:
        """Memory that it takes, about."""
        arrays = (self.starts, self.rows, self.counts, self.weights)
        return sum(array.nbytes for array in arrays) + len(self.numbers) * _BYTES_OF_AN_ID


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """See the module. It never changes: `changed` makes another one."""

    ids: list[str]
    """Of the chunks, one for each row."""
    documents: dict[str, int]
    """Document → its number."""
    of: Ints
    """Number of the document of each row."""
    vectors: Floats
    """Of length one, shape (rows, dimension)."""
    words: Words

    @classmethod
    def empty(cls, dimension: int) -> Memory:
        """One without chunks."""
        none = np.zeros(0, np.int32)
        return cls(
            [], {}, none, np.zeros((0, dimension), np.float32), _words({}, none, none, none.astype(np.uint16), 0)
        )

    @property
    def bytes(self) -> int:
        """Memory that it takes, about."""
        return self.vectors.nbytes + self.of.nbytes + len(self.ids) * _BYTES_OF_AN_ID + self.words.bytes

    def changed(self, gone: Collection[str], new: Sequence[Row]) -> Memory:
        """The same without the chunks of some documents, and with other chunks."""
        numbers = [self.documents[name] for name in gone]
        kept = ~np.isin(self.of, numbers)
        documents = {name: number for name, number in self.documents.items() if name not in gone}
        following = max(documents.values(), default=-1) + 1
        for name in dict.fromkeys(row.document for row in new):
            if name not in documents:
                documents[name], following = following, following + 1
        ids = [self.ids[at] for at in np.flatnonzero(kept)] + [row.id for row in new]
        of = np.array([documents[row.document] for row in new], np.int32)
        more = np.array([row.vector for row in new], np.float32).reshape(-1, self.vectors.shape[1])
        words = _changed(self.words, kept, [row.terms for row in new])
        return Memory(ids, documents, np.append(self.of[kept], of), np.concatenate([self.vectors[kept], more]), words)

    async def near(self, vector: Floats, limit: int, among: Among) -> list[Hit]:
        """Chunks whose vectors are most like this one, as `Vectors.near` finds them."""
        return await self._run(lambda: self._best(self.vectors @ vector, limit, among, -np.inf))

    async def saying(self, terms: str, limit: int, among: Among) -> list[Hit]:
        """Chunks with the most telling words in common, as `Vectors.saying` finds them."""
        return await self._run(lambda: self._best(self._telling(terms), limit, among, 0.0))

    async def _run(self, search: Callable[[], list[Hit]]) -> list[Hit]:
        return search() if self.vectors.size <= SMALL else await asyncio.to_thread(search)

    def _telling(self, terms: str) -> Floats:
        words, scores = self.words, np.zeros(len(self.ids), np.float32)
        for word, times in Counter(terms.split()).items():
            number = words.numbers.get(word)
            if number is None:
                continue
            places = slice(words.starts[number], words.starts[number + 1])
            having = places.stop - places.start
            rarity = np.log1p((len(scores) - having + 0.5) / (having + 0.5))
            scores[words.rows[places]] += np.float32(times * rarity) * words.weights[places]
        return scores

    def _best(self, scores: Floats, limit: int, among: Among, above: float) -> list[Hit]:
        """Chunks of these scores, one for each row, that are above one; the best first."""
        rows = np.flatnonzero(scores > above)
        if among.documents:
            named = np.zeros(max(self.documents.values(), default=-1) + 1, bool)
            named[[self.documents[name] for name in among.documents if name in self.documents]] = True
            rows = rows[named[self.of[rows]] == among.inside]
        if len(rows) > limit:
            rows = rows[np.argpartition(-scores[rows], limit)[:limit]]
        found = [Hit(self.ids[row], float(scores[row])) for row in rows]
        return sorted(found, key=lambda hit: (-hit.score, hit.id))


def _changed(words: Words, kept: NDArray[np.bool_], new: Sequence[str]) -> Words:
    """Without the rows that are not kept, and with the words of other texts, which are the rows after these."""
    numbers, places = dict(words.numbers), kept[words.rows]
    old = np.repeat(np.arange(len(words.starts) - 1, dtype=np.int32), np.diff(words.starts))[places]
    rows = (np.cumsum(kept, dtype=np.int32) - 1)[words.rows[places]]
    tokens, lengths, before = list[int](), list[int](), int(np.count_nonzero(kept))
    for text in new:
        some = [numbers.setdefault(word, len(numbers)) for word in text.split()]
        tokens += some
        lengths.append(len(some))
    following = np.repeat(np.arange(before, before + len(new), dtype=np.int64), lengths)
    added, counts = np.unique(following << 32 | np.array(tokens, np.int64), return_counts=True)
    return _words(
        numbers,
        np.concatenate([old, (added & 0xFFFFFFFF).astype(np.int32)]),
        np.concatenate([rows, (added >> 32).astype(np.int32)]),
        np.concatenate([words.counts[places], counts.clip(max=65_535).astype(np.uint16)]),
        before + len(new),
    )


def _words(numbers: dict[str, int], words: Ints, rows: Ints, counts: NDArray[np.uint16], chunks: int) -> Words:
    """Of places in any order, in so many chunks."""
    order = np.argsort(words, kind="stable")
    rows, counts = rows[order], counts[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(words, minlength=len(numbers)))]).astype(np.int64)
    lengths = np.bincount(rows, weights=counts, minlength=chunks)
    damped = K1 * (1 - B + B * lengths[rows] * chunks / max(lengths.sum(), 1.0))
    return Words(numbers, starts, rows, counts, (counts * (K1 + 1) / (counts + damped)).astype(np.float32))
