"""What a first visit loads, against the budget of the design: 500 kB of gzipped JavaScript, 300 kB to reach for."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

_IMPORTED = re.compile(r'(?:from\s*|import\s*)"\./([^"]+\.js)"')
DIST = Path(__file__).parents[2] / "console" / "dist"


def first_load() -> dict[str, int]:
    """Script -> gzipped bytes, of all that the page asks for before it can show the login: the entry, what it imports
    and what it preloads.
    """
    wanted = re.findall(r'(?:src|href)="/(assets/[^"]+\.js)"', (DIST / "index.html").read_text())
    sizes: dict[str, int] = {}
    while wanted:
        name = wanted.pop()
        if name not in sizes:
            text = (DIST / name).read_text()
            sizes[name] = len(gzip.compress(text.encode()))
            wanted += [f"assets/{found}" for found in _IMPORTED.findall(text)]
    return sizes


def test_the_first_load_is_small() -> None:
    sizes = first_load()
    print(sum(sizes.values()), sizes)
    assert sum(sizes.values()) < 300_000, sizes
