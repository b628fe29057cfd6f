"""From a place in a TOML document to its line, so that `tunegate config check` can point at a mistake.

tomllib keeps no positions, so this follows the table headers and keys of the text; it never decides what is valid.
"""

from __future__ import annotations

import re

from gateway.errors import Place

_HEADER = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-\s]+?)\s*\]")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\-]+)\s*=")


def line_of(text: str, place: Place) -> int | None:
    """The 1-based line that says `place`, or the nearest table around it; None if not even that is found."""
    best: tuple[int, int] | None = None
    for number, path in _lines(text):
        depth = _common(path, place)
        if depth == len(path) and depth and (best is None or depth > best[0]):
            best = (depth, number)
    return best[1] if best else None


def _lines(text: str) -> list[tuple[int, Place]]:
    """(line, place) of every table header and key."""
    found: list[tuple[int, Place]] = []
    counts: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            path: Place = ()
            names = [name.strip() for name in header[2].split(".")]
            for name in names[:-1]:
                path = (*path, name)
                if path in counts:
                    path = (*path, counts[path] - 1)
            path = (*path, names[-1])
            if header[1] == "[[":
                counts[path] = counts.get(path, 0) + 1
                path = (*path, counts[path] - 1)
            table = path
            found.append((number, table))
        elif key := _KEY.match(line):
            found.append((number, (*table, key[1])))
    return found


def _common(path: Place, place: Place) -> int:
    depth = 0
    for a, b in zip(path, place, strict=False):
        if a != b:
            break
        depth += 1
    return depth
