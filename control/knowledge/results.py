"""Answers of searches that are kept for a moment: bounded in number, in age and in size.

A kept answer is found by everything that decides it: for each base its id, its index, the revision of its documents,
which of them the caller may not see, and how passages are found; then the query, its limits and its filter. Whoever may
see other documents has another key, and whatever changes a document gives the base another revision: an answer of
before cannot be found any more. Bases that a caller may not read, and keys that may not be used, are refused before
anything is looked up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from control.models.base import now
from gateway.contract.retrieval import RetrievalReply

SETTLED = timedelta(seconds=5)
"""Answers are kept only where no document has changed for so long: a Milvus may find a new one a moment later."""
KEPT_CHARS = 50_000
"""Most characters of the passages of an answer that is kept."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What decides an answer, and since when it has been so."""

    key: str
    changed_at: datetime
    """When a document of its bases has last changed."""


def scope_of(facts: Any, changed_at: datetime) -> Scope:
    """Of everything that decides an answer, as JSON."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return Scope(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), changed_at)


class Results:
    """Kept answers; one for a process. The least recently used go first."""

    def __init__(self, entries: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries, self._seconds, self._clock = entries, seconds, clock
        self._kept: OrderedDict[str, tuple[float, RetrievalReply]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, scope: Scope) -> RetrievalReply | None:
        """A kept answer that is not too old."""
        found = self._kept.get(scope.key)
        if found is None:
            return None
        if self._clock() - found[0] >= self._seconds:
            del self._kept[scope.key]
            return None
        self._kept.move_to_end(scope.key)
        return found[1]

    def put(self, scope: Scope, reply: RetrievalReply) -> None:
        """Keep an answer, unless it is large, or a rerank model has failed, or documents have changed just now."""
        large = sum(len(passage.text) for passage in reply.passages) > KEPT_CHARS
        if not self._entries or large or reply.rerank == "failed" or now() - scope.changed_at < SETTLED:
            return
        self._kept[scope.key] = (self._clock(), reply)
        self._kept.move_to_end(scope.key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)
