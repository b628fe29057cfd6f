"""The whole way on one machine: fake upstream, real gateway, real control, real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway import Gateway
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A provider that answers every model."""
    with Upstream() as running:
        yield running


@pytest.fixture
def control(tmp_path: Path, database_url: str) -> Iterator[Plane]:
    """Control on each of the databases."""
    with Plane(tmp_path, database_url) as running:
        yield running


def gateway_of(control: Plane, folder: Path) -> Gateway:
    """A gateway that runs from control; more than one may."""
    folder.mkdir()
    table = {"url": control.url, "token": "env:SERVICE_TOKEN"}
    return Gateway({"control": table}, folder, env={"SERVICE_TOKEN": control.service_token})
