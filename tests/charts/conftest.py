"""The renderer, and what the five sets of values make: once for all tests of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.charts.rendering import SETS, Rendered, render, renderer


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return renderer(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def every_set(helm: Path) -> dict[str, Rendered]:
    made = render(helm, *SETS)
    refused = {name: texts for name, texts in made.items() if isinstance(texts, str)}
    assert not refused
    return {name: Rendered(name, texts) for name, texts in made.items() if not isinstance(texts, str)}


@pytest.fixture(params=[path.stem for path in SETS])
def rendered(request: pytest.FixtureRequest, every_set: dict[str, Rendered]) -> Rendered:
    name: str = request.param
    return every_set[name]
