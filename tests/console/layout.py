"""What is wrong with a page's layout, found in the page itself: text that is cut off, elements that stick out of the
page or lie over each other, and texts that were never translated.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

_FIND = Path(__file__).with_suffix(".js").read_text(encoding="utf-8").partition("\n")[2]


def faults(page: Page) -> list[str]:
    """One line for each fault of the page as it is shown now."""
    found: list[str] = page.evaluate(_FIND)
    return found
