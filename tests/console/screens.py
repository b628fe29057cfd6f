"""Pictures of every page of the console: `make screens`, or `python -m tests.console.screens --pages keys --all`.

A control plane is started on a database with a month of usage, and one that is empty; chromium signs in and visits
every page. Each fault that `layout.faults` finds is printed with the picture's name, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.console import comparisons
from tests.console.browsing import ARGUMENTS, STILL, Console
from tests.console.conftest import CHROMIUM
from tests.console.installation import REQUEST, installation
from tests.console.layout import faults

SCREENS = Path(__file__).parents[2] / "docs" / "screens"
SHOWN = (("zh-CN", "light"), ("en", "dark"))
"""What docs/screens has."""
EVERY = tuple(product(("zh-CN", "en"), ("light", "dark")))
WIDTHS = (1920, 1280, 390)
HEIGHT = 900


DETAILS = {
    "endpoint": "/endpoints/gpu-01",
    "team": "/teams/team-01",
    "request": f"/requests/{REQUEST}",
    "key": "/keys?key=key-00003@team-01",
    "route": "/routes/chat-large/overview",
    "route-versions": "/routes/chat-large/versions",
    "route-grants": "/routes/chat-large/grants",
    "route-explain": "/routes/chat-large/explain?key=key-00003@team-01",
    "route-edit": "/routes/chat-large/edit",
    "settings-prices": "/settings?tab=prices",
    "settings-tokens": "/settings?tab=tokens",
    "settings-installation": "/settings?tab=installation",
    "dataset": "/datasets/support-dialogues",
    "job": "/jobs/of/support-bot-lr",
    "job-failed": "/jobs/of/support-bot-big",
    "job-clone": "/jobs/new?from=support-bot",
    "job-comparison": "/jobs/compare?jobs=support-bot,support-bot-lr",
    "adapter": "/adapters/support-bot",
    "knowledge-base": "/knowledge/handbook",
    "knowledge-tests": "/knowledge/handbook?tab=tests",
    "suite": "/suites/support-questions",
    "run": f"/runs/{comparisons.RUN}",
    "review": f"/runs/{comparisons.RUN}/review",
    "run-paused": f"/runs/{comparisons.PAUSED}",
}
"""Pages about one thing of the filled installation, and tabs: an empty one says there that the thing does not exist."""


def pages() -> dict[str, str]:
    """Name -> path of the console's pages: those with a place of their own, read from their routes.ts, and DETAILS."""
    found = {"login": "/login"}
    for file in sorted((Path(__file__).parents[2] / "console/src/views").glob("*/routes.ts")):
        for path, name in re.findall(r"path: '(/[^':]*)',\s+name: '([^']+)'", file.read_text()):
            found[name] = path
    return found | DETAILS


def shoot(browser: Browser, url: str, out: Path, names: list[str], width: int, look: tuple[str, str], tag: str) -> int:
    """Pictures of the pages in one look; the number of faults."""
    locale, theme = look
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT}, timezone_id="Asia/Shanghai", reduced_motion=STILL
    )
    console = Console(context.new_page(), url)
    console.look(locale=locale, theme=theme)
    count = 0
    for name, path in pages().items():
        if name not in names:
            continue
        console.open(path)
        if (name != "login" and console.page.url.endswith("/login")) or "/login?" in console.page.url:
            console.sign_in("admin")
            console.open(path)
        file = out / f"{name}{tag}-{locale}-{theme}.png"
        for fault in faults(console.page):
            count += 1
            print(f"{file.name}: {fault}")
        # a window in which all of the page is: its menu stays in view, and its drawers are as high as it is
        height = console.page.evaluate("document.documentElement.scrollHeight")
        console.page.set_viewport_size({"width": width, "height": height})
        console.settled()
        console.page.screenshot(path=file, mask=[console.page.get_by_text(tempfile.gettempdir())], mask_color="gray")
        console.page.set_viewport_size({"width": width, "height": HEIGHT})
    context.close()
    return count


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=SCREENS)
    parser.add_argument("--pages", default=",".join(pages()), help="of %(default)s")
    parser.add_argument("--all", action="store_true", help="every width, language and theme, and an empty installation")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    names, count = args.pages.split(","), 0
    for filled in (True, False) if args.all else (True,):
        with (
            tempfile.TemporaryDirectory() as folder,
            installation(Path(folder), filled=filled) as running,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            for look, width in product(EVERY, WIDTHS) if args.all else product(SHOWN, (1280,)):
                tag = f"-{'full' if filled else 'empty'}-{width}" if args.all else ""
                count += shoot(browser, running.url, args.out, names, width, look, tag)
            browser.close()
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
