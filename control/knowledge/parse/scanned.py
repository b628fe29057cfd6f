"""Pages that are pictures: their text is recognised by a local model, where the extra `ocr` is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from typing import Any

DOTS = 2000
"""Of a page's longer side: 170 dots per inch of an A4 page, at which small print is read well."""
_MOST_SCALE = 6.0
GAP = 0.9
"""Space between what is not in one line, column or paragraph, as a multiple of the height of its letters."""
available = all(find_spec(name) for name in ("rapidocr_onnxruntime", "pypdfium2"))


@dataclass(frozen=True, slots=True)
class Piece:
    """A recognised text and where it stands on the page, in dots from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float
    text: str


class Recogniser:
    """Reads pages of one PDF. Takes one core, and about 1.5 GiB of address space from the first page on."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._engine: Any = None
        self._document: Any = None

    def text(self, number: int) -> str:
        """The text of a page (from 1), paragraphs between empty lines; empty where there is none.

        Raises ValueError for a page that cannot be drawn.
        """
        if self._engine is None:
            self._load()
        page = self._document[number - 1]
        scale = min(_MOST_SCALE, DOTS / max(1.0, *page.get_size()))
        found, _ = self._engine(page.render(scale=scale).to_numpy())
        corners = [([x for x, _ in box], [y for _, y in box], text) for box, text, _ in found or ()]
        return in_order([Piece(min(xs), min(ys), max(xs), max(ys), text) for xs, ys, text in corners])

    def _load(self) -> None:
        # a second, and memory that most documents do not need
        import pypdfium2  # noqa: PLC0415
        from rapidocr_onnxruntime import RapidOCR  # noqa: PLC0415

        self._engine = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)  # the limit is one of processor time
        try:
            self._document = pypdfium2.PdfDocument(self._data)
        except pypdfium2.PdfiumError as exc:
            raise ValueError(str(exc)) from exc


def in_order(pieces: Sequence[Piece]) -> str:
    """The text as a person reads it: blocks from top to bottom, in them columns from left to right.

    A recursive XY cut (Nagy, Seth: Hierarchical representation of optically scanned documents, 1984).
    """
    if not pieces:
        return ""
    gap = GAP * median(one.bottom - one.top for one in pieces)
    return "\n\n".join(_cut(list(pieces), gap))


def _cut(pieces: list[Piece], gap: float) -> list[str]:
    columns = _parted(pieces, lambda one: (one.left, one.right), gap)
    # two words beside each other are no columns: these have several lines
    if len(columns) > 1 and all(len(_lines(column)) > 1 for column in columns):
        return [text for column in columns for text in _cut(column, gap)]
    blocks = _parted(pieces, lambda one: (one.top, one.bottom), gap)
    if len(blocks) > 1:
        return [text for block in blocks for text in _cut(block, gap)]
    return ["\n".join(" ".join(one.text for one in line) for line in _lines(pieces))]


def _parted(pieces: list[Piece], extent: Callable[[Piece], tuple[float, float]], gap: float) -> list[list[Piece]]:
    """The pieces in groups between which is an empty stripe as wide as the gap."""
    groups: list[list[Piece]] = []
    end = 0.0
    for one in sorted(pieces, key=extent):
        start, stop = extent(one)
        if not groups or start - end > gap:
            groups.append([])
            end = stop
        groups[-1].append(one)
        end = max(end, stop)
    return groups


def _lines(pieces: list[Piece]) -> list[list[Piece]]:
    """Pieces whose middles are at one height, from left to right."""
    lines: list[list[Piece]] = []
    for one in sorted(pieces, key=lambda one: one.top + one.bottom):
        if not lines or (one.top + one.bottom) / 2 > lines[-1][0].bottom:
            lines.append([])
        lines[-1].append(one)
    return [sorted(line, key=lambda one: one.left) for line in lines]
