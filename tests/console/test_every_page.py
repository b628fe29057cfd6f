"""Every page of the console, full and empty: laid out well in both languages, both themes and at three widths,
and without serious faults of accessibility.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.console.browsing import STILL, Console
from tests.console.installation import installation
from tests.console.layout import faults
from tests.console.screens import pages
from tests.control.api.conftest import Running

AXE = Path(__file__).parents[2] / "console/node_modules/axe-core/axe.min.js"
LOOKS = [
    ("full", "zh-CN", "light", 1280), ("full", "zh-CN", "dark", 390), ("full", "en", "dark", 1920),
    ("empty", "zh-CN", "dark", 1280), ("empty", "en", "light", 390),
]  # fmt: skip
ACCESSIBLE = {("zh-CN", "light", 1280), ("en", "dark", 1920), ("en", "light", 390)}
"""Looks in which axe is asked, too: both themes, full and empty."""
FIND = """async () => {
  const serious = (one) => ['serious', 'critical'].includes(one.impact)
  // a rule that says of itself that what it finds is less than that is not asked; nor are paths to elements, or files
  const less = axe._audit.rules.filter((rule) => rule.impact && !serious(rule))
  const found = await axe.run(document, {
    resultTypes: ['violations'], selectors: false, preload: false,
    rules: Object.fromEntries(less.map((rule) => [rule.id, { enabled: false }])),
  })
  return found.violations.filter(serious).map((one) => (
    { id: one.id, nodes: one.nodes.slice(0, 5).map((node) => node.html.slice(0, 160)) }
  ))
}"""


@pytest.fixture(scope="module")
def full(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A tab in which the administrator of an installation with a month of usage has signed in."""
    with installation(tmp_path_factory.mktemp("full"), filled=True) as running, _tab(browser, running) as console:
        yield console


@pytest.fixture(scope="module")
def empty(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The same of an installation that holds nothing."""
    with installation(tmp_path_factory.mktemp("empty"), filled=False) as running, _tab(browser, running) as console:
        yield console


@contextmanager
def _tab(browser: Browser, running: Running) -> Iterator[Console]:
    context = browser.new_context(timezone_id="Asia/Shanghai", reduced_motion=STILL)
    context.set_default_timeout(15_000)
    console = Console(context.new_page(), running.url)
    console.open("/login")
    console.sign_in("admin")
    yield console
    context.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("state", "locale", "theme", "width"), LOOKS, ids=["-".join(map(str, one)) for one in LOOKS])
def test_all_pages_are_laid_out_well_and_accessible(
    request: pytest.FixtureRequest, state: str, locale: str, theme: str, width: int
) -> None:
    console: Console = request.getfixturevalue(state)
    page, broken = console.page, list[str]()
    found: dict[str, list[str]] = {}
    titles = set[str]()

    def listen(message: ConsoleMessage) -> None:
        # a part that throws is left out, and nobody sees that it is missing; answers of 404 are told of here, too
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            broken.append(message.text)

    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(f'localStorage.setItem(\'tunegate.preferences\', \'{{"locale":"{locale}","theme":"{theme}"}}\')')
    console.open("/account")
    page.on("console", listen)
    try:
        for name, path in pages().items():
            console.go(path)
            console.settled()
            titles.add(page.title())
            # after the layout, which must not have axe's traces in it
            wrong = faults(page)
            if (locale, theme, width) in ACCESSIBLE:
                wrong += _violations(page)
            if wrong := [*wrong, *broken]:
                found[name] = wrong
            broken.clear()
    finally:
        page.remove_listener("console", listen)
    assert not found
    assert not [title for title in titles if "nav." in title], "never translated"
    assert len(titles) > len(pages()) / 3, "the pages were not gone to"  # several share the title of their list


def _violations(page: Page) -> list[str]:
    """What axe finds of serious faults."""
    # not as a script of the page, which the content security policy forbids: by the debugger; it stays until a reload
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    violations: list[dict[str, Any]] = page.evaluate(FIND)
    return [f"{violation['id']}: {html}" for violation in violations for html in violation["nodes"]]
