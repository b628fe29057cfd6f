"""How one JSON value differs from another, as a list of places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from control.routes.schemas import Difference


def differences(before: Any, after: Any, at: str = "") -> Iterator[Difference]:
    """Every leaf that differs; lists are compared by position."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from differences(before.get(name), after.get(name), _below(at, name))
    elif isinstance(before, list) and isinstance(after, list):
        for number in range(max(len(before), len(after))):
            yield from differences(_item(before, number), _item(after, number), _below(at, str(number)))
    elif before != after or type(before) is not type(after):
        yield Difference(path=at, before=before, after=after)


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _item(items: list[Any], number: int) -> Any:
    return items[number] if number < len(items) else None
