"""Real files of every type that knowledge bases take, made here; and hostile ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage

from docx import Document
from openpyxl import Workbook
from pptx import Presentation


def pdf(pages: Sequence[str]) -> bytes:
    """A PDF with one line of (Latin) text a page, and its cross-reference table."""
    return _pdf([f"BT /F1 12 Tf 40 700 Td ({text}) Tj ET" if text else "" for text in pages])


def ruled_pdf(before: str, rows: Sequence[Sequence[str]], after: str) -> bytes:
    """A PDF of one page: a line of text, a table with lines around its cells, another line of text."""
    width, height, top = 120, 20, 680
    bottom, right = top - height * len(rows), 40 + width * len(rows[0])
    drawn = [f"40 {top - height * n} m {right} {top - height * n} l S" for n in range(len(rows) + 1)]
    drawn += [f"{40 + width * n} {top} m {40 + width * n} {bottom} l S" for n in range(len(rows[0]) + 1)]

    def put(x: int, y: int, text: str) -> str:
        return f"BT /F1 10 Tf {x} {y} Td ({text}) Tj ET"

    cells = [
        put(44 + width * column, top - height * (row + 1) + 6, text)
        for row, cells in enumerate(rows)
        for column, text in enumerate(cells)
    ]
    return _pdf(["\n".join([put(40, 700, before), *drawn, *cells, put(40, bottom - 20, after)])])


def _pdf(streams: Sequence[str]) -> bytes:
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(streams)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(streams)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, stream in enumerate(streams):
        resources = "/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 612 792]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {resources} /Contents {5 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += "".join(f"{offset:010d} 00000 n \n" for offset in offsets).encode()
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def docx(*paragraphs: tuple[str, str] | list[list[str]]) -> bytes:
    """A Word file of (style, text) paragraphs and tables."""
    document, out = Document(), io.BytesIO()
    for one in paragraphs:
        if isinstance(one, tuple):
            document.add_paragraph(one[1], style=one[0])
            continue
        table = document.add_table(rows=len(one), cols=len(one[0]))
        for row, cells in zip(table.rows, one, strict=True):
            for cell, text in zip(row.cells, cells, strict=True):
                cell.text = text
    document.save(out)
    return out.getvalue()


def pptx(slides: Sequence[tuple[str, str]]) -> bytes:
    """A presentation of (title, text) slides."""
    presentation, out = Presentation(), io.BytesIO()
    for title, text in slides:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = text
    presentation.save(out)
    return out.getvalue()


def xlsx(rows: Sequence[Sequence[object]], title: str = "Prices") -> bytes:
    """A workbook of one sheet."""
    book, out = Workbook(), io.BytesIO()
    sheet = book.active
    sheet.title = title
    for row in rows:
        sheet.append(list(row))
    book.save(out)
    return out.getvalue()


def zipped(files: dict[str, bytes], *, deflate: bool = True) -> bytes:
    """An archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def epub(chapters: Sequence[str]) -> bytes:
    """A book of XHTML chapters."""
    items = "".join(f'<item id="c{n}" href="c{n}.xhtml" media-type="x"/>' for n in range(len(chapters)))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    package = (
        f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest><spine>{spine}</spine></package>'
    )
    container = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    files = {f"OEBPS/c{n}.xhtml": chapter.encode() for n, chapter in enumerate(chapters)}
    return zipped({"META-INF/container.xml": container.encode(), "OEBPS/book.opf": package.encode(), **files})


def eml(subject: str, text: str, attachments: dict[str, bytes]) -> bytes:
    """A mail."""
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = subject, "alice@example.com", "bob@example.com"
    mail.set_content(text)
    for name, data in attachments.items():
        mail.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return mail.as_bytes()
