"""What a case asks: the messages of a prompt with the case's variables in their places, and then the case's own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLACE = re.compile(r"\{\{\s*([^{}\s]{1,64})\s*\}\}")


def messages(prompt: Sequence[Mapping[str, Any]], case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is sent. A variable is text wherever it comes from: braces in it are left as they are.

    Raises:
        KeyError: the prompt names a variable that the case does not have.
    """
    variables = case["variables"]
    return [filled(message, variables) for message in prompt] + [dict(message) for message in case["messages"]]


def names(prompt: Sequence[Mapping[str, Any]]) -> set[str]:
    """Variables that a prompt has places for."""
    return {found for text in _texts(list(prompt)) for found in _PLACE.findall(text)}


def filled(value: Any, variables: Mapping[str, str]) -> Any:
    """The same with variables in their places."""
    if isinstance(value, str):
        return _PLACE.sub(lambda found: variables[found[1]], value)
    if isinstance(value, list):
        return [filled(one, variables) for one in value]
    if isinstance(value, Mapping):
        return {key: filled(one, variables) for key, one in value.items()}
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
