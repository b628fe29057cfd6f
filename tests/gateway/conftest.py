"""Shared by the black-box tests: one fake upstream and one gateway process for each module."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway import Config, Gateway
from tests.fakes.upstream import Script, Upstream

_numbers = itertools.count(1)
Start = Callable[..., Gateway]
Scripted = Callable[..., str]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A scriptable provider."""
    with Upstream() as server:
        yield server


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts gateways that are stopped when the module ends."""
    running: list[Gateway] = []

    def run(config: Config, *, env: dict[str, str] | None = None, folder: Path | None = None) -> Gateway:
        gateway = Gateway(config, folder or tmp_path_factory.mktemp("gateway"), env=env)
        running.append(gateway)
        return gateway.start()

    yield run
    for gateway in running:
        gateway.stop()


@pytest.fixture
def scripted(upstream: Upstream) -> Scripted:
    """Gives a model name of its own to a script: `name = scripted(script)`, then ask for `x/{name}`.

    More scripts are a queue: the first requests get the first ones, all later requests the last.
    """

    def give(*scripts: Script) -> str:
        name = f"m{next(_numbers)}"
        *first, last = scripts
        upstream.queue(name, *first)
        upstream.on(name, last)
        return name

    return give
