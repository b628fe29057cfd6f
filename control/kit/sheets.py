"""CSV for spreadsheets."""

from __future__ import annotations


def tame(value: object) -> object:
    """The same; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
