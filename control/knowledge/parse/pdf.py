"""PDF: the text of its pages, tables that have lines around their cells, and the text of pages that are pictures."""

from __future__ import annotations

import io
import logging
import re
import time
from itertools import pairwise
from typing import Any

from pypdf import PageObject, PdfReader
from pypdf.errors import PyPdfError

from control.knowledge.parse import scanned
from control.knowledge.parse.blocks import MOST_PAGES, Blocks, Refused

TABLE_SECONDS = 60.0
"""After so long, what is left of the document is read without looking for tables: that takes ten times as long."""
_LINES = re.compile(rb"(?<![^\s])(?:re|l)(?=\s)")
_FEW, _MANY = 4, 5000
"""Lines and rectangles of a page on which tables are looked for: fewer make none, more are a drawing."""
_STAMP = 40
"""Characters that a page has at least, if it is more than a picture with its number or a stamp beside it."""
for name in ("pypdf", "pdfminer"):  # they tell of every oddity; what matters is an exception
    logging.getLogger(name).setLevel(logging.CRITICAL)


def document(data: bytes, out: Blocks) -> None:
    """Page by page."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refused("encrypted", "it needs a password: save it without")
        count = len(reader.pages)
        if count > MOST_PAGES:
            raise Refused("too_many_pages", f"it has {count} pages, {MOST_PAGES} is the most: split it")
        tables, recogniser = _Tables(data), scanned.Recogniser(data)
        for number, page in enumerate(reader.pages, 1):
            out.next_page(number)
            if not (_is_ruled(page) and tables.put(number, out)):
                text = page.extract_text()
                if scanned.available and len("".join(text.split())) < _STAMP and _has_picture(page):
                    text = recogniser.text(number) or text
                out.text(text)
    except (PyPdfError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as exc:
        # of a damaged file, pypdf raises whatever its objects lead to
        raise Refused("broken", f"it is damaged: {type(exc).__name__}: {exc}") from exc
    if not out.blocks:
        what = "in which none was recognised" if scanned.available else "and OCR is not installed: docs/knowledge.md"
        raise Refused("no_text", f"its {count} pages hold no text, at most pictures, {what}")


def _has_picture(page: PageObject) -> bool:
    """Whether something is drawn on a page by a name, as scanned pages are; forms, which may hold pictures, too."""
    resources = page.get("/Resources")
    return resources is not None and bool(resources.get_object().get("/XObject"))


def _is_ruled(page: PageObject) -> bool:
    """Whether a page has about as many lines as tables have."""
    content = page.get_contents()
    return content is not None and _FEW <= len(_LINES.findall(content.get_data())) <= _MANY


class _Tables:
    """Looks for tables, as long as there is time for it."""

    def __init__(self, data: bytes) -> None:
        self._data, self._until = data, time.monotonic() + TABLE_SECONDS

    def put(self, number: int, out: Blocks) -> bool:
        """Add a page with tables: each in its place, between the text around it. False, and nothing is added, if the
        page has none, or cannot be read so.
        """
        if time.monotonic() > self._until:
            return False
        import pdfplumber  # noqa: PLC0415 - half a second, and memory that few documents need

        try:
            with pdfplumber.open(io.BytesIO(self._data), pages=[number], password="") as document:
                pieces = _pieces(document.pages[0])
        except MemoryError:
            raise  # of the limit
        except Exception:  # noqa: BLE001 - whatever it is, pypdf reads the page as text
            return False
        for piece in pieces:
            if isinstance(piece, str):
                out.text(piece)
            else:
                out.grid(piece)
        return bool(pieces)


def _pieces(page: Any) -> list[str | list[list[str]]]:
    """Text and tables of a page from top to bottom; none if it has no table. Text beside a table follows it."""
    tables = sorted(page.find_tables(), key=lambda one: one.bbox[1])
    found = [(table, [[cell or "" for cell in row] for row in table.extract()]) for table in tables]
    found = [(table, rows) for table, rows in found if len(rows) > 1 and len(rows[0]) > 1]
    if not found:
        return []
    boxes = [table.bbox for table, _ in found]

    def is_outside(thing: dict[str, Any]) -> bool:
        x, y = (thing["x0"] + thing["x1"]) / 2, (thing["top"] + thing["bottom"]) / 2
        return not any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes)

    rest = page.filter(is_outside)
    left, top, right, bottom = page.bbox
    borders = [top, *(box[1] for box in boxes), bottom]
    pieces: list[str | list[list[str]]] = []
    for at, (start, end) in enumerate(pairwise(borders)):
        if at:
            pieces.append(found[at - 1][1])
        if end > start:
            pieces.append(rest.crop((left, start, right, end), strict=False).extract_text())
    return pieces
