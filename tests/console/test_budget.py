"""What a first visit loads, against the budget of the design: 500 kB of gzipped JavaScript, 300 kB to reach for."""

from __future__ import annotations

from playwright.sync_api import BrowserContext

from tests.control.api.conftest import Running
from tests.load.console import SCRIPT_REACH, first_visit


def test_the_first_load_is_small(context: BrowserContext, control: Running) -> None:
    load = first_visit(context, control.url)
    assert load.scripts
    assert load.script_bytes < SCRIPT_REACH, load.scripts
    assert load.requests < 80
