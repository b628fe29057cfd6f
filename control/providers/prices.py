"""The price book: list prices of well-known models, from `prices.toml` beside this module."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from control.providers.schemas import ListPrice

FILE = Path(__file__).with_name("prices.toml")


@cache
def book() -> tuple[ListPrice, ...]:
    """Every entry."""
    document = tomllib.loads(FILE.read_text(encoding="utf-8"))
    source, as_of = document["source"], document["as_of"]
    return tuple(ListPrice.model_validate({"source": source, "as_of": as_of, **model}) for model in document["model"])


def find(search: str) -> list[ListPrice]:
    """Entries whose model or vendor contains the text."""
    text = search.casefold().strip()
    return [entry for entry in book() if text in entry.model.casefold() or text in entry.vendor.casefold()]
