"""Members of requests that change nothing about the answer: a target that has no place for them may do without."""

from __future__ import annotations

HINTS = frozenset({
    "store", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prediction",
})  # fmt: skip
