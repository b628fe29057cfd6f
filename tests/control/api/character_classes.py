"""Hooks of `schemathesis` that change nothing of what it does: a character class of a pattern is worked out once.

Hypothesis goes through the characters of a class one by one each time that it meets it. Names here may have Chinese
ones, 21,000 of them, in a hundred patterns that are met thousands of times: that was a third of what a run took.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis.strategies._internal import lazy, regex

_unwrapped: Any = lazy.unwrap_strategies


def _remembering(work_out: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[tuple[Any, ...], Any] = {}

    def strategy(codes: Any, context: Any, is_unicode: bool, *, alphabet: Any) -> Any:
        if not is_unicode or not isinstance(codes, tuple) or codes[0].name != "IN":
            return work_out(codes, context, is_unicode, alphabet=alphabet)
        key = (str(codes), context.flags, _unwrapped(alphabet).intervals)
        if key not in known:
            known[key] = work_out(codes, context, is_unicode, alphabet=alphabet)
        return known[key]

    return strategy


regex._strategy = _remembering(regex._strategy)
