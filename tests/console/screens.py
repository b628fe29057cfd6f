"""Pictures of every page of the console: `make screens`, or `python -m tests.console.screens --pages keys --all`.

A control plane is started on a database with a month of usage, and one that is empty; chromium signs in and visits
every page. Each fault that `layout.faults` finds is printed with the picture's name, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from control import security
from control.auth.service import create_user
from control.db import Database
from control.internal.tokens import new_service_token
from control.kit.audit import Actor
from control.migrations.run import migrate
from control.settings import ConsoleTable, Settings
from tests.console.browsing import ARGUMENTS, Console
from tests.console.conftest import CHROMIUM
from tests.console.layout import faults
from tests.control.api.conftest import PASSWORD, Running
from tests.load.seed import seed

SCREENS = Path(__file__).parents[2] / "docs" / "screens"
FILLED = Path(__file__).with_name("installation.json")
"""Endpoints and routes of the filled installation, as the API takes them."""
SHOWN = (("zh-CN", "light"), ("en", "dark"))
"""What docs/screens has."""
EVERY = tuple(product(("zh-CN", "en"), ("light", "dark")))
WIDTHS = (1920, 1280, 390)


def pages() -> dict[str, str]:
    """Name -> path of the console's pages that have a place of their own in its menu, read from their routes.ts."""
    found = {"login": "/login"}
    for file in sorted((Path(__file__).parents[2] / "console/src/views").glob("*/routes.ts")):
        for path, name in re.findall(r"path: '(/[^':]*)',\s+name: '([^']+)'", file.read_text()):
            found[name] = path
    return found


@contextmanager
def installation(folder: Path, *, filled: bool) -> Iterator[Running]:
    """A running control plane whose admin has the password of the tests."""

    async def prepare() -> tuple[str, dict[str, str]]:
        settings = Settings(console=ConsoleTable(data_dir=folder))
        db = Database(settings.database_url)
        await migrate(db.engine)
        if filled:
            await seed(db, rows=30_000, keys=60)
        hashed = await security.hash_password(PASSWORD)
        async with db.write() as session:
            admin = await create_user(session, Actor("system"), "admin", "admin", hashed)
            token = await new_service_token(session, Actor("system"), "gateway-1")
        await db.close()
        return token, {"admin": security.open_vault(settings).access_token(admin.id, 0, 3600)}

    with ThreadPoolExecutor(1) as pool:  # in this thread, Playwright's loop may be running
        prepared = pool.submit(asyncio.run, prepare()).result()
    running = Running(Settings(console=ConsoleTable(data_dir=folder)), *prepared)
    running.start()
    try:
        for kind, bodies in json.loads(FILLED.read_text()).items() if filled else ():
            for body in bodies:
                answer = running.admin.post(f"/api/v1/{kind}", json=body)
                assert answer.is_success, answer.text
        yield running
    finally:
        running.stop()


def shoot(browser: Browser, url: str, out: Path, names: list[str], width: int, look: tuple[str, str], tag: str) -> int:
    """Pictures of the pages in one look; the number of faults."""
    locale, theme = look
    context = browser.new_context(viewport={"width": width, "height": 900}, timezone_id="Asia/Shanghai")
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
        console.page.screenshot(path=file, full_page=True)
        for fault in faults(console.page):
            count += 1
            print(f"{file.name}: {fault}")
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
