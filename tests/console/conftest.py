"""A real browser (Debian's chromium) in front of a real control plane that serves the built console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.console.browsing import ARGUMENTS, STILL, Console
from tests.control.api.conftest import _template, control, start_control  # noqa: F401  (fixtures)

BUILT = Path(__file__).parents[2] / "console" / "dist" / "index.html"
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("chromium-browser")
"""The first is the same engine without windows, extensions and services, and so takes less CPU."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip loudly where there is no browser; with REQUIRE_BROWSER set, fail instead."""
    reason = (
        "no chromium on this machine" if CHROMIUM is None else "" if BUILT.exists() else "console/dist is not built"
    )
    if reason and os.environ.get("REQUIRE_BROWSER"):
        raise pytest.UsageError(f"REQUIRE_BROWSER is set, but {reason}")
    for item in items:
        if reason and "tests/console/" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="package")
def browser(_template: object) -> Iterator[Browser]:  # noqa: F811
    """One browser for all tests here. Playwright's loop runs in this thread while it is open, so `asyncio.run` works
    only before (in `_template`) and after.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile of its own: no cookies, English, a window of 1280 × 800."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, locale="en-US", timezone_id="Asia/Shanghai", reduced_motion=STILL
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A tab. Errors in its console fail the test."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "[Vue warn]" in message.text else None)
    yield page
    assert not errors, errors


@pytest.fixture
def console(page: Page, control: object) -> Console:  # noqa: F811
    """The console of a running control plane, not signed in yet."""
    return Console(page, control.url)  # type: ignore[attr-defined]
