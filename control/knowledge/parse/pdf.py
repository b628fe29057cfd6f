"""PDF: the text of its pages. Pages that are pictures have none."""

from __future__ import annotations

import io
import logging

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from control.knowledge.parse.blocks import MOST_PAGES, Blocks, Refused

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of every oddity; what matters is an exception


def document(data: bytes, out: Blocks) -> None:
    """Page by page."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refused("encrypted", "it needs a password: save it without")
        count = len(reader.pages)
        if count > MOST_PAGES:
            raise Refused("too_many_pages", f"it has {count} pages, {MOST_PAGES} is the most: split it")
        for number, page in enumerate(reader.pages, 1):
            out.next_page(number)
            out.text(page.extract_text())
    except (PyPdfError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as exc:
        # of a damaged file, pypdf raises whatever its objects lead to
        raise Refused("broken", f"it is damaged: {type(exc).__name__}: {exc}") from exc
    if not out.blocks:
        raise Refused("no_text", f"its {count} pages hold no text, only pictures: recognise the text (OCR) first")
