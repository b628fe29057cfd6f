"""HTML, and EPUB, which is HTML in an archive."""

from __future__ import annotations

import posixpath
from typing import Any
from urllib.parse import unquote

from lxml import etree, html

from control.knowledge.parse.blocks import Blocks, Refused
from control.knowledge.parse.zipped import Members

_SKIPPED = frozenset({"script", "style", "noscript", "template", "nav", "svg", "iframe", "object", "head", "form"})
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "figcaption", "figure",
    "footer", "header", "hr", "html", "li", "main", "ol", "p", "section", "summary", "ul",
})  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_DEEPEST = 200


def page(data: bytes, out: Blocks) -> None:
    """Headings, paragraphs, tables and `pre`; scripts, styles and navigation are left out."""
    if not data.strip():
        return
    try:
        encoding = "utf-8" if _is_utf8(data) else None  # else what the file itself says
        root = html.document_fromstring(data, parser=html.HTMLParser(no_network=True, encoding=encoding))
    except (etree.LxmlError, ValueError) as exc:
        raise Refused("broken", f"it is no HTML: {exc}") from exc
    held: list[str] = []
    _walk(root, out, held, 0)
    _flush(held, out)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _walk(element: Any, out: Blocks, held: list[str], depth: int) -> None:
    """Collect text into `held`, which every block ends."""
    tag = element.tag if isinstance(element.tag, str) else ""
    if not tag or tag in _SKIPPED:
        return
    if depth > _DEEPEST:
        raise Refused("broken", f"its elements are nested more than {_DEEPEST} deep")
    if tag in _HEADINGS or tag in ("pre", "table"):
        _flush(held, out)
        if tag == "pre":
            out.code(element.text_content())
        elif tag == "table":
            out.table([[str(cell.text_content()) for cell in row.xpath("./td|./th")] for row in element.iter("tr")])
        else:
            out.heading(element.text_content(), _HEADINGS[tag])
        return
    block = tag in _BLOCKS
    if block:
        _flush(held, out)
    held.append(element.text or "")
    if tag == "br":
        held.append("\v")
    for child in element:
        _walk(child, out, held, depth + 1)
        held.append(child.tail or "")
    if block:
        _flush(held, out)


def _flush(held: list[str], out: Blocks) -> None:
    lines = (" ".join(line.split()) for line in "".join(held).split("\v"))
    out.text("\n".join(lines))
    held.clear()


def book(data: bytes, out: Blocks) -> None:
    """The chapters of an EPUB, in the order of its spine."""
    members = Members(data)
    container = _xml(members.read("META-INF/container.xml"))
    package = next(iter(container.xpath("//*[local-name()='rootfile']/@full-path")), "")
    content = _xml(members.read(package))
    places = {
        item.get("id"): posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(item.get("href", ""))))
        for item in content.xpath("//*[local-name()='manifest']/*[local-name()='item']")
    }
    for number, item in enumerate(content.xpath("//*[local-name()='spine']/*[local-name()='itemref']"), 1):
        out.next_page(number)
        page(members.read(places.get(item.get("idref"), "")), out)


def _xml(data: bytes) -> Any:
    try:
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.LxmlError, ValueError) as exc:
        raise Refused("broken", f"a part of it is no XML: {exc}") from exc
