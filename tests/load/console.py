"""Measures what a visit to the console costs: `python -m tests.load.console`, or `make bench-console`.

A control plane on loopback with a month of usage serves the built console to chromium, which has nothing of it in its
cache: each load has a profile of its own. Written to `docs/bench/console.md`.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.console.browsing import ARGUMENTS, Console
from tests.console.conftest import BUILT, CHROMIUM
from tests.console.installation import installation

DIST = BUILT.parent
OUT = Path("docs/bench/console.md")
SCRIPT_BYTES, SCRIPT_REACH = 500_000, 300_000
"""Gzipped JavaScript of a first load: the most, and what to reach for."""
HASH = re.compile(r"-[\w-]{8}\.js$")
"""What the build puts at the end of a script's name."""
LISTED = 2_000
"""Bytes of a script that has a line of its own in the report."""
PAINT_MS = 1500
"""Most milliseconds until the first paint."""
_PAINTED = """() => new Promise((resolve) => new PerformanceObserver((found) => resolve([
  performance.getEntriesByName('first-contentful-paint')[0].startTime,
  found.getEntries().at(-1).startTime,
])).observe({ type: 'largest-contentful-paint', buffered: true }))"""
_SENT = """() => performance.getEntries()
  .filter((one) => one.transferSize > 0)
  .map((one) => [new URL(one.name).pathname, one.transferSize])"""
"""What came over the network, and not out of the cache."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one load of a page took."""

    requests: int
    """That went over the network, those to the API too."""
    scripts: dict[str, int]
    """Name of a script -> bytes when gzipped."""
    sent: int
    """Bytes of all answers, as they came."""
    first_ms: float
    """From the start of the navigation to the first text or image."""
    largest_ms: float
    """To the largest text or image."""

    @property
    def script_bytes(self) -> int:
        """Of all scripts."""
        return sum(self.scripts.values())


def measured(context: BrowserContext, url: str, path: str) -> Load:
    """Load a page in a new tab."""
    page = context.new_page()
    Console(page, url).open(path)
    first, largest = page.evaluate(_PAINTED)
    sent: list[tuple[str, int]] = page.evaluate(_SENT)
    page.close()
    scripts = {
        name.rpartition("/")[2]: len(gzip.compress((DIST / name[1:]).read_bytes()))
        for name, _ in sent
        if name.endswith(".js")
    }
    return Load(len(sent), scripts, sum(size for _, size in sent), first, largest)


def first_visit(context: BrowserContext, url: str) -> Load:
    """The login page, by somebody who was never here."""
    return measured(context, url, "/login")


def _signed_in(context: BrowserContext, url: str) -> None:
    page = context.new_page()
    console = Console(page, url)
    console.open("/login")
    console.sign_in("admin")
    page.close()


def without_files(context: BrowserContext, url: str) -> Load:
    """The overview, by somebody who is signed in and has no file of the console."""
    _signed_in(context, url)
    page = context.new_page()
    context.new_cdp_session(page).send("Network.clearBrowserCache")
    page.close()
    return measured(context, url, "/overview")


def with_files(context: BrowserContext, url: str) -> Load:
    """The overview, by somebody who is signed in and comes back."""
    _signed_in(context, url)
    return measured(context, url, "/overview")


VISITS: dict[str, Callable[[BrowserContext, str], Load]] = {
    "login, first visit": first_visit,
    "overview, signed in, no file cached": without_files,
    "overview, signed in, files cached": with_files,
}


def measure(browser: Browser, url: str, visit: Callable[[BrowserContext, str], Load], loads: int) -> list[Load]:
    """So many loads, each by a profile of its own."""
    found = []
    for _ in range(loads):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
        found.append(visit(context, url))
        context.close()
    return found


def kept(loads: Sequence[Load]) -> bool:
    """Whether every load is inside both budgets."""
    return all(load.script_bytes <= SCRIPT_BYTES and load.first_ms <= PAINT_MS for load in loads)


def report(figures: dict[str, list[Load]], browser: str) -> str:
    """Markdown: a line for each visit, and the scripts of the first one."""
    loads = len(next(iter(figures.values())))
    lines = [
        "# The console in a browser",
        "",
        f"`make bench-console` on {datetime.now(UTC):%Y-%m-%d}: {loads} loads of each page in Chromium {browser} "
        "without a window, from a control plane on the same machine with 30,000 requests in its ledger. Budgets: "
        f"at most {SCRIPT_BYTES // 1000} kB of gzipped JavaScript ({SCRIPT_REACH // 1000} kB to reach for), the first "
        f"paint after at most {PAINT_MS / 1000} s. Times are medians, the slowest load in brackets; other programs may "
        "have run on the same cores. Requests, scripts and bytes are those that the cache did not have. Control sends "
        "files as they are; nginx and the ingress compress them.",
        "",
        "| page | requests | scripts | JS gzipped kB | sent kB | first paint ms | largest paint ms | budgets |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for name, found in figures.items():
        one = found[0]
        times = [
            f"{median(values):.0f} ({max(values):.0f})"
            for values in ([load.first_ms for load in found], [load.largest_ms for load in found])
        ]
        lines.append(
            f"| {name} | {one.requests} | {len(one.scripts)} | {one.script_bytes / 1000:.0f} | {one.sent / 1000:.0f} "
            f"| {times[0]} | {times[1]} | {'kept' if kept(found) else 'broken'} |"
        )
    scripts = next(iter(figures.values()))[0].scripts
    large = sorted((name for name in scripts if scripts[name] >= LISTED), key=lambda name: -scripts[name])
    rest = sum(size for size in scripts.values() if size < LISTED)
    lines += ["", "Scripts of the first visit, gzipped:", "", "| script | kB |", "|---|--:|"]
    lines += [f"| {HASH.sub('.js', name)} | {scripts[name] / 1000:.1f} |" for name in large]
    lines.append(f"| {len(scripts) - len(large)} smaller ones | {rest / 1000:.1f} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    """Measure, print, write the report; 1 when something misses a budget."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.console", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--loads", type=int, default=20, help="of each page")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="tunegate-") as folder,
        installation(Path(folder), filled=True) as control,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        figures = {name: measure(browser, control.url, visit, asked.loads) for name, visit in VISITS.items()}
        text = report(figures, browser.version)
        browser.close()
    sys.stdout.write(text)
    asked.out.write_text(text, encoding="utf-8")
    return int(not all(kept(found) for found in figures.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
