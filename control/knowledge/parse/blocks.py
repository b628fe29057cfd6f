"""What every parser makes: blocks of text in reading order, within bounds; and the ways in which a file is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

MOST_CHARS = 20_000_000
"""Of the plain text of one document."""
MOST_PAGES = 5000
MOST_BLOCKS = 500_000

GRID_CHARS = 400
"""Of a piece of a Markdown table, unless its first two rows have more."""

Kind = Literal["heading", "text", "table", "grid", "code"]
Code = Literal[
    "unsupported_type", "wrong_type", "encrypted", "macros", "bad_path", "too_large", "too_many_pages", "broken",
    "no_text",
]  # fmt: skip
"""Why a file is refused; docs/knowledge.md says what to do."""

_UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufeff]")
_SPACES = re.compile(r"[ \t\u00a0\u3000]+(?=\n|$)")


class Refused(Exception):
    """This file is not taken; the message says what is wrong with it and what to do."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Blocks:
    """Collects what a parser finds."""

    kind: str = ""
    """What the file is, such as `pdf`."""
    pages: int = 0
    blocks: list[dict[str, Any]] = field(default_factory=list)
    chars: int = 0
    page: int | None = None
    """Of what is added next."""
    depth: int = 0
    """Headings above those of the file itself: one for a file inside of an archive."""

    def heading(self, text: str, level: int) -> None:
        """A heading, 1 the highest."""
        self._add("heading", " ".join(text.split())[:500], level + self.depth)

    def text(self, text: str) -> None:
        """Paragraphs: an empty line ends one."""
        for paragraph in re.split(r"\n[ \t]*\n", text):
            self._add("text", paragraph)

    def table(self, rows: list[list[str]]) -> None:
        """Rows of cells, the first one their names: each later row is written with these, so that it means something
        alone.
        """
        rows = [[" ".join(cell.split()) for cell in row] for row in rows]
        rows = [row for row in rows if any(row)]
        if len(rows) == 1:
            self._add("table", " | ".join(rows[0]))
        names = rows[0] if rows else []
        lines = []
        for row in rows[1:]:
            named = zip([*names, *[""] * len(row)], row, strict=False)
            lines.append("; ".join(f"{name}: {cell}" if name else cell for name, cell in named if cell))
        self._add("table", "\n".join(lines))

    def grid(self, rows: list[list[str]]) -> None:
        """The same as a Markdown table. A long one is several, each with the names above it: they are not cut."""
        rows = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
        rows = [row for row in rows if any(row)]
        if len(rows) < 2:
            self._add("table", " | ".join(rows[0]) if rows else "")
            return
        names, *lines = ["| " + " | ".join(row) + " |" for row in rows]
        head = f"{names}\n|{' --- |' * len(rows[0])}"
        piece = head
        for line in lines:
            if piece != head and len(piece) + len(line) > GRID_CHARS:
                self._add("grid", piece)
                piece = head
            piece += f"\n{line}"
        self._add("grid", piece)

    def code(self, text: str) -> None:
        """Program text: its lines stay as they are."""
        self._add("code", text)

    def next_page(self, number: int) -> None:
        """What follows is on this page, slide or sheet, from 1."""
        if number > MOST_PAGES:
            raise Refused("too_many_pages", f"it has more than {MOST_PAGES} pages: split it")
        self.page, self.pages = number, max(self.pages, number)

    def _add(self, kind: Kind, text: str, level: int = 0) -> None:
        text = _SPACES.sub("", _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))).strip("\n")
        if not text.strip():
            return
        self.chars += len(text) + 2
        if self.chars > MOST_CHARS or len(self.blocks) >= MOST_BLOCKS:
            raise Refused("too_large", f"it holds more than {MOST_CHARS} characters of text: split it")
        self.blocks.append({"kind": kind, "text": text, "level": level, "page": self.page})
