"""List prices of well-known models to start from, in `defaults.toml` beside this module. Nothing is charged by them."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from control.prices.schemas import ListPrice

FILE = Path(__file__).with_name("defaults.toml")


@cache
def entries() -> tuple[ListPrice, ...]:
    """Every entry."""
    document = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(ListPrice.model_validate(model) for model in document["model"])


def find(search: str) -> list[ListPrice]:
    """Entries whose model or vendor contains the text."""
    text = search.casefold().strip()
    return [entry for entry in entries() if text in entry.model.casefold() or text in entry.vendor.casefold()]


def of_model(model: str) -> ListPrice | None:
    """The entry of a model, by its exact name."""
    return next((entry for entry in entries() if entry.model == model), None)
