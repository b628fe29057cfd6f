"""DOCX, PPTX and XLSX. They are archives: these are looked at first."""

from __future__ import annotations

import io
import re
from typing import Any

from control.knowledge.parse.blocks import Blocks, Refused
from control.knowledge.parse.zipped import Members

_HEADING = re.compile(r"(?:heading|标题)\s*(\d)", re.IGNORECASE)


def _checked(data: bytes, part: str) -> io.BytesIO:
    members = Members(data)
    if any(name.lower().endswith("vbaproject.bin") for name in members):
        raise Refused("macros", "it holds macros: save it without (as .docx, .xlsx or .pptx)")
    if part not in members.names:
        raise Refused("wrong_type", f"it is an archive, but has no {part}: its name ends wrongly")
    return io.BytesIO(data)


def word(data: bytes, out: Blocks) -> None:
    """Paragraphs, headings by their styles, and tables, in their order."""
    from docx import Document  # noqa: PLC0415 - only for such a file: it takes a while to load
    from docx.table import Table  # noqa: PLC0415

    document = Document(_checked(data, "word/document.xml"))
    for part in document.iter_inner_content():
        if isinstance(part, Table):
            out.table([[cell.text for cell in row.cells] for row in part.rows])
            continue
        style = part.style.name if part.style is not None else ""
        if found := _HEADING.search(style or ""):
            out.heading(part.text, int(found[1]))
        elif style == "Title":
            out.heading(part.text, 1)
        else:
            out.text(part.text)


def slides(data: bytes, out: Blocks) -> None:
    """Slide by slide: its title, its texts and tables, and the notes."""
    from pptx import Presentation  # noqa: PLC0415

    presentation = Presentation(_checked(data, "ppt/presentation.xml"))
    for number, slide in enumerate(presentation.slides, 1):
        out.next_page(number)
        title = slide.shapes.title
        if title is not None:
            out.heading(title.text_frame.text, 1)
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                _shape(shape, out)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            out.text(slide.notes_slide.notes_text_frame.text)


def _shape(shape: Any, out: Blocks) -> None:
    for inner in getattr(shape, "shapes", ()):  # a group
        _shape(inner, out)
    if getattr(shape, "has_table", False):
        out.table([[cell.text for cell in row.cells] for row in shape.table.rows])
    elif shape.has_text_frame:
        out.text(shape.text_frame.text)


def sheets(data: bytes, out: Blocks) -> None:
    """Sheet by sheet, with the values that formulas had when the file was saved."""
    from openpyxl import load_workbook  # noqa: PLC0415

    book = load_workbook(_checked(data, "xl/workbook.xml"), read_only=True, data_only=True, keep_links=False)
    for number, sheet in enumerate(book.worksheets, 1):
        out.next_page(number)
        out.heading(sheet.title, 1)
        rows = [["" if value is None else str(value) for value in row] for row in sheet.iter_rows(values_only=True)]
        out.table(rows)
