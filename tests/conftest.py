"""Databases for the tests that need one: each test that asks for `database_url` runs on all three. HTTP clients that
are made at little cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import httpx2
import pytest
from httpx2._transports import default

from tests.fakes.databases import KINDS, Server, server
from tests.fakes.statements import compiled_once


@pytest.fixture(scope="session", autouse=True)
def _one_trust_store() -> Iterator[None]:
    """Every client reads all authorities that the machine trusts, which takes longer than most tests ask of it: one
    reading serves all that want the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "create_ssl_context", cache(httpx2.create_ssl_context))
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    with compiled_once():
        yield


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Server]]:
    """Database servers by kind, started when first asked for and kept until the end."""
    with ExitStack() as stack:
        yield _Lazy(stack)


class _Lazy(dict[str, Server]):
    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self._stack = stack

    def __missing__(self, kind: str) -> Server:
        self[kind] = self._stack.enter_context(server(kind))
        return self[kind]


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, servers: dict[str, Server], tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    kind: str = request.param
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}" if kind == "sqlite" else servers[kind].new_url()
