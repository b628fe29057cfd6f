"""Which headers an operator may set, or hand on from clients: not those that the gateway writes itself."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OWN = frozenset({
    "host", "connection", "content-length", "content-type", "transfer-encoding", "te", "trailer", "upgrade",
    "keep-alive", "expect", "proxy-connection", "accept-encoding",
})  # fmt: skip
_KEYS = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"})


def wrong_header(name: str) -> str | None:
    """Why requests to an upstream cannot carry a header of this name, or None."""
    if not _TOKEN.fullmatch(name):
        return "is not the name of a header"
    return f"{name} is set by the gateway itself" if name.lower() in _OWN else None


def wrong_headers(names: Iterable[str], handed_on: Iterable[str]) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong with the names of headers that are set and of clients' that are handed on: where, and why."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    found += [(("headers", name), wrong) for name in names if (wrong := wrong_header(name))]
    for i, name in enumerate(handed_on):
        if wrong := wrong_header(name):
            found.append((("forward_headers", i), wrong))
        elif name.lower() in _KEYS:
            text = f"{name} may hold the client's key of this gateway, which no upstream may see"
            found.append((("forward_headers", i), text))
    return found
