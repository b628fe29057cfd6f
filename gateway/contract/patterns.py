"""Regular expressions that people may configure: checked so that none can stall the process that runs it.

Python's `re` cannot be interrupted and lets nobody else run meanwhile, so a time-out would come too late. Instead a
pattern may only be one whose work at each place of a text is bounded: no unbounded repeat, no look-around, no
back-reference, at most `LONGEST` characters a match and `WAYS` ways to match.
"""

from __future__ import annotations

import re
from re import _constants as op, _parser  # type: ignore[attr-defined]  # the parser of `re` itself: no second opinion
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, StringConstraints

LONGEST = 256
"""Characters that one match may have."""
WAYS = 300
"""Ways in which a pattern may match at one place: what backtracking has to try in the worst case."""


Redaction = Literal["email", "phone", "id_card", "bank_card", "secret"]
"""What `gateway.redact` finds without a pattern."""


def widest(pattern: str) -> int:
    """Characters that a match may have."""
    return int(_parser.parse(pattern).getwidth()[1])


def check_pattern(pattern: str) -> str:
    """The pattern; ValueError says why it is refused."""
    try:
        tree = _parser.parse(pattern)
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"{pattern[:80]!r} is no regular expression: {exc}") from exc
    shortest, longest = tree.getwidth()
    if not shortest:
        raise ValueError(f"{pattern[:80]!r} matches nothing at all, so it would match everywhere")
    ways = _ways(tree)
    if longest > LONGEST:
        raise ValueError(f"{pattern[:80]!r} may match more than {LONGEST} characters: write {{0,20}} instead of * or +")
    if ways > WAYS:
        raise ValueError(f"{pattern[:80]!r} can match in more than {WAYS} ways at one place: shorten its repeats")
    return pattern


def _ways(nodes: Any) -> int:
    """Upper bound of the ways through a sequence; capped, since powers grow without end."""
    total = 1
    for kind, value in nodes:
        total = min(total * _ways_of(kind, value), WAYS + 1)
    return total


def _ways_of(kind: Any, value: Any) -> int:
    if kind in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN, op.AT):
        return 1
    if kind is op.SUBPATTERN:
        return _ways(value[-1])
    if kind is op.BRANCH:
        return sum(map(_ways, value[1]))
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        least, most, inner = value
        each = _ways(inner)
        if most > LONGEST:
            return WAYS + 1  # unbounded: told by its width, or of something without width
        if each == 1:
            return int(most - least + 1)
        return min(sum(int(each ** min(times, 10)) for times in range(least, most + 1)), WAYS + 1)
    raise ValueError(f"a pattern cannot use look-around, back-references and the like ({kind})")


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(check_pattern)]
