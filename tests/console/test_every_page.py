"""Every page of the console, full and empty: laid out well in both languages, both themes and at three widths,
and without serious faults of accessibility.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.console.browsing import Console
from tests.console.installation import installation
from tests.console.layout import faults
from tests.console.screens import pages

AXE = Path(__file__).parents[2] / "console/node_modules/axe-core/axe.min.js"
LOOKS = {
    "full": [("zh-CN", "light", 1280), ("zh-CN", "dark", 390), ("en", "light", 390), ("en", "dark", 1920)],
    "empty": [("zh-CN", "dark", 1280), ("en", "light", 390)],
}  # fmt: skip
ACCESSIBLE = {("en", "light", 390), ("en", "dark", 1920), ("zh-CN", "dark", 1280)}
"""Looks in which axe is asked, too: both themes, full and empty."""
PAGES = sorted(pages().items())


@pytest.fixture(scope="module", params=sorted(LOOKS))
def visited(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Console]]:
    """A tab in which the administrator of a full, or of an empty, installation has signed in."""
    filled = request.param == "full"
    with installation(tmp_path_factory.mktemp(request.param), filled=filled) as running:
        context = browser.new_context(timezone_id="Asia/Shanghai")
        context.set_default_timeout(15_000)
        console = Console(context.new_page(), running.url)
        console.open("/login")
        console.sign_in("admin")
        yield request.param, console
        context.close()


def _show(console: Console, path: str, locale: str, theme: str, width: int) -> Page:
    page = console.page
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(f'localStorage.setItem(\'tunegate.preferences\', \'{{"locale":"{locale}","theme":"{theme}"}}\')')
    console.open(path)
    return page


@pytest.mark.parametrize(("name", "path"), PAGES, ids=[name for name, _ in PAGES])
def test_a_page_is_laid_out_well_and_accessible(visited: tuple[str, Console], name: str, path: str) -> None:
    state, console = visited
    found: dict[Any, list[str]] = {}
    broken: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        # a part that throws is left out, and nobody sees that it is missing; answers of 404 are told of here, too
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            broken.append(message.text)

    console.page.on("console", listen)
    try:
        for look in LOOKS[state]:
            page = _show(console, path, *look)
            # after the layout, which must not have axe's traces in it
            if wrong := [*faults(page), *(_violations(page) if look in ACCESSIBLE else []), *broken]:
                found[look] = wrong
            broken.clear()
    finally:
        console.page.remove_listener("console", listen)
    assert not found


def _violations(page: Page) -> list[str]:
    """What axe finds of serious faults."""
    # not as a script of the page, which the content security policy forbids: by the debugger
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in result["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"][:5]
    ]
