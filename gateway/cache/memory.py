"""Answers in the memory of one worker: the least recently used go first when there is no room."""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict
from math import isfinite, sqrt
from operator import mul
from typing import Any, NamedTuple

from gateway.cache.entry import Entry

OVERHEAD = 1024
"""Bytes that an entry takes beyond its body and its vector, about."""
EXACT = 32
"""Questions whose similarity is computed: those whose vectors' signs differ least. A thousand dimensions take 30 µs,
the comparison of their signs 0.1 µs. Vectors with a cosine of 0.9 differ in one sign of seven, unrelated ones in half.
"""


class Vector(NamedTuple):
    """A text's place among meanings."""

    signs: int
    """One bit for each dimension: whether it is above 0."""
    values: array[float]
    """Of length 1."""

    def cosine(self, other: Vector) -> float:
        """Similarity, -1 to 1; 0 if they are not of one space."""
        return sum(map(mul, self.values, other.values)) if len(self.values) == len(other.values) else 0.0


def vector(numbers: Any) -> Vector | None:
    """The vector of an embedding as JSON has it; None if it is none."""
    if not isinstance(numbers, list) or not all(type(one) in (int, float) for one in numbers):
        return None
    length = sqrt(sum(map(mul, numbers, numbers)))
    if not isfinite(length) or not length:
        return None
    signs = int("".join("1" if one > 0 else "0" for one in numbers), 2)
    return Vector(signs, array("f", [one / length for one in numbers]))


class Question(NamedTuple):
    """What an answer may be found by beside its digest."""

    partition: bytes
    """What else must be equal."""
    vector: Vector


class _Slot(NamedTuple):
    entry: Entry
    until: float
    size: int
    partition: bytes | None


class Memory:
    """See the module. Times are Unix seconds."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._slots: OrderedDict[bytes, _Slot] = OrderedDict()
        self._questions: dict[bytes, OrderedDict[bytes, Vector]] = {}
        """Partition -> digest -> vector, the oldest first."""
        self.held = 0
        """Bytes."""

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, digest: bytes, now: float) -> Entry | None:
        """The answer of an equal request."""
        slot = self._slots.get(digest)
        if slot is None:
            return None
        if now >= slot.until:
            self._remove(digest)
            return None
        self._slots.move_to_end(digest)
        return slot.entry

    def put(self, digest: bytes, entry: Entry, until: float, question: Question | None = None, most: int = 0) -> None:
        """Keep an answer; of its partition, the last `most` questions are looked through."""
        self._remove(digest)
        size = len(entry.body) + OVERHEAD + (5 * len(question.vector.values) if question is not None else 0)
        if size > self._max_bytes:
            return
        while self.held + size > self._max_bytes:
            self._remove(next(iter(self._slots)))
        self._slots[digest] = _Slot(entry, until, size, question.partition if question is not None else None)
        self.held += size
        if question is not None:
            known = self._questions.setdefault(question.partition, OrderedDict())
            known[digest] = question.vector
            if len(known) > most:
                known.popitem(last=False)

    def nearest(self, asked: Question, threshold: float, now: float, max_age: float) -> Entry | None:
        """The answer to the question that is most like one, if any is like it enough."""
        known = self._questions.get(asked.partition)
        if not known:
            return None
        signs = asked.vector.signs
        near = heapq.nsmallest(EXACT, known.items(), key=lambda one: (one[1].signs ^ signs).bit_count())
        for likeness, digest in sorted(((asked.vector.cosine(other), digest) for digest, other in near), reverse=True):
            if likeness < threshold:
                return None
            entry = self.get(digest, now)
            if entry is not None and now - entry.at <= max_age:
                return entry
        return None

    def sweep(self, now: float) -> None:
        """Forget what is too old."""
        for digest in [digest for digest, slot in self._slots.items() if now >= slot.until]:
            self._remove(digest)

    def _remove(self, digest: bytes) -> None:
        slot = self._slots.pop(digest, None)
        if slot is None:
            return
        self.held -= slot.size
        if slot.partition is not None:
            known: OrderedDict[bytes, Vector] | dict[bytes, Vector] = self._questions.get(slot.partition, {})
            known.pop(digest, None)
            if not known:
                self._questions.pop(slot.partition, None)
